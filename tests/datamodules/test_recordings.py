from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.recordings import Recordings
from emonet.audio import decode
from emonet.clips import Clip
from emonet.windows import Window

pytestmark = pytest.mark.numeric

WINDOW = Window(1.0)


@pytest.fixture
def clips(tmp_path: Path, make_wav: Callable[..., Path]) -> list[Clip]:
    """A long clip, a short one, part of one, an empty file, one that is missing."""
    (tmp_path / "empty.wav").write_bytes(b"")
    return [
        Clip("long", make_wav("long.wav", seconds=2.0), "a", "train", seconds=2.0),
        Clip("short", make_wav("short.wav", seconds=0.4), "a", "train", seconds=0.4),
        Clip("part", make_wav("long.wav", seconds=2.0), "a", "train", start=0.5, end=0.9, seconds=0.4),
        Clip("empty", tmp_path / "empty.wav", "a", "train"),
        Clip("missing", tmp_path / "missing.wav", "a", "train"),
    ]


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_audio_is_the_decoders_and_bad_clips_are_listed(clips: list[Clip], memory_gib: float) -> None:
    seen: list[tuple[int, int]] = []
    recordings = Recordings(
        clips, WINDOW, memory_gib=memory_gib, progress=lambda done, total: seen.append((done, total))
    )
    assert recordings.in_memory == (memory_gib > 0)
    long, short, part, empty, missing = recordings.read(clips)
    assert long is not None
    assert short is not None
    assert part is not None
    assert [len(audio) for audio in (long, short, part)] == [16_000, 6_400, 6_400]
    np.testing.assert_allclose(long, decode(clips[0].audio, seconds=1.0).samples, atol=2e-5)
    assert long.dtype == np.float32
    assert (empty, missing) == (None, None)
    assert {one.id: one.reason for one in recordings.unreadable} == {"empty": "0 bytes", "missing": "no such file"}
    assert [clip.id for clip in recordings.readable(clips)] == ["long", "short", "part"]
    assert seen == ([(done, 5) for done in range(6)] if memory_gib else [])


def test_quiet_audio_keeps_its_precision(make_wav: Callable[..., Path]) -> None:
    clip = Clip("quiet", make_wav("q.wav"), "a", "train", seconds=1.0)
    recordings = Recordings([clip], WINDOW)
    packed = recordings._kept["quiet"]
    quiet = type(packed).of(decode(clip.audio).samples * np.float32(1e-4))
    error = quiet.unpack() - decode(clip.audio).samples * np.float32(1e-4)
    assert np.abs(error).max() < 1e-4 / 32767


def test_a_corpus_too_large_for_memory_is_decoded_again(clips: list[Clip]) -> None:
    assert not Recordings(clips, WINDOW, memory_gib=1e-5).in_memory  # 11 kB: less than one clip
