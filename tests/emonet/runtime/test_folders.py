from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emonet.runtime import count_suffixes, expanded, walk


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in walk(folder).files]


def test_hidden_and_system_files_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "b.wav", "a/b.wav", "a/._b.wav", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini")
    make(tmp_path, ".trash/a.wav", "__MACOSX/a/b.wav", "$RECYCLE.BIN/a.wav", "@eaDir/a.wav")
    assert found(tmp_path) == ["a/b.wav", "b.wav"]
    make(tmp_path, ".hidden/in/a.wav")
    assert [file.name for file in walk(tmp_path / ".hidden").files] == ["a.wav"]  # it was named


def test_a_home_that_there_is_not_stays_as_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_links_are_followed_each_real_folder_once(tmp_path: Path) -> None:
    make(tmp_path, "real/x/a.wav", "elsewhere/deep/b.wav", "corpus/z/c.wav")
    corpus = tmp_path / "corpus"
    (corpus / "a").symlink_to(tmp_path / "real")
    (corpus / "b").symlink_to(tmp_path / "real/x")  # reached by `a` already
    (corpus / "again").symlink_to(corpus / "z")  # a real folder wins over a link to it
    (corpus / "loop").symlink_to(corpus)
    (corpus / "z/up").symlink_to("..")
    (corpus / "file.wav").symlink_to(tmp_path / "elsewhere/deep/b.wav")
    (corpus / "gone.wav").symlink_to(tmp_path / "gone.wav")
    assert found(corpus) == ["a/x/a.wav", "file.wav", "gone.wav", "z/c.wav"]
    (tmp_path / "link").symlink_to(corpus)
    assert len(walk(tmp_path / "link").files) == 4


def test_folders_that_cannot_be_listed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "open/a.wav", "closed/b.wav")
    scandir = os.scandir

    def refusing(path: Any) -> Iterator[os.DirEntry[str]]:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # tests may run as root, who is refused nothing
    walked = walk(tmp_path)
    assert [file.name for file in walked.files] == ["a.wav"]
    assert walked.closed == ((tmp_path / "closed", "the folder cannot be listed: Permission denied"),)


def test_other_suffixes_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.WAV", "b.txt", "c.TXT", "d", "e.csv", "f.tar.gz")
    walked = walk(tmp_path)
    assert [file.name for file in walked.ending_in({".wav"})] == ["a.WAV"]
    assert walked.passed_over({".wav"}) == {".txt": 2, ".csv": 1, ".gz": 1, "no suffix": 1}
    assert count_suffixes([]) == {}
