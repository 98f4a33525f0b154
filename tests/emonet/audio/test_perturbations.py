"""Perturbations: what they do to signals whose properties are known."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import chirp, resample_poly

from emonet.audio import (
    PERTURBATIONS,
    Perturbation,
    as_wav,
    decode,
    estimated_snr,
    open_perturbations,
    perturb,
    speech_level,
)
from emonet.audio.perturbations.codecs import CODECS, encoded
from emonet.audio.perturbations.noises import babble, impulse_response
from emonet.audio.speech_levels import active
from emonet.errors import RequestError

RATE = 16_000
NOISES = ("white_noise", "pink_noise", "babble")


def speechlike(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Noise of speech's band in bursts of 0.3 s every 0.5 s, with pauses at -60 dB."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    loud = np.arange(samples) % 8000 < 4800
    return (0.1 * np.where(loud, 1, 1e-3) * rng.standard_normal(samples)).astype(np.float32)


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def done(samples: np.ndarray, text: str, seed: int = 0) -> np.ndarray:
    (one,) = open_perturbations([text])
    return perturb(samples, one, seed=seed)


def peak(samples: np.ndarray) -> float:
    """The strongest frequency in Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()) * RATE / len(samples)


def power(samples: np.ndarray, low: float, high: float) -> float:
    """Share of the power between two frequencies (Hz)."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(spectrum[(hertz >= low) & (hertz < high)].sum() / spectrum.sum())


def test_pauses_are_not_speech() -> None:
    samples = speechlike()
    loud = np.arange(len(samples)) % 8000 < 4800
    assert np.array_equal(active(samples), loud)
    assert speech_level(samples) == pytest.approx(-20, abs=0.2)
    assert active(np.zeros(1000, np.float32)).all()


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("level", [20, 0, -5])
def test_noise_has_the_ratio_over_the_speech_not_over_its_pauses(name: str, level: float) -> None:
    samples = speechlike()
    noise, speech = done(samples, f"{name}:{level}").astype(float) - samples, active(samples)
    found = 10 * np.log10(np.square(samples[speech]).mean() / np.square(noise[speech]).mean())
    assert found == pytest.approx(level, abs=0.01)
    # twice as much silence around the speech does not make it any louder
    padded = np.pad(samples, 2 * len(samples))
    noise = done(padded, f"{name}:{level}").astype(float) - padded
    speech = active(padded)
    assert 10 * np.log10(np.square(padded[speech]).mean() / np.square(noise[speech]).mean()) == pytest.approx(
        level, abs=0.01
    )


@pytest.mark.parametrize("level", [0, 10, 20, 30])
def test_the_ratio_can_be_estimated(level: float) -> None:
    assert estimated_snr(done(speechlike(), f"white_noise:{level}")) == pytest.approx(level, abs=1.5)


def test_a_recording_that_is_noise_only_has_a_low_ratio() -> None:
    assert estimated_snr(np.random.default_rng(0).standard_normal(RATE).astype(np.float32)) < -5
    assert estimated_snr(np.zeros(RATE, np.float32)) == -20


@pytest.mark.parametrize(("name", "ratio"), [("white_noise", 2.0), ("pink_noise", 1.0)])
def test_noises_have_their_colour(name: str, ratio: float) -> None:
    samples = speechlike(20)
    noise = done(samples, f"{name}:-30") - samples
    octaves = [power(noise, low, 2 * low) for low in (250, 500, 1000, 2000)]
    assert np.array(octaves[1:]) / octaves[:-1] == pytest.approx(ratio, rel=0.15)


def test_babble_is_of_speechs_band_and_rhythm() -> None:
    noise = babble(30 * RATE, np.random.default_rng(0))
    assert power(noise, 80, 4000) > 0.85
    assert power(noise, 0, 60) < 0.02
    envelope = resample_poly(np.abs(noise), 1, 160)  # 100 Hz
    slow = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    hertz = np.fft.rfftfreq(len(envelope), 0.01)
    assert slow[(hertz > 1) & (hertz < 10)].sum() > 0.5 * slow.sum()  # syllables


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.2])
def test_a_room_decays_as_long_as_it_says(rt60: float) -> None:
    response = impulse_response(rt60, np.random.default_rng(0))
    left = 10 * np.log10(np.cumsum(np.square(response)[::-1])[::-1] / np.square(response).sum())  # Schroeder 1965
    fitted = np.flatnonzero((left < -5) & (left > -35))  # T30
    slope = np.polyfit(fitted / RATE, left[fitted], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.05)


def test_reverberation_fills_the_pauses_and_keeps_the_level() -> None:
    samples = np.pad(speechlike(), (0, RATE))
    wet = done(samples, "reverberation:0.6")
    assert len(wet) == len(samples)
    assert speech_level(wet) == pytest.approx(speech_level(samples), abs=0.1)
    behind = np.square(wet[-RATE:])
    fall = 10 * np.log10(behind[:800].mean() / behind[4800:5600].mean())  # 0.3 s later: half of 60 dB
    assert fall == pytest.approx(30, abs=3)


@pytest.mark.parametrize("cutoff", [4000, 2000, 1000])
def test_low_pass_leaves_nothing_above(cutoff: float) -> None:
    samples = done(speechlike(), f"low_pass:{cutoff}")
    assert power(samples, 1.2 * cutoff, RATE) < 0.01
    assert power(samples, 0, 0.8 * cutoff) == pytest.approx(0.8, abs=0.08)


def test_a_telephone_has_its_band() -> None:
    samples = done(speechlike(), "telephone")
    assert power(samples, 300, 3400) > 0.97
    assert power(samples, 0, 200) < 0.005
    assert power(samples, 4000, RATE) < 1e-4


@pytest.mark.parametrize("text", ["mp3:64", "mp3:16", "mp3:8", "opus:24", "opus:6", "gsm"])
def test_codecs_keep_length_and_time(text: str) -> None:
    samples = (0.3 * chirp(np.arange(3 * RATE) / RATE, 200, 3, 2000) * np.hanning(3 * RATE)).astype(np.float32)
    samples = np.pad(samples, (0, 4321))
    heard = done(samples, text)
    assert heard.shape == samples.shape
    assert not np.array_equal(heard, samples)
    lag = np.correlate(np.pad(heard, 400), samples, "valid").argmax() - 400
    assert abs(lag) <= 2
    assert np.corrcoef(heard, samples)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "level"), [("mp3", 64.0), ("mp3", 16.0), ("opus", 24.0), ("opus", 12.0), ("gsm", 13.0)]
)
def test_codecs_have_the_bit_rate(name: str, level: float) -> None:
    codec = CODECS[name]
    samples = np.clip(speechlike(8), -1, 1)[: 8 * codec.rate]
    assert 8 * len(encoded(samples, codec, level)) / 8 / 1000 == pytest.approx(level, rel=0.15)


def test_lower_bit_rates_lose_more() -> None:
    samples = speechlike()
    for name in ("mp3", "opus"):
        lost = [np.square(done(samples, f"{name}:{level}") - samples).mean() for level in (96, 24, 8)]
        assert lost[0] < lost[1] < lost[2]


def test_gain_is_exact_and_does_not_clip() -> None:
    samples = speechlike()
    for level in (-20, 10):
        louder = done(samples, f"gain:{level}")
        assert 20 * np.log10(np.abs(louder).max() / np.abs(samples).max()) == pytest.approx(level, abs=1e-4)
    loud = done(samples, "gain:18")
    assert np.abs(loud).max() > 1
    assert np.allclose(decode(as_wav(loud)).samples, loud)  # a float WAV
    assert np.allclose(decode(as_wav(samples)).samples, samples, atol=2**-15)
    assert sf.info(sf_bytes(as_wav(samples))).subtype == "PCM_16"


def sf_bytes(content: bytes):
    from io import BytesIO

    return BytesIO(content)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_as_many_samples_are_clipped_as_asked(share: float) -> None:
    clipped = done(speechlike(), f"clipping:{share}")
    most = np.abs(clipped).max()
    assert (np.abs(clipped) >= most).mean() == pytest.approx(share, abs=1e-3)


def test_speed_changes_length_and_pitch() -> None:
    for factor in (0.8, 1.25):
        faster = done(tone(400), f"speed:{factor}")
        assert len(faster) == pytest.approx(2 * RATE / factor, abs=2)
        assert peak(faster) == pytest.approx(400 * factor, rel=0.01)


def test_tempo_changes_length_alone() -> None:
    for factor in (0.8, 1.25):
        faster = done(tone(400), f"tempo:{factor}")
        assert len(faster) == pytest.approx(2 * RATE / factor, abs=2)
        assert peak(faster) == pytest.approx(400, rel=0.01)


def test_pitch_changes_pitch_alone() -> None:
    for semitones in (-4, 2):
        higher = done(tone(400), f"pitch:{semitones}")
        assert len(higher) == 2 * RATE
        assert peak(higher) == pytest.approx(400 * 2 ** (semitones / 12), rel=0.01)


def test_silence_lies_on_both_sides() -> None:
    samples = tone(400)
    padded = done(samples, "silence:0.5")
    assert np.array_equal(padded[RATE // 2 : -RATE // 2], samples)
    assert not padded[: RATE // 2].any()
    assert not padded[-RATE // 2 :].any()


def test_every_kind_at_every_usual_level_gives_sound_and_leaves_its_input_alone() -> None:
    samples = speechlike(1.0)
    before = samples.copy()
    for one in open_perturbations():
        changed = perturb(samples, one, seed=3)
        assert changed.dtype == np.float32, one
        assert np.isfinite(changed).all(), one
        assert decode(as_wav(changed)).seconds > 0.5
        assert np.array_equal(changed, perturb(samples, one, seed=3)), one
        assert not (changed.shape == samples.shape and np.array_equal(changed, samples)), one
    assert np.array_equal(samples, before)
    assert {one.name for one in open_perturbations()} == set(PERTURBATIONS)


def test_noise_is_the_same_at_each_level_and_another_for_another_seed() -> None:
    samples = speechlike(1.0)
    mild, harsh = (done(samples, f"babble:{level}") - samples for level in (20, 0))
    assert np.allclose(10 * mild, harsh, atol=1e-5)
    other = done(samples, "babble:0", seed=1) - samples
    assert abs(np.corrcoef(other, harsh)[0, 1]) < 0.3


def test_what_is_wanted_is_ordered_from_mild_to_harsh() -> None:
    found = open_perturbations(
        ["gain", "white_noise:0", "white_noise:20", "reverberation:1", "reverberation:0.5", "gain:-10"]
    )
    assert [str(one) for one in found] == [
        *("white_noise:20", "white_noise:0", "reverberation:0.5", "reverberation:1"),
        *("gain:-20", "gain:-10", "gain:10"),
    ]
    assert [one.shown for one in found] == ["20 dB", "0 dB", "0.5 s", "1 s", "-20 dB", "-10 dB", "+10 dB"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("hiss", "no such perturbation"),
        ("hiss:3", "no such perturbation"),
        ("gain:loud", "no number"),
        ("gain:40", r"out of range\n.*-60 to 18 dB"),
        ("speed:0", "out of range"),
        ("mp3:nan", "out of range"),
    ],
)
def test_what_cannot_be_done_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_perturbations([wanted])


def test_a_codec_that_is_missing_is_left_out_and_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundfile.available_formats", lambda: {"WAV": "", "OGG": ""})
    assert "mp3" not in {one.name for one in open_perturbations()}
    with pytest.raises(RequestError, match="the installed libsndfile has no MP3"):
        Perturbation("mp3", 32.0)
