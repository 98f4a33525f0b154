"""The wrong sound is not scored in silence: channels, scale, noise, bands, windows."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emonet.audio import Decoded, decode
from emonet.errors import AudioError

RATE = 16_000


def voice(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Harmonics in syllables, with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20) if 140 * k < rate / 2)
    wave = tone * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)) + np.random.default_rng(0).normal(0, 0.01, len(time))
    return np.asarray(0.3 * wave / np.abs(wave).max(), np.float32)


def heard(samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT", **options: float) -> Decoded:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return decode(buffer.getvalue(), **options)


def texts(sound: Decoded) -> list[str]:
    return [notice.text for notice in sound.notices]


def channels(*rows: np.ndarray) -> np.ndarray:
    return np.stack(rows, axis=1)


W = voice()
OTHER = voice(2.0)[::-1].copy()


@pytest.mark.parametrize("gain", [-1.0, -0.98, -0.8])
def test_channels_that_cancel_are_not_averaged(gain: float) -> None:
    sound = heard(channels(W, np.float32(gain) * W))
    np.testing.assert_array_equal(sound.samples, W)
    assert texts(sound) == ["channels cancel each other; the left one was taken alone"]


def test_the_louder_of_two_channels_that_cancel_is_taken() -> None:
    sound = heard(channels(-0.9 * W, W))
    np.testing.assert_array_equal(sound.samples, W)
    assert texts(sound) == ["channels cancel each other; the right one was taken alone"]


def test_channels_that_cancel_among_many() -> None:
    sound = heard(channels(W, 0 * W, -W, 0 * W))
    np.testing.assert_array_equal(sound.samples, W)
    assert texts(sound) == ["channels cancel each other; channel 1 was taken alone"]


@pytest.mark.parametrize("leak", [0.0, 0.005])
def test_an_empty_channel_does_not_halve_the_other(leak: float) -> None:
    sound = heard(channels(np.float32(leak) * OTHER, W))
    np.testing.assert_array_equal(sound.samples, W)
    assert texts(sound) == ["1 of 2 channels is empty; the right one was taken alone"]


def test_empty_channels_of_a_surround_recording() -> None:
    quiet = 0 * W
    sound = heard(channels(W, OTHER, quiet, quiet, quiet, quiet))
    np.testing.assert_allclose(sound.samples, (W + OTHER) / 2, atol=1e-7)
    assert texts(sound) == ["4 of 6 channels are empty; channels 1, 2 were averaged"]


def test_channels_that_differ_are_averaged_without_a_word() -> None:
    for other in (W, OTHER, 0.1 * W, W + 0.5):  # the last one has an offset, which is no sound
        sound = heard(channels(W, np.float32(1) * other))
        np.testing.assert_allclose(sound.samples, (W + other) / 2, atol=1e-6)
        assert sound.notices == ()


def test_only_the_part_that_is_heard_decides_about_channels() -> None:
    left = np.concatenate([W, W])
    right = np.concatenate([W, -W])
    assert heard(channels(left, right), seconds=2.0).notices[0].kind == "window"
    assert texts(heard(channels(left, right), start=2.0)) == [
        "channels cancel each other; the left one was taken alone"
    ]


def test_channels_that_cancel_for_a_part_of_the_time_are_told() -> None:
    left = np.concatenate([W, W, W])
    sound = heard(channels(left, np.concatenate([W, -W, W])))
    np.testing.assert_array_equal(sound.samples, left)
    assert texts(sound) == ["channels cancel each other; the left one was taken alone"]


def test_silence_as_far_as_is_heard_is_called_that() -> None:
    with pytest.raises(AudioError, match=r"every sample of the 2.* s that are heard is the same"):
        heard(np.concatenate([np.zeros(5 * RATE, np.float32), W]), seconds=2.0)


@pytest.mark.parametrize(("bits", "factor"), [(16, 2**15), (24, 2**23), (32, 2**31)])
def test_whole_number_scales_in_float_files_are_brought_to_full_scale(bits: int, factor: int) -> None:
    sound = heard(W * np.float32(factor))
    np.testing.assert_allclose(sound.samples, W, atol=1e-6)
    assert f"taken as {bits}-bit values, divided by {factor:,}" in texts(sound)[0]


@pytest.mark.parametrize("gain", [1.0, 6.0, 20.0])
def test_a_hot_mix_in_float_stays_as_it_is(gain: float) -> None:
    sound = heard(W * np.float32(gain))
    np.testing.assert_array_equal(sound.samples, W * np.float32(gain))
    assert sound.notices == ()


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (W * np.float32(1e30), "samples up to 3e+29 where full scale is 1: damaged, or of an unknown scale"),
        (W * np.float32(40), "samples up to 12 where full scale is 1"),
        (np.where(np.arange(len(W)) == 7, np.float32(5000), W), "samples up to 5e+03 where most are below 0.2"),
    ],
)
def test_samples_of_no_known_scale_are_refused(samples: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError) as caught:
        heard(samples)
    assert reason in caught.value.what


def noise(colour: float, seconds: float = 5.0) -> np.ndarray:
    """Noise whose spectrum falls with this power of the frequency: 0 white, 0.5 pink, 1 brown."""
    white = np.fft.rfft(np.random.default_rng(0).standard_normal(round(seconds * RATE)))
    wave = np.fft.irfft(white / np.maximum(np.fft.rfftfreq(round(seconds * RATE), 1 / RATE), 20) ** colour)
    return np.asarray(0.1 * wave / np.abs(wave).max(), np.float32)


@pytest.mark.parametrize("colour", [0, 0.5, 1])
def test_noise_without_a_voice_is_told(colour: float) -> None:
    assert texts(heard(noise(colour))) == ["no voiced sound was found: noise, or a whisper"]


def test_a_hum_is_told() -> None:
    time = np.arange(3 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 10))
    told = " ".join(texts(heard(np.asarray(0.05 * hum, np.float32))))
    assert "no voiced sound" in told or "a hum or a tone" in told


@pytest.mark.parametrize("samples", [noise(0) * np.float32(0.002), W * np.float32(0.001)])
def test_next_to_no_sound_is_told(samples: np.ndarray) -> None:
    (told,) = texts(heard(samples))
    assert told.startswith("hardly any sound: the loudest moment is at -")


def test_dither_is_no_voice() -> None:
    samples = np.random.default_rng(0).integers(-1, 2, 5 * RATE).astype(np.int16)
    assert texts(heard(samples, subtype="PCM_16")) == [
        "hardly any sound: the loudest moment is at -92 dB of full scale"
    ]


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_the_band_of_a_telephone_is_told_whatever_the_rate(rate: int) -> None:
    narrow = voice(2.0, 8_000)
    if rate == RATE:
        import soxr

        narrow = soxr.resample(narrow, 8_000, RATE)
    assert texts(heard(narrow, rate, "PCM_16" if rate == 8_000 else "FLOAT"))[0].startswith("nothing above ")


def test_speech_in_noise_is_a_voice() -> None:
    noisy = W + np.random.default_rng(0).normal(0, np.sqrt((W**2).mean() / 2), len(W)).astype(np.float32)
    assert heard(noisy).notices == ()


def test_what_the_window_leaves_out_is_told() -> None:
    long = np.tile(W, 5)
    sound = heard(long, seconds=3.0)
    assert (sound.seconds, sound.total) == (3.0, 10.0)
    assert texts(sound) == ["only the first 3.0 of 10.0 s are heard"]
    assert texts(heard(long, start=4.0, end=9.0, seconds=3.0)) == ["only the first 3.0 of 5.0 s are heard"]
    assert heard(long, start=4.0, end=7.0, seconds=3.0).notices == ()
    assert heard(long, start=8.0, end=10.05, seconds=3.0).notices == ()  # times in tables are rounded


def test_copies_have_the_same_content_whatever_the_format() -> None:
    samples = (W * 32767).astype(np.int16)
    contents = set()
    for form, subtype in (("WAV", "PCM_16"), ("FLAC", None), ("AIFF", "PCM_16"), ("WAV", "PCM_24")):
        buffer = io.BytesIO()
        sf.write(buffer, samples, 44_100, format=form, subtype=subtype)
        contents.add(decode(buffer.getvalue()).content)
    assert len(contents) == 1
    assert decode(buffer.getvalue(), end=0.5).content not in contents


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["ravdess/*/*.flac", "nemo/audio/*.opus"])
def test_real_speech_gets_no_notice(corpora: Path, pattern: str) -> None:
    told = {path.name: texts(sound) for path in sorted(corpora.glob(pattern)) if (sound := decode(path)).notices}
    assert told == {}


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_waves_that_are_cut_off_are_told(tmp_path: Path, rate: int) -> None:
    time = np.arange(2 * rate) / rate
    voice = np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 3 * time)) + 0.3 * np.sin(2 * np.pi * 1100 * time)
    kinds = {}
    for name, gain in (("whole", 0.3), ("loud", 0.9), ("quiet", 0.9)):
        samples = np.clip(gain * voice, -1, 1) * (0.1 if name == "quiet" else 1)
        sf.write(tmp_path / f"{name}.wav", samples, rate, subtype="PCM_16")
        notices = decode(tmp_path / f"{name}.wav").notices
        kinds[name] = [notice.text for notice in notices if notice.kind == "clipped"]
    assert kinds["whole"] == []
    for texts in (kinds["loud"], kinds["quiet"]):
        assert len(texts) == 1
        assert re.fullmatch(r"clipped: the loudest waves are cut off \([0-9.]+ % of the samples\)", texts[0])
