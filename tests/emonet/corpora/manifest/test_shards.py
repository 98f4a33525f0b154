from __future__ import annotations

import os
from pathlib import Path

import pytest

from emonet.corpora.manifest.shards import is_several, shards, split_of
from emonet.errors import RequestError
from emonet.objects import Objects


def test_braces_wildcards_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s/train-00.tar", "s/train-01.tar", "s/train-02.tar", "s/test-00.tar", "s/x.txt", "s/.hidden.tar"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("s/odd{0..1}.tar").touch()
    trains = [f"s/train-{n:02d}.tar" for n in range(3)]
    assert shards("s/train-{00..02}.tar", (".tar",)) == trains
    assert shards("s/{train,test}-{00..00}.tar", (".tar",)) == ["s/train-00.tar", "s/test-00.tar"]
    assert shards("s/train-*.tar", (".tar",)) == trains
    assert shards("s/{train-0[12],test-*}.tar", (".tar",)) == [*trains[1:], "s/test-00.tar"]
    assert shards("s", (".tar",)) == ["s/odd{0..1}.tar", "s/test-00.tar", *trains]
    assert shards("s/odd{0..1}.tar", (".tar",)) == ["s/odd{0..1}.tar"]  # a file of this very name
    assert shards("no.tar", (".tar",)) == ["no.tar"]  # whoever opens it says that it is absent
    with pytest.raises(RequestError, match=r"(?s)2 of 5 files do not exist.*without train-03\.tar, train-04\.tar"):
        shards("s/train-{00..04}.tar", (".tar",))
    with pytest.raises(RequestError, match=r"(?s)no file is there.*\*\.wav"):
        shards("s/*.wav", (".tar",))
    for braces in ("{5..2}", "{0..99999999}"):
        with pytest.raises(RequestError, match="braces name no files, or too many"):
            shards(f"s/{braces}.tar", (".tar",))


def test_hidden_folders_are_passed_over_and_closed_ones_told(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["a.tar", ".cache/b.tar", "__MACOSX/c.tar", "d/.e.tar"]
    for key in keys:
        (tmp_path / "s" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / key).touch()
        Objects.open(bucket).write(f"s/{key}", b"x")
    (tmp_path / "s/again").symlink_to(tmp_path / "s")
    for folder in (f"{tmp_path}/s", f"{bucket}/s/"):
        assert shards(folder, (".tar",)) == [f"{folder.rstrip('/')}/a.tar"]
    assert shards(f"{bucket}/s/.cache/*", (".tar",)) == [f"{bucket}/s/.cache/b.tar"]
    monkeypatch.setattr(os, "scandir", _refused)
    with pytest.raises(RequestError, match=r"(?s)not all folders can be listed.*/s: .*Permission denied"):
        shards(f"{tmp_path}/s", (".tar",))


def _refused(path: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_name_that_is_too_long_is_that_of_no_file() -> None:
    name = f"{'x' * 300}.tar"
    assert not is_several(name)
    assert shards(name, (".tar",)) == [name]
    with pytest.raises(RequestError, match="no file is there"):
        shards(f"{name}*", (".tar",))


def test_objects(bucket: str) -> None:
    for key in ("s/train-0.tar", "s/train-1.tar", "s/deep/train-2.tar", "s/note.txt"):
        Objects.open(bucket).write(key, b"x")
    assert shards(f"{bucket}/s/train-{{0..1}}.tar", (".tar",)) == [f"{bucket}/s/train-{n}.tar" for n in (0, 1)]
    assert shards(f"{bucket}/s/*.tar", (".tar",)) == [f"{bucket}/s/train-{n}.tar" for n in (0, 1)]
    assert shards(f"{bucket}/s/**.tar", (".tar",)) == [
        f"{bucket}/s/{name}.tar" for name in ("deep/train-2", "train-0", "train-1")
    ]
    assert len(shards(f"{bucket}/s/", (".tar",))) == 3
    with pytest.raises(RequestError, match=f"(?s)no file is there.*{bucket}"):
        shards(f"{bucket}/no/*.tar", (".tar",))
    assert not is_several(f"{bucket}/s/a.tar")
    signed = "https://host/a.csv?download=1&signature=[x]*"
    assert shards(signed, [".csv"]) == [signed]
    assert shards("https://host/{a,b}.tar?v=1", [".tar"]) == ["https://host/a.tar?v=1", "https://host/b.tar?v=1"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00005.parquet", "train"),
        ("s3://b/validation-000001.tar", "validation"),
        ("valid_3.tar", "validation"),
        ("corpus.dev.tar", "validation"),
        ("Test-1.tar", "test"),
        ("my-eval.tar", "test"),
        ("test/000001.tar", "test"),
        ("training/000001.tar", "train"),
        ("latest-000001.tar", None),
        ("trains-1.tar", None),
        ("000001.tar", None),
        ("https://host/train-0.csv?from=/test-1.csv", "train"),
        ("https://host/a.csv#/test-1.csv", None),
        ("s3://b/a?/train-0.csv", "train"),
    ],
)
def test_names_tell_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split
