from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emonet.errors import RequestError
from emonet.tracking import Lineage, Overlap, lineage
from emonet.tracking.lineage import Code

CLIPS = pd.DataFrame(
    [
        ("a/1", "train", "ann", 1.0),
        ("a/2", "train", "ann", 4.0),
        ("b/1", "validation", "bob", 2.0),
        ("c/1", "test", "cat", 3.0),
    ],
    columns=["id", "split", "speaker", "seconds"],
)


def made(**changes: object) -> Lineage:
    fields = {
        "experiment": "toy",
        "corpus": "manifest:m.csv",
        "corpus_fingerprint": "c" * 64,
        "window_seconds": 3.0,
        "store_fingerprint": "d" * 64,
        "encoder": "openai/whisper-small",
        "encoder_digest": "e" * 64,
        "seed": 3,
        "settings": {"epochs": 2},
    }
    return Lineage.of(CLIPS, **{**fields, **changes})


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    lineage.write(tmp_path, made(), CLIPS.assign(failed=None))
    return tmp_path


def compared(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "speaker", "seconds"])


def test_what_is_written_is_read(voice: Path) -> None:
    found = lineage.read(voice)
    assert found is not None
    assert found.clips == {"train": 2, "validation": 1, "test": 1}
    assert found == made().model_copy(update={"created": found.created})
    assert list(pd.read_parquet(voice / lineage.CLIPS).columns) == ["id", "split", "speaker", "seconds"]


def test_a_model_without_a_lineage_is_of_unknown_origin(tmp_path: Path) -> None:
    assert lineage.read(tmp_path) is None
    assert lineage.trained_on(tmp_path, compared(("a/1", "ann", 1.0))) is None


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        ([("a/1", "ann", 1.02)], Overlap(train=("a/1",), speakers=("ann",))),
        ([("a/1", "ann", float("nan"))], Overlap(train=("a/1",), speakers=("ann",))),
        ([("a/1", "ann", 1.2)], Overlap(speakers=("ann",))),
        ([("a/1", "bea", 1.0)], Overlap()),
        ([("a/2", "ann", 3.0)], Overlap(train=("a/2",), speakers=("ann",))),  # 3 s were heard of its 4 s
        ([("b/1", "bob", 2.0), ("a/1", "ann", 1.0)], Overlap(("a/1",), ("b/1",), ("bob", "ann"))),
        ([("c/1", "cat", 3.0)], Overlap()),
        ([], Overlap()),
    ],
)
def test_clips_are_known_by_id_speaker_and_length(
    voice: Path, clips: list[tuple[str, str, float]], expected: Overlap
) -> None:
    frame = compared(*clips) if clips else CLIPS[["id", "speaker", "seconds"]].iloc[:0]
    assert lineage.trained_on(voice, frame) == expected


def test_what_a_model_was_only_tested_on_is_new_to_it() -> None:
    found = lineage.overlap_with(compared(("a/1", "ann", 1.0), ("c/1", "cat", 3.0)), CLIPS)
    assert found == Overlap(train=("a/1",), speakers=("ann",))


def test_a_shorter_window_hears_less_of_the_same_clip(voice: Path) -> None:
    clips = compared(("a/2", "ann", 2.0))
    found, cut = lineage.trained_on(voice, clips), lineage.trained_on(voice, clips, window_seconds=2.0)
    assert found is not None
    assert cut is not None
    assert (found.clips, cut.clips) == ((), ("a/2",))


def test_tags_are_short_and_say_where_a_version_comes_from() -> None:
    tags = made().tags()
    assert set(tags) >= {"experiment", "corpus", "corpus_fingerprint", "split", "store_fingerprint", "code"}
    assert tags["corpus_fingerprint"] == "c" * 16
    assert max(map(len, tags.values())) < 100


def test_the_digest_of_the_split_follows_ids_and_splits_only() -> None:
    other = CLIPS.assign(seconds=9.0).iloc[::-1]
    same = {"corpus": "x", "seed": 9}
    fields = made().model_dump(include={"experiment", "corpus_fingerprint", "window_seconds", "encoder"})
    digests = {"store_fingerprint": "d" * 64, "encoder_digest": "e" * 64, "settings": {}}
    assert Lineage.of(other, **fields, **same, **digests).split == made().split
    moved = CLIPS.assign(split="train")
    assert Lineage.of(moved, **fields, **same, **digests).split != made().split


def test_code_is_told_with_and_without_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Code.here()
    assert len(here.digest) == 64
    assert here.revision is None or len(here.revision) == 40
    monkeypatch.setenv("PATH", "")
    alone = Code.here()
    assert (alone.revision, alone.changed, alone.digest) == (None, None, here.digest)
    assert "no checkout" in made().tags()["code"]


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Somebody's repository with a commit, in which the package is installed below `.venv`."""
    folder = tmp_path / "others"
    shutil.copytree(
        Path(lineage.__file__).parents[1], folder / ".venv" / "emonet", ignore=shutil.ignore_patterns("__pyc*")
    )
    (folder / "theirs.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", "theirs.py")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> str:
    told = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *told, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def revision(folder: Path, **environment: str) -> tuple[str | None, bool | None]:
    code = "import json; from emonet.tracking.lineage import Code; here = Code.here(); print(json.dumps([here.revision, here.changed]))"
    place = {"PYTHONPATH": str(folder / ".venv"), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder / ".venv", env={**os.environ, **place}, check=True, capture_output=True
    )
    found: list[Any] = json.loads(done.stdout)
    return found[0], found[1]


def test_the_commit_of_a_repository_that_the_package_only_lies_in_is_not_ours(others: Path) -> None:
    assert revision(others) == (None, None)
    git(others, "add", "-f", ".venv")
    ours = commit(others)
    assert revision(others) == (ours, False)
    another = others.parent / "another"
    another.mkdir()
    (another / "lineage.py").write_text("")
    git(another, "init", "-q")
    git(another, "add", ".")
    commit(another)
    in_a_hook = {"GIT_DIR": str(another / ".git"), "GIT_WORK_TREE": str(another)}
    assert revision(others, **in_a_hook) == (ours, False)


def test_a_damaged_lineage_is_no_clean_one(voice: Path) -> None:
    (voice / lineage.CLIPS).write_text("x")
    with pytest.raises(RequestError, match=r"(?s)list of clips that a model was trained on cannot be read.*parquet"):
        lineage.trained_on(voice, compared(("a/1", "ann", 1.0)))
    (voice / lineage.FILE).write_text("{}")
    with pytest.raises(RequestError, match=r"(?s)lineage cannot be read.*lineage\.json"):
        lineage.trained_on(voice, compared(("a/1", "ann", 1.0)))


def test_clips_are_known_by_their_sound_whatever_they_are_called(tmp_path: Path) -> None:
    named = CLIPS.assign(sound_digest=[f"{row:032x}" for row in range(len(CLIPS))])
    lineage.write(tmp_path, made(), named)
    asked: list[float] = []

    def sounds(window: float) -> list[str | None]:
        asked.append(window)
        return [*named["sound_digest"], None]

    clips = compared(*((f"new/{row}", "nobody", 9.0) for row in range(len(CLIPS) + 1)))
    overlap = lineage.trained_on(tmp_path, clips, sounds=sounds)
    assert overlap is not None
    assert asked == [made().window_seconds]
    chosen = {
        split: [f"new/{row}" for row in np.flatnonzero(CLIPS["split"] == split)] for split in ("train", "validation")
    }
    assert overlap == Overlap(tuple(chosen["train"]), tuple(chosen["validation"]), ())


def test_a_model_without_digests_of_sound_asks_for_none(voice: Path) -> None:
    def refuse(window: float) -> list[str | None]:
        raise AssertionError("nothing to compare with")

    assert lineage.trained_on(voice, compared(("x", "y", 1.0)), sounds=refuse) == Overlap((), (), ())
