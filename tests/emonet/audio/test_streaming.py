"""Recordings of any length as blocks: the same sound as in one piece, in bounded memory, in a process of its own."""

from __future__ import annotations

import io
import os
import signal
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emonet.audio import Block, decode, stream_blocks
from emonet.audio.streams import blocks as parent_side
from emonet.errors import AudioError, RequestError
from emonet.runtime import Child
from tests.media_files import media_file

pytestmark = pytest.mark.numeric

RATE = 44_100
WHOLE = 1e6  # seconds


def voice(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time_ = np.arange(round(seconds * rate)) / rate
    rows = [0.3 * np.sin(2 * np.pi * 200 * (k + 1) * time_ * (1 + 0.05 * time_)) for k in range(channels)]
    return np.stack(rows, axis=1).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def joined(blocks: list[Block]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


RECORDINGS = {
    "wav": lambda: encoded(voice(5.3, channels=2)),
    "16 kHz": lambda: encoded(voice(5.3, 16_000), 16_000),
    "flac": lambda: encoded(voice(5.3), form="FLAC"),
    "mp3": lambda: encoded(voice(5.3), form="MP3"),
    "m4a": lambda: media_file(voice(5.3), RATE, "ipod", "aac"),
    "webm": lambda: media_file(voice(5.3, 48_000, 2), 48_000, "webm", "libopus", live=True, options={"live": "1"}),
    "16 bits in floats": lambda: encoded(voice(5.3) * 32_000, subtype="FLOAT"),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_blocks_are_one_resampling_of_the_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(RECORDINGS[name]())
    whole = decode(path, seconds=WHOLE)
    blocks = list(stream_blocks(path, seconds=1.25))
    np.testing.assert_array_equal(joined(blocks), whole.samples)
    assert [len(block.samples) for block in blocks[:-1]] == [20_000] * (len(blocks) - 1)
    assert [block.start for block in blocks] == [1.25 * row for row in range(len(blocks))]
    heard_of = [notice for block in blocks for notice in block.notices]
    assert heard_of == [notice for notice in whole.notices if notice.kind in {"scale", "length", "tracks"}]
    if name in {"16 kHz", "16 bits in floats"}:
        return
    later = list(stream_blocks(path, seconds=30.0, start=2.1))
    np.testing.assert_array_equal(joined(later), decode(path, start=2.1, seconds=WHOLE).samples)
    assert (len(later), later[0].start) == (1, 2.1)


def test_one_channel_alone_and_channels_that_cancel_for_a_while() -> None:
    left = voice(4.0, 16_000)
    right = np.concatenate([-left[:32_000], 0.5 * left[32_000:]])
    content = encoded(np.concatenate([left, right], axis=1), 16_000, subtype="FLOAT")
    for channel, wanted in enumerate((left, right)):
        blocks = list(stream_blocks(content, seconds=1.0, channel=channel))
        np.testing.assert_array_equal(joined(blocks), wanted[:, 0])
        assert all(not block.notices for block in blocks)
    mixed = list(stream_blocks(content, seconds=1.0))
    wanted = np.concatenate([left[:32_000], (left[32_000:] + right[32_000:]) / 2])[:, 0]
    np.testing.assert_allclose(joined(mixed), wanted, atol=1e-6)
    assert [[notice.kind for notice in block.notices] for block in mixed] == [["channels"], [], [], []]
    with pytest.raises(AudioError, match=r"(?s)there is no channel 2.*0 to 1"):
        list(stream_blocks(content, channel=2))


def test_a_damaged_channel_that_is_not_heard_costs_nothing() -> None:
    sound = voice(1.0, 16_000, channels=2)
    sound[8_000, 1] = np.nan
    content = encoded(sound, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(joined(list(stream_blocks(content, channel=0))), decode(content, channel=0).samples)
    for channel in (1, None):
        with pytest.raises(AudioError, match="contains NaN or infinite samples"):
            list(stream_blocks(content, channel=channel))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "0 bytes"),
        (lambda: b"no audio" * 100, "format not recognised"),
        (lambda: encoded(voice(0.05)), "only 50 ms of audio"),
        (lambda: encoded(voice(3.0))[:100_000], "truncated: 38%"),
        (lambda: media_file(voice(3.0), RATE, "ipod", "aac")[:9_000], r"truncated: the index \(moov\)"),
        (lambda: encoded(np.where(np.arange(48_000) == 40_000, np.nan, 0.1), 16_000, subtype="FLOAT"), "NaN"),
        (lambda: encoded(np.where(np.arange(48_000) == 40_000, 9e9, 0.1), 16_000, subtype="FLOAT"), "unknown scale"),
    ],
)
def test_what_cannot_be_used_is_refused(content: object, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        list(stream_blocks(content(), seconds=1.0))  # type: ignore[operator]


@pytest.mark.parametrize("form", ["WAV", "MP3", "m4a"])
def test_a_start_beyond_the_end(form: str) -> None:
    content = media_file(voice(2.0), RATE, "ipod", "aac") if form == "m4a" else encoded(voice(2.0), form=form)
    for listen in (lambda: list(stream_blocks(content, start=5.0)), lambda: decode(content, start=5.0)):
        with pytest.raises(AudioError, match=r"(?s)starts after the end.*before 2\.0\d s.*5\.00 s"):
            listen()


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"start": -1.0}])
def test_blocks_that_cannot_be_cut(options: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="such blocks cannot be cut"):
        stream_blocks(b"", **options)


def test_a_missing_file_and_one_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="no such file"):
        next(iter(stream_blocks(Path("a.wav"))))
    Path("a.wav").write_bytes(encoded(voice(1.0)))
    assert len(joined(list(stream_blocks(Path("a.wav"))))) == 16_000


class Watched:
    """Keeps the children that a stream starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: list[Child] = []
        monkeypatch.setattr(parent_side, "Child", self.start)

    def start(self, *arguments: str, **options: object) -> Child:
        self.children.append(Child(*arguments, **options))  # type: ignore[arg-type]
        return self.children[-1]

    @property
    def process(self) -> int:
        return self.children[-1].id


def long_wav(path: Path, hours: float) -> Path:
    """A recording of one tone, written without holding it."""
    second = (0.3 * 32_767 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        for _ in range(round(60 * hours)):
            file.writeframesraw(second * 60)
    return path


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_or_hangs_costs_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, watched = long_wav(tmp_path / "a.wav", hours=0.2), Watched(monkeypatch)
    blocks = stream_blocks(path)
    next(blocks)
    os.kill(watched.process, signal.SIGKILL)
    with pytest.raises(AudioError, match=r"(?s)the decoder crashed \(signal 9, SIGKILL\).*a\.wav"):
        list(blocks)
    blocks = stream_blocks(path, timeout=1.0)
    next(blocks)
    os.kill(watched.process, signal.SIGSTOP)
    with pytest.raises(AudioError, match=r"(?s)decoding took longer than 1 s.*a\.wav"):
        list(blocks)
    assert not is_running(watched.process)


def test_closing_early_ends_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, watched = long_wav(tmp_path / "a.wav", hours=0.2), Watched(monkeypatch)
    blocks = stream_blocks(path)
    next(blocks)
    assert is_running(watched.process)
    blocks.close()
    assert not is_running(watched.process)


def resident(process: int) -> float:
    """MiB of memory of its own, without files that are mapped."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def test_a_worker_waits_for_who_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, watched = long_wav(tmp_path / "a.wav", hours=1), Watched(monkeypatch)
    blocks = stream_blocks(path)
    next(blocks)
    time.sleep(0.5)
    busy = Path(f"/proc/{watched.process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    time.sleep(0.5)
    assert Path(f"/proc/{watched.process}/stat").read_text().rsplit(")", 1)[1].split()[11:13] == busy
    assert resident(watched.process) < 150
    blocks.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav", "aac"])
def test_memory_is_flat_for_a_day(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, watched = tmp_path / "a", Watched(monkeypatch)
    hours = 24 if kind == "wav" else 4
    if kind == "wav":
        long_wav(path, hours)
    else:
        minute = media_file(voice(60, 16_000), 16_000, "adts", "aac")
        path.write_bytes(minute * round(60 * hours))
    seen, count = [], 0
    for row, block in enumerate(stream_blocks(path)):
        count += len(block.samples)
        if row % 100 == 10:
            seen.append(resident(watched.process))
    assert count / 16_000 == pytest.approx(3600 * hours, rel=0.005)
    assert max(seen) < 150  # MiB
    assert max(seen[1:]) - seen[0] < 20
