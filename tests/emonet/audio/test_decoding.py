from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emonet.audio import AudioInfo, Decoded, Decoders, Excerpt, decode, probe
from emonet.errors import AudioError
from emonet.windows import SAMPLE_RATE

pytestmark = pytest.mark.numeric

ODD = Path(__file__).parents[4] / "shared" / "corpora" / "odd-audio"
ODD_FILES = sorted(path for path in ODD.rglob("*") if path.is_file())


def voice(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    rows = [0.3 * np.sin(2 * np.pi * 200 * (k + 1) * time * (1 + 0.05 * time)) for k in range(channels)]
    return np.stack(rows, axis=1).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = SAMPLE_RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def heard(audio: Path | bytes) -> np.ndarray | str:
    """The samples, or the reason why there are none."""
    try:
        return decode(audio).samples
    except AudioError as error:
        return error.what


@pytest.mark.skipif(not ODD_FILES, reason=f"no odd recordings at {ODD}")
@pytest.mark.parametrize("path", ODD_FILES, ids=lambda path: path.name)
def test_every_odd_recording_decodes_or_says_why_not(path: Path) -> None:
    samples = heard(path)
    if isinstance(samples, str):
        assert "\n" not in samples
        assert len(samples) > 5
        assert heard(path.read_bytes()) == samples
        return
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 0.1 * SAMPLE_RATE <= len(samples) <= 30 * SAMPLE_RATE
    assert np.isfinite(samples).all()
    np.testing.assert_array_equal(samples, decode(path.read_bytes()).samples)
    assert probe(path).seconds == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.1)


def test_channels_are_averaged_and_the_rate_is_16_khz() -> None:
    stereo = voice(1.0, rate=44_100, channels=2)
    samples = decode(encoded(stereo, 44_100)).samples
    assert len(samples) == SAMPLE_RATE
    np.testing.assert_allclose(samples, decode(encoded(stereo.mean(axis=1), 44_100)).samples, atol=1e-4)


def test_16_khz_mono_comes_back_unchanged() -> None:
    samples = voice(0.5)
    np.testing.assert_array_equal(decode(encoded(samples, subtype="FLOAT")).samples, samples[:, 0])


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_start_and_end_cut_what_the_whole_file_has_there(form: str, rate: int) -> None:
    content = encoded(voice(4.0, rate), rate, form)
    whole, part = decode(content).samples, decode(content, start=1.0, end=2.5).samples
    assert len(part) == 1.5 * SAMPLE_RATE
    inside = slice(800, -800)  # the filter's edges differ by construction
    np.testing.assert_allclose(part[inside], whole[16_000:40_000][inside], atol=0.02)


def test_at_most_seconds_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(voice(3.0, 48_000), 48_000))
    assert len(decode(path, seconds=1.0).samples) == SAMPLE_RATE
    assert len(decode(path, start=0.5, seconds=1.0).samples) == SAMPLE_RATE
    assert len(decode(path, start=2.8, seconds=1.0).samples) == pytest.approx(0.2 * SAMPLE_RATE, abs=2)


def test_probe_reads_the_header() -> None:
    assert probe(encoded(voice(2.0, 8000, 2), 8000)) == AudioInfo(2.0, 8000, 2)


def hour_long_header() -> bytes:
    """A WAV whose header announces 2 GiB (18 hours) as streams do, and that holds one second."""
    content = bytearray(encoded(voice(1.0)))
    content[40:44] = struct.pack("<I", 0x7FFF_FFFF)
    return bytes(content)


def flac_that_claims(frames: int) -> bytes:
    content = bytearray(encoded(voice(1.0), form="FLAC"))
    content[21] = (content[21] & 0xF0) | (frames >> 32)
    content[22:26] = struct.pack(">I", frames & 0xFFFF_FFFF)
    return bytes(content)


def test_a_header_that_claims_hours_does_not_allocate_them() -> None:
    tracemalloc.start()
    try:
        assert len(decode(hour_long_header()).samples) == SAMPLE_RATE
        with pytest.raises(AudioError, match="truncated"):
            decode(flac_that_claims(1 << 35))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # bytes; a window of 30 s alone would be 1.9 MB


def test_a_stream_of_unknown_length_is_read_to_its_end() -> None:
    content = flac_that_claims(0)
    assert probe(content).seconds == 1.0  # as its last frame says
    assert len(decode(content).samples) == SAMPLE_RATE


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((16_000, 1), np.float32), "digital silence"),
        (np.where(np.arange(16_000) == 5, np.nan, 0.1), "NaN or infinite"),
        (np.where(np.arange(16_000) == 5, np.inf, 0.1), "NaN or infinite"),
        (voice(0.05), r"only 50 ms of audio"),
        (np.zeros((0, 1), np.float32), "no samples"),
    ],
)
def test_unusable_samples_are_refused(samples: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        decode(encoded(samples, subtype="FLOAT"))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "MP3"])
def test_a_file_cut_in_half_is_refused(form: str, tmp_path: Path) -> None:
    content = encoded(voice(3.0), form=form)
    path = tmp_path / "half"
    path.write_bytes(content[: len(content) // 2])
    for audio in (path, path.read_bytes()):
        with pytest.raises(AudioError, match="truncated"):
            decode(audio)


def test_probe_sees_a_cut_header_based_format() -> None:
    content = encoded(voice(3.0))
    with pytest.raises(AudioError, match="truncated: 50% of what the header announces is there"):
        probe(content[: len(content) // 2])


def test_missing_empty_and_odd_paths(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "bytes.raw").write_bytes(b"\x01\x02" * 4000)
    cases = {"none.wav": "no such file", "empty.wav": "0 bytes", ".": "not a file", "bytes.raw": "not readable"}
    for name, reason in cases.items():
        with pytest.raises(AudioError, match=reason) as caught:
            probe(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(AudioError, match="0 bytes"):
        decode(b"")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(voice(1.0)))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # a chmod does not stop root, who runs tests in containers
    with pytest.raises(AudioError, match="cannot be opened: Permission denied"):
        decode(path)


@pytest.mark.parametrize("bounds", [(2.0, 1.0), (1.0, 1.0), (-1.0, None)])
def test_start_and_end_must_be_in_order(bounds: tuple[float, float | None]) -> None:
    with pytest.raises(AudioError, match="not in order"):
        decode(encoded(voice(3.0)), start=bounds[0], end=bounds[1])


def test_a_start_beyond_the_end_names_both() -> None:
    with pytest.raises(AudioError, match=r"(?s)after the end.*before 3\.00 s.*5\.00 s"):
        decode(encoded(voice(3.0)), start=5.0)


def test_an_absurd_sample_rate_is_refused() -> None:
    content = bytearray(encoded(voice(1.0)))
    content[24:28] = struct.pack("<I", 3)
    with pytest.raises(AudioError, match=r"(?s)sample rate.*1,000 to 768,000 Hz.*3 Hz"):
        decode(bytes(content))


def test_one_channel_alone(tmp_path: Path) -> None:
    path, times = tmp_path / "stereo.wav", np.arange(16_000) / 16_000
    left, right = (0.3 * np.sin(2 * np.pi * hertz * times) for hertz in (220, 330))
    sf.write(path, np.column_stack([left, right]), 16_000, subtype="FLOAT")
    with Decoders(1) as decoders:
        parts = decoders.decode([Excerpt(path, 0.5, 0.75, channel) for channel in (0, 1)])
        for channel, (wanted, heard) in enumerate(zip((left, right), parts, strict=True)):
            np.testing.assert_allclose(decode(path, channel=channel).samples, wanted, atol=1e-6)
            assert isinstance(heard, Decoded)
            np.testing.assert_allclose(heard.samples, wanted[8000:12_000], atol=1e-6)
    sf.write(path, np.column_stack([left, -left]), 16_000)
    assert [notice.kind for notice in decode(path).notices] == ["channels", "noise"]
    assert [notice.kind for notice in decode(path, channel=1).notices] == ["noise"], "nothing was mixed"
    for channel in (2, -1):
        with pytest.raises(AudioError, match=rf"(?s)there is no channel {channel}.*expected: +0 to 1"):
            decode(path, channel=channel)


def test_a_part_that_ends_behind_the_recording_says_so(make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    assert "the part ends at 1.50 s, but the audio has 1.00 s" in [one.text for one in decode(path, end=1.5).notices]
    assert not [one for one in decode(path, start=0.5, end=1.09).notices if one.kind == "length"]
