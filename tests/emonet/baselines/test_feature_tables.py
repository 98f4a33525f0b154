from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emonet.baselines import feature_tables
from emonet.baselines.feature_tables import FeatureTable
from emonet.baselines.features import FeatureSet
from emonet.clips import AudioRange, Clip
from emonet.errors import AudioError
from emonet.windows import Window

MakeWav = Callable[..., Path]


class Counted:
    """Features of which it is known how many clips they were measured of."""

    def __init__(self) -> None:
        self.clips = 0

    def set(self, version: str = "1", seconds: float = 1.0) -> FeatureSet:
        return FeatureSet("lengths", version, Window(seconds), self._measure)

    def _measure(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        self.clips += len(waves)
        return np.array([[len(wave), np.square(wave).mean()] for wave in waves], np.float32)


@pytest.fixture
def clips(make_wav: MakeWav) -> list[Clip]:
    return [Clip(n, make_wav(f"{n}.wav", seconds=s), n, "train") for n, s in (("a", 0.5), ("b", 0.8), ("c", 0.6))]


@pytest.fixture
def counted() -> Counted:
    return Counted()


def values(found: Sequence[np.ndarray | AudioError]) -> np.ndarray:
    return np.stack([one for one in found if not isinstance(one, AudioError)])


def test_a_second_run_measures_nothing(clips: list[Clip], counted: Counted, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = FeatureTable(counted.set(), tmp_path / "kept")
    first = table.of(clips[:2], progress=lambda *call: seen.append(call))
    assert values(first)[:, 0].tolist() == [8000, 12800]
    assert (seen, counted.clips) == ([(0, 2), (2, 2)], 2)
    assert (tmp_path / "kept" / "lengths-1s.npz").is_file()
    table.of(clips)
    assert counted.clips == 3, "those that are known stay"
    again = FeatureTable(counted.set(), tmp_path / "kept").of(clips[::-1])
    assert counted.clips == 3
    assert values(again)[:, 0].tolist() == [9600, 12800, 8000]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lengths-1s.npz"]


def test_without_a_folder_they_are_kept_in_memory(clips: list[Clip], counted: Counted) -> None:
    table = FeatureTable(counted.set())
    np.testing.assert_array_equal(values(table.of(clips)), values(table.of(clips)))
    assert counted.clips == 3


def test_a_recording_that_changed_is_measured_anew_and_the_others_are_not(
    clips: list[Clip], counted: Counted, make_wav: MakeWav, tmp_path: Path
) -> None:
    before = values(FeatureTable(counted.set(), tmp_path).of(clips))
    old = Path(str(clips[1].audio)).stat()
    audio = make_wav("b.wav", seconds=0.8, hertz=700.0)  # of the same size
    os.utime(audio, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert audio.stat().st_size == old.st_size
    after = values(FeatureTable(counted.set(), tmp_path).of(clips))
    assert counted.clips == 4
    assert np.flatnonzero((before != after).any(1)).tolist() == [1]


def test_a_recording_in_a_tar_that_was_written_anew_is_measured_anew(
    clips: list[Clip], counted: Counted, make_wav: MakeWav, tmp_path: Path
) -> None:
    first = Path(str(clips[0].audio)).read_bytes()
    tar = tmp_path / "a.tar"
    tar.write_bytes(first)
    inside = [replace(clips[0], audio=AudioRange(str(tar), 0, len(first)))]
    before = values(FeatureTable(counted.set(), tmp_path).of(inside))
    FeatureTable(counted.set(), tmp_path).of(inside)
    assert counted.clips == 1
    old = tar.stat()
    tar.write_bytes(make_wav("z.wav", seconds=0.5, hertz=700.0).read_bytes())  # of the same size, at the same place
    os.utime(tar, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert (values(FeatureTable(counted.set(), tmp_path).of(inside)) != before).any()
    assert counted.clips == 2


def test_another_part_of_a_recording_or_another_sound_in_memory_is_another_clip(
    clips: list[Clip], counted: Counted, tmp_path: Path
) -> None:
    table = FeatureTable(counted.set(), tmp_path)
    clip, other, third = clips[0], *(Path(str(one.audio)).read_bytes() for one in clips[1:])
    table.of([clip])
    assert values(table.of([replace(clip, end=0.3)]))[0, 0] == 4800
    assert values(table.of([replace(clip, audio=other)]))[0, 0] == 12800
    assert values(table.of([replace(clip, audio=third)]))[0, 0] == 9600
    assert counted.clips == 4
    assert values(table.of([replace(clip, audio=third, scores={"anger": 3.0}, label="x")]))[0, 0] == 9600
    assert counted.clips == 4, "features do not depend on what people said of a clip"


def test_another_version_is_told_and_measured_anew(clips: list[Clip], counted: Counted, tmp_path: Path) -> None:
    said: list[str] = []
    FeatureTable(counted.set(), tmp_path).of(clips)
    FeatureTable(counted.set("2"), tmp_path, said.append).of(clips)
    assert counted.clips == 6
    assert said == [f"{tmp_path / 'lengths-1s.npz'} is of another version; its features are measured anew"]
    FeatureTable(counted.set("2"), tmp_path).of(clips)
    assert counted.clips == 6


def test_features_of_two_windows_stand_side_by_side(clips: list[Clip], counted: Counted, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):  # in turn, as `heads` and `compare` on one store
        for seconds, samples in ((1.0, 12800), (0.6, 9600)):
            found = values(FeatureTable(counted.set(seconds=seconds), tmp_path, said.append).of(clips))
            assert found[1, 0] == samples
    assert (counted.clips, said) == (6, [])
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["lengths-0.6s.npz", "lengths-1s.npz"]


def test_a_run_that_is_killed_goes_on_with_what_it_has(
    clips: list[Clip], counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_tables, "BATCH", 1)
    monkeypatch.setattr(feature_tables, "PART", 2)

    def die(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureTable(counted.set(), tmp_path / "kept").of(clips, progress=die)
    assert counted.clips == 3
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lengths-1s.npz"]
    found = values(FeatureTable(counted.set(), tmp_path / "kept").of(clips))
    assert counted.clips == 4, "two of three were kept"
    assert found[:, 0].tolist() == [8000, 12800, 9600]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of a value is another one."""
    place = content.index(b"NUMPY", content.index(b"values.npy")) + 130
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [half, flipped, lambda _: b"", lambda _: b"not a table"])
def test_a_damaged_file_is_told_and_measured_anew(
    clips: list[Clip], counted: Counted, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    said: list[str] = []
    first = values(FeatureTable(counted.set(), tmp_path).of(clips))
    path = tmp_path / "lengths-1s.npz"
    path.write_bytes(damage(path.read_bytes()))
    again = values(FeatureTable(counted.set(), tmp_path, said.append).of(clips))
    np.testing.assert_array_equal(again, first)
    assert counted.clips == 6
    assert len(said) == 1
    assert said[0].startswith(f"{path} is damaged (")
    FeatureTable(counted.set(), tmp_path, said.append).of(clips)
    assert (counted.clips, len(said)) == (6, 1)


def test_a_clip_that_cannot_be_decoded_is_refused_and_tried_again(
    clips: list[Clip], counted: Counted, make_wav: MakeWav, tmp_path: Path
) -> None:
    gone = Clip("gone", tmp_path / "gone.wav", "s", "train")
    found = FeatureTable(counted.set(), tmp_path / "kept").of([clips[0], gone])
    assert [isinstance(one, AudioError) for one in found] == [False, True]
    make_wav("gone.wav", seconds=0.7)
    assert values(FeatureTable(counted.set(), tmp_path / "kept").of([clips[0], gone]))[:, 0].tolist() == [8000, 11200]
    assert counted.clips == 2


def test_where_nothing_may_be_written_that_is_told_and_costs_nothing_else(
    clips: list[Clip], counted: Counted, tmp_path: Path
) -> None:
    said: list[str] = []
    (tmp_path / "file").write_bytes(b"")
    table = FeatureTable(counted.set(), tmp_path / "file", said.append)
    table.of(clips[:1])
    found = table.of(clips)
    assert values(found).shape == (3, 2)
    assert len(said) == 1, "once"
    assert "features of baselines are not kept" in said[0]
