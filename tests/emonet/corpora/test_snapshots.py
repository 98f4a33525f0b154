from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emonet.clips import Corpus, Sources
from emonet.corpora import open_corpus, open_kept, snapshots
from emonet.errors import RequestError
from emonet.targets import ATTRIBUTES, CLASSES, EMOTIONS
from tests.emonet.corpora.manifest.manifests import rows, write

MakeWav = Callable[..., Path]


class World:
    """A manifest of four recordings, one of them broken, and what was told of its snapshot."""

    def __init__(self, folder: Path, make_wav: MakeWav, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.told, self.opened = folder, list[str](), 0
        for name in "abc":
            make_wav(f"audio/{name}.wav", hertz=200 + ord(name))
        self.audio("broken").write_bytes(b"no audio")
        table = [{**row, "label": "sad", "arousal": 3, "speaker": str(row["speaker"])} for row in rows()]
        self.table = [*table, {**table[0], "audio": "audio/broken.wav"}]
        self.manifest = write(folder / "m.csv", self.table)
        self.spec = f"manifest:{self.manifest}"

        def opening(*arguments: Any, **options: Any) -> Corpus:
            self.opened += 1
            return open_corpus(*arguments, **options)

        monkeypatch.setattr(snapshots, "open_corpus", opening)

    def audio(self, name: str) -> Path:
        return self.root / f"audio/{name}.wav"

    def open(self, spec: str | None = None, **options: Any) -> Corpus:
        wanted = {"folder": self.root / "kept", "say": self.told.append, "least": 1, **options}
        return open_kept(self.spec if spec is None else spec, **wanted)

    def files(self) -> list[Path]:
        return sorted((self.root / "kept").rglob("*.parquet"))


@pytest.fixture
def world(tmp_path: Path, make_wav: MakeWav, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, make_wav, monkeypatch)


def test_the_second_time_the_snapshot_is_opened(world: World) -> None:
    first, second = world.open(), world.open()
    assert world.opened == 1
    assert world.told == []
    assert len(world.files()) == 1
    assert second.clips == first.clips == open_corpus(world.spec).clips
    assert [clip.seconds for clip in second.clips] == [1, 1, 1]
    assert second.fingerprint == first.fingerprint == open_corpus(world.spec).fingerprint
    for name in ("name", "rejected", "targets", "note", "passed_over", "remarks", "classes", "warnings", "labels"):
        assert getattr(second, name) == getattr(first, name)
    assert [one.id for one in second.rejected] == ["audio/broken.wav"]


def _edit_manifest(world: World) -> None:
    world.manifest.write_text(world.manifest.read_text().replace("1.5", "2.5"))


def _replace_manifest_keeping_times(world: World) -> None:
    stamp = world.manifest.stat()
    other = world.root / "other.csv"
    other.write_text(world.manifest.read_text().replace("1.5", "2.5"))
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(world.manifest)


def _longer_audio(world: World) -> None:
    world.audio("d").write_bytes(world.audio("a").read_bytes())
    world.audio("a").write_bytes(world.audio("b").read_bytes() + bytes(2000))


def _other_audio_of_that_size(world: World) -> None:
    shutil.copyfile(world.audio("b"), world.audio("a"))


def _audio_put_in_place(world: World) -> None:
    stamp = world.audio("a").stat()
    other = world.root / "other.wav"
    shutil.copyfile(world.audio("b"), other)
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(world.audio("a"))


def _mended_recording(world: World) -> None:
    shutil.copyfile(world.audio("b"), world.audio("broken"))


@pytest.mark.parametrize(
    "change",
    [
        _edit_manifest,
        _replace_manifest_keeping_times,
        _longer_audio,
        _other_audio_of_that_size,
        _audio_put_in_place,
        _mended_recording,
    ],
)
def test_a_snapshot_of_changed_files_is_not_opened(world: World, change: Callable[[World], None]) -> None:
    world.open()
    change(world)
    changed = world.open()
    assert world.opened == 2
    fresh = open_corpus(world.spec)
    assert (changed.clips, changed.rejected, changed.fingerprint) == (fresh.clips, fresh.rejected, fresh.fingerprint)
    assert world.open().fingerprint == fresh.fingerprint
    assert world.opened == 2, "the new snapshot took the place of the old one"
    assert len(world.files()) == 1


def test_a_recording_that_is_gone_is_missed(world: World) -> None:
    world.open()
    world.audio("a").unlink()
    with pytest.raises(RequestError, match=r"audio 'audio/a.wav' does not exist"):
        world.open()


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ATTRIBUTES},
        {"targets": EMOTIONS.subset(["anger"])},
        {"classes": {"sad": "sadness"}},
        {"targets": CLASSES},
    ],
)
def test_a_snapshot_of_something_else_is_not_opened(world: World, options: dict[str, Any]) -> None:
    write(world.manifest, [{**row, "split": "train", "label": row["speaker"]} for row in world.table])
    world.open()
    other = world.open(**options)
    assert world.opened == 2
    fresh = open_corpus(world.spec, **options)
    assert (other.fingerprint, other.targets, other.classes) == (fresh.fingerprint, fresh.targets, fresh.classes)
    assert world.open(**options).clips == fresh.clips
    world.open()
    assert world.opened == 2, "both are kept"


def test_another_column_of_classes(world: World) -> None:
    write(world.manifest, [{**row, "label": f"{row['speaker']}!"} for row in world.table])
    assert world.open().labels == ("a!", "b!", "c!")
    world.manifest.write_text(world.manifest.read_text().replace("label", "mood"))
    for _ in range(2):
        assert world.open(f"{world.spec}#mood").labels == ("a!", "b!", "c!")
    with pytest.raises(RequestError, match="neither a field nor a target"):
        world.open()


def test_labels_that_stand_for_other_targets(world: World) -> None:
    sadness = world.open(classes={"sad": "sadness"})
    fear = world.open(classes={"sad": "fear"})
    assert world.opened == 2
    assert world.open(classes={"sad": "sadness"}).classes == sadness.classes == {"sad": "sadness"}
    assert fear.classes == {"sad": "fear"}


@pytest.mark.parametrize("name", ["__version__", "FORMAT"])
def test_another_release_opens_anew(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    world.open()
    monkeypatch.setattr(snapshots, name, 999)
    world.open()
    assert world.opened == 2


def test_relative_paths_mean_those_of_the_working_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    here = world.open("manifest:m.csv")
    other = world.root / "elsewhere"
    shutil.copytree(world.root, other, ignore=lambda *_: ["kept", "elsewhere"])
    write(other / "m.csv", world.table[:3])
    monkeypatch.chdir(other)
    there = world.open("manifest:m.csv")
    assert (len(here.rejected), len(there.rejected)) == (1, 0)
    monkeypatch.chdir(world.root)
    assert world.open("manifest:m.csv").rejected == here.rejected
    assert world.opened == 2


def test_folders_are_known_by_what_lies_in_them(world: World) -> None:
    folder = world.root / "ravdess"
    for actor in ("01", "02"):
        (folder / f"Actor_{actor}").mkdir(parents=True)
        shutil.copyfile(world.audio("a"), folder / f"Actor_{actor}" / f"03-01-05-02-01-01-{actor}.wav")
    spec = f"ravdess:{folder}"
    assert (len(world.open(spec)), len(world.open(spec)), world.opened) == (2, 2, 1)
    added = folder / "Actor_02" / "03-01-06-02-01-01-02.wav"
    shutil.copyfile(world.audio("b"), added)
    assert (len(world.open(spec)), world.opened) == (3, 2)
    added.rename(added.with_stem("03-01-04-02-01-01-02"))
    assert (world.open(spec).labels, world.opened) == (("angry", "sad"), 3)
    (folder / "notes.txt").touch()
    assert (world.open(spec).passed_over, world.opened) == ({".txt": 1}, 4)
    added.with_stem("03-01-04-02-01-01-02").unlink()
    assert (len(world.open(spec)), world.opened) == (2, 5)
    both = f"{spec}+{world.spec}"
    assert (world.open(both).clips, world.opened) == (open_corpus(both).clips, 6)
    world.open(both)
    _mended_recording(world)
    assert world.opened == 6
    assert (len(world.open(both)), world.opened) == (6, 7)


def test_small_corpora_and_the_sandbox_are_opened_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open(least=4)
    world.open(least=4)
    assert (world.opened, world.files()) == (2, [])

    def incomplete(*_: object, sources: Sources, **__: object) -> Corpus:
        sources.set_incomplete()
        return Corpus("c", ())

    monkeypatch.setattr(snapshots, "open_corpus", incomplete)
    world.open("sandbox", least=0)
    assert world.files() == []


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing"])
def test_a_damaged_snapshot_counts_as_none_and_is_told(world: World, damage: bytes) -> None:
    world.open()
    (file,) = world.files()
    file.write_bytes(damage)
    assert len(world.open()) == 3
    assert world.opened == 2
    assert len(world.told) == 1
    assert "cannot be used" in world.told[0]
    assert str(file) in world.told[0]
    world.open()
    assert (world.opened, len(world.told)) == (2, 1), "a whole one took its place"


def test_a_folder_that_cannot_be_written_is_told(world: World) -> None:
    (world.root / "kept").write_text("a file, where a folder should be")
    for _ in range(2):
        assert len(world.open()) == 3
    assert world.opened == 2
    assert "no snapshot of the corpus can be kept in" in world.told[0]


def test_a_snapshot_in_a_folder_that_cannot_be_written_is_opened(world: World) -> None:
    world.open()
    folders = [path for path in (world.root / "kept", *(world.root / "kept").rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        world.open()
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert (world.opened, world.told) == (1, [])


_OPENING = """
import sys
import tarfile
from pathlib import Path
from emonet.corpora import open_kept
for _ in range(3):
    corpus = open_kept(sys.argv[1], folder=Path(sys.argv[2]), least=1)
    Path(sys.argv[3]).touch()  # out of date again
print(corpus.fingerprint)
"""


@pytest.mark.slow
def test_several_processes_open_and_write_at_once(world: World) -> None:
    command = [sys.executable, "-c", _OPENING, world.spec, str(world.root / "kept"), str(world.audio("a"))]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert {out.strip() for out, _ in said} == {open_corpus(world.spec).fingerprint}
    assert len(world.files()) == 1
    assert [path.name for path in (world.root / "kept" / "snapshots").iterdir()] == [world.files()[0].parent.name]


def test_tables_in_several_files_are_known_by_all_of_them(world: World) -> None:
    for number in range(2):
        write(world.root / f"part-{number}.parquet", [{**world.table[number], "split": "train"}])
    spec = f"manifest:{world.root}/part-*.parquet"
    assert (len(world.open(spec)), len(world.open(spec)), world.opened) == (2, 2, 1)
    write(world.root / "part-2.parquet", [world.table[2]])
    assert (len(world.open(spec)), len(world.open(spec)), world.opened) == (3, 3, 2)
    (world.root / "part-0.parquet").unlink()
    assert (len(world.open(spec)), world.opened) == (2, 3)
    write(world.root / "part-1.parquet", [world.table[1], world.table[0]])
    assert (len(world.open(spec)), world.opened) == (3, 4)
    for path in world.root.glob("part-*"):
        path.unlink()
    with pytest.raises(RequestError, match="no file is there"):
        world.open(spec)


def test_audio_inside_of_tables_and_tars_is_found_again(world: World) -> None:
    inside = [{**row, "audio": {"bytes": (world.root / str(row["audio"])).read_bytes(), "path": row["audio"]}}
              for row in world.table[:3]]  # fmt: skip
    table = write(world.root / "inside.parquet", inside)
    with tarfile.open(world.root / "a.tar", "w") as tar:
        for name in "abc":
            tar.add(world.audio(name), f"{name}.wav")
            (world.root / f"{name}.json").write_text(json.dumps({"speaker": name, "split": "train", "anger": 2}))
            tar.add(world.root / f"{name}.json", f"{name}.json")
    for number, spec in enumerate((f"manifest:{table}", f"tars:{world.root / 'a.tar'}")):
        first, second = world.open(spec), world.open(spec)
        assert world.opened == 2 * number + 1
        assert second.clips == first.clips
        assert not any(isinstance(clip.audio, bytes) for clip in second.clips)
        assert second.fingerprint == Corpus(second.name, second.clips).fingerprint
        holder = Path(second.clips[0].audio.location)  # type: ignore[union-attr]
        os.utime(holder, ns=(0, 0))
        world.open(spec)
        assert world.opened == 2 * number + 2
