"""Tars as corpora: what WebDataset writes is read by ranges, and tars that are broken cost their own clips."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emonet.audio import audio_bytes, decode
from emonet.clips import AudioRange, Corpus
from emonet.corpora import open_corpus
from emonet.corpora.manifest import tar_index
from emonet.corpora.manifest.reader import open_tars
from emonet.corpora.manifest.tar_index import index_tar
from emonet.corpora.opening import _with_column
from emonet.errors import RequestError
from emonet.objects import Objects
from tests.buckets import S3

_SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def tone(hertz: float, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(round(hertz)).normal(0, 0.01, 8000)
    soundfile.write(file, 0.3 * np.sin(np.arange(8000) * hertz / 2547) + noise, 16_000, format=kind)
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], layout: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=layout) as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def three_shards(folder: Path) -> dict[str, bytes]:
    """A clip in each of three tars; id -> content."""
    found = {}
    for number, split in enumerate(("train", "validation", "test")):
        content = tone(200 + 50 * number)
        columns = json.dumps({"anger": number, "speaker": f"s{number}", "mood": "calm"}).encode()
        write_tar(folder / f"{split}-0.tar", {"a.json": columns, "a.wav": content, "a.txt": b"cross ", "a.cls": b"7"})
        found[f"{split}-0/a"] = content
    return found


def opened(spec: str, folder: Path, **options: Any) -> Corpus:
    return open_corpus(spec, folder=folder / "kept", **options)


@_SHARED
@given(
    members=st.dictionaries(
        st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=130).filter(
            lambda name: name not in (".", "..")
        ),
        st.binary(max_size=1500),
        max_size=6,
    ),
    layout=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_ranges_of_members_are_what_was_written(members: dict[str, bytes], layout: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"sub/{name}": content for name, content in members.items()}, layout)
    for _ in range(2):  # made, then kept
        index = index_tar(str(path), tmp_path / "index")
        found = {one.name: audio_bytes(AudioRange(str(path), one.start, one.size)) for one in index.members}
        assert found == {f"sub/{name}": content for name, content in members.items()}
        assert (index.cut, index.damage) == (None, "")
    path.unlink()


@pytest.mark.slow  # to import webdataset
def test_webdataset_is_the_reference(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    contents = {f"k/{n}": tone(200 + 10 * n, ["WAV", "FLAC", "MP3", "OGG"][n % 4]) for n in range(8)}
    (tmp_path / "train").mkdir()
    with webdataset.TarWriter(str(tmp_path / "train/0.tar")) as tar:
        for n, (key, content) in enumerate(contents.items()):
            suffix = ["wav", "flac", "mp3", "ogg"][n % 4]
            tar.write({"__key__": key, suffix: content, "json": {"anger": n / 4}, "txt": f"clip {n}", "cls": n % 2})
    corpus = opened(f"tars:{tmp_path}/train/*.tar", tmp_path)
    assert {clip.id.removeprefix("0/"): audio_bytes(clip.audio) for clip in corpus.clips} == contents
    assert [(clip.scores["anger"], clip.caption, clip.label) for clip in corpus.clips][:2] == [
        (0.0, "clip 0", "0"),
        (0.25, "clip 1", "1"),
    ]
    assert {clip.split for clip in corpus.clips} == {"train"}


def test_members_of_a_key_are_a_clip(tmp_path: Path) -> None:
    contents = three_shards(tmp_path)
    corpus = opened(f"tars:{tmp_path}/{{train,validation,test}}-0.tar", tmp_path)
    assert {clip.id: audio_bytes(clip.audio) for clip in corpus.clips} == contents
    assert [(c.split, c.speaker, c.scores, c.caption, c.label, c.seconds) for c in corpus.clips] == [
        ("train", "s0", {"anger": 0.0}, "cross", "7", 0.5),
        ("validation", "s1", {"anger": 1.0}, "cross", "7", 0.5),
        ("test", "s2", {"anger": 2.0}, "cross", "7", 0.5),
    ]
    assert corpus.name == f"tars:{tmp_path}/{{train,validation,test}}-0.tar"
    assert opened(f"tars:{tmp_path}", tmp_path).fingerprint != corpus.fingerprint  # another order
    assert opened(corpus.name, tmp_path).fingerprint == corpus.fingerprint
    by_mood = open_tars(str(tmp_path), tmp_path / "kept", label="mood")
    assert (by_mood.labels, by_mood.name) == (("calm",), f"tars:{tmp_path}#mood")
    assert _with_column("s3://b/x-*.tar#mood") == ("s3://b/x-*.tar", "mood")
    for clip in corpus.clips:
        assert decode(clip.audio).seconds == 0.5


def test_the_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_shards(tmp_path)
    first = opened(f"tars:{tmp_path}", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "_read", lambda *_: pytest.fail("read again"))
        assert opened(f"tars:{tmp_path}", tmp_path).fingerprint == first.fingerprint
    for kept in (tmp_path / "kept/tars").iterdir():
        kept.write_bytes(b"damaged")
    assert opened(f"tars:{tmp_path}", tmp_path).fingerprint == first.fingerprint
    write_tar(tmp_path / "test-0.tar", {"b.wav": tone(300), "b.json": b'{"speaker": "s9"}'})  # another tar of this name
    assert opened(f"tars:{tmp_path}", tmp_path).clips[0].id == "test-0/b"


def test_what_is_no_recording_or_column_is_told(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "train-0.tar",
        {
            "a.wav": tone(200),
            "a.json": b'{"anger": 1, "text": "hi", "path": "/x/a.wav", "speakr": "x", "duration": null}',
            "a.png": b"picture",
            "no-sound.json": b"{}",
            "._a.wav": b"of a Mac",
            "__MACOSX/b.wav": b"of a Mac",
            "readme": b"no dot",
        },
    )
    corpus = opened(f"tars:{tmp_path}", tmp_path)
    assert [clip.id for clip in corpus.clips] == ["train-0/a"]
    assert corpus.passed_over == {".png": 1}
    [remark] = [line for line in corpus.remarks if "mean nothing" in line]
    assert remark == "columns that mean nothing here are passed over: text, speakr (did you mean speaker?)"
    write_tar(tmp_path / "train-0.tar", {"a.png": b"picture"})
    with pytest.raises(RequestError, match=r"(?s)the tars hold no recording.*found: +1 \.png"):
        opened(f"tars:{tmp_path}", tmp_path)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"a.wav": b"x", "a.flac": b"y"}, r"train-0\.tar, a: several recordings have one key: a\.wav, a\.flac"),
        ({"a.wav": b"x", "a.json": b"{"}, r"train-0\.tar, a: its \.json is not JSON: Expecting property name"),
        ({"a.wav": b"x", "a.json": b"[1]"}, r"its \.json holds a list, not an object"),
        ({"a.wav": b"x", "a.json": b'{"anger": 9}'}, r"train-0\.tar, a: anger is 9; expected 0 to 4"),
        ({"a.wav": b"x", "a.json": b'{"split": "x"}'}, r"split 'x' is none of train"),
        ([("a.wav", b"x"), ("a.wav", b"y")], r"several recordings have one key"),
    ],
)
def test_mistakes_name_tar_and_key(members: Any, problem: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", members)
    with pytest.raises(RequestError, match=problem):
        opened(f"tars:{tmp_path}", tmp_path)


def test_a_tar_that_is_cut_gives_what_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "train-0.tar", {f"{name}.wav": tone(200 + ord(name)) for name in "abc"})
    whole = path.read_bytes()
    last = index_tar(str(path), tmp_path / "x").members[2]
    (tmp_path / "train-0.tar").write_bytes(whole[: last.start + 1000])
    corpus = opened(f"tars:{tmp_path}", tmp_path)
    told = "cut short: 1,000 of the 16,044 bytes of its member c.wav are there"
    assert [clip.id for clip in corpus.clips] == ["train-0/a", "train-0/b"]
    assert corpus.remarks[0] == f"train-0.tar is {told}; the 2 clips before it are used: copy or download the tar again"
    assert [(one.id, one.reason) for one in corpus.rejected] == [("train-0/c", f"its tar is {told}")]
    path.write_bytes(whole[: last.start - 512])
    assert "cut short: it has no end mark" in opened(f"tars:{tmp_path}", tmp_path).remarks[0]
    path.write_bytes(whole[: last.start - 100])
    assert "damaged: what stands at byte" in opened(f"tars:{tmp_path}", tmp_path).remarks[0]
    path.write_bytes(whole[: last.start - 512] + b"\1" * 5120)
    assert "damaged: what stands at byte" in opened(f"tars:{tmp_path}", tmp_path).remarks[0]
    assert len(opened(f"tars:{tmp_path}", tmp_path)) == 2


@pytest.mark.parametrize("whole", [False, True])
def test_a_clip_whose_columns_may_be_cut_off_is_rejected(tmp_path: Path, whole: bool) -> None:
    members = {
        f"{key}.{end}": tone(200) if end == "wav" else b'{"anger": 1}' for key in "ab" for end in ("wav", "json")
    }
    path = write_tar(tmp_path / "train-0.tar", members)
    last = index_tar(str(path), tmp_path / "x").members[3]
    path.write_bytes(path.read_bytes()[: last.start - 512 if whole else last.start + 5])  # behind b.wav, or in b.json
    corpus = opened(f"tars:{tmp_path}", tmp_path)
    assert [(clip.id, clip.scores) for clip in corpus.clips] == [("train-0/a", {"anger": 1.0})]
    assert [one.id for one in corpus.rejected] == ["train-0/b"]
    assert "the 1 clips before it are used" in corpus.remarks[0]


def test_a_single_tars_name_tells_no_split(tmp_path: Path) -> None:
    members = {f"{key}.{end}": tone(200 + 9 * n) if end == "wav" else f'{{"speaker": "{key}"}}'.encode()
               for n, key in enumerate("abc") for end in ("wav", "json")}  # fmt: skip
    path = write_tar(tmp_path / "train-0.tar", members)
    assert {clip.split for clip in opened(f"tars:{path}", tmp_path).clips} == {"train", "validation", "test"}
    assert {clip.split for clip in opened(f"tars:{tmp_path}", tmp_path).clips} == {"train"}


def test_a_tar_that_another_one_replaced_is_read_anew(bucket: str, s3: S3, tmp_path: Path) -> None:
    path, place = tmp_path / "x.tar", f"{bucket}/x.tar"
    for number, key in enumerate("ab"):  # of one size and time
        write_tar(tmp_path / "new", {f"{key}.wav": b"x"}).replace(path)
        os.utime(path, (9, 9))
        Objects.open(bucket).write("x.tar", path)
        for location in (str(path), place):
            for _ in range(2):
                assert [one.name for one in index_tar(location, tmp_path / "index").members] == [f"{key}.wav"]
        assert len(list((tmp_path / "index").iterdir())) == 2 * (number + 1)
    assert [method for method, at, _ in s3.requests if method != "GET" and "x.tar" in at] == ["PUT", "HEAD", "HEAD"] * 2


def test_tars_are_named_with_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "x.tar", {"a.wav": tone(200)})
    for named in ("x.tar", "s3://bucket/x.tar", "hf://datasets/u/n/x.tar"):
        with pytest.raises(RequestError, match=rf"is named with its kind(?s:.*)--corpus tars:{named}"):
            open_corpus(named)
    with pytest.raises(RequestError, match=r"--corpus manifest:s3://bucket/x\.csv"):
        open_corpus("s3://bucket/x.csv")


def test_what_is_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "train-0.tar"
    with pytest.raises(RequestError, match=r"(?s)the tar does not exist.*train-0\.tar"):
        opened(f"tars:{path}", tmp_path)
    write_tar(path, {"a.wav": tone(200)})
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(RequestError, match=r"(?s)the tar is compressed.*gz compression.*gunzip"):
        opened(f"tars:{path}", tmp_path)
    for content, found in ((b"", "an empty file"), (b"no tar" * 1000, "header")):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=f"(?s)this is no tar that can be read.*{found}"):
            opened(f"tars:{path}", tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_decoders")
def test_tars_in_a_bucket_are_read_by_ranges(bucket: str, s3: S3, tmp_path: Path) -> None:
    contents = three_shards(tmp_path)
    for name in ("train", "validation", "test"):
        filler = {f"{n}.bin": bytes(100_000) for n in range(20)}  # 2 MB before the clip
        with tarfile.open(tmp_path / f"{name}-0.tar") as tar:
            members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
        path = write_tar(tmp_path / f"{name}-0.tar", filler | members)
        Objects.open(bucket).write(f"s/{name}-0.tar", path)
    s3.requests.clear()
    corpus = opened(f"tars:{bucket}/s/{{train,validation,test}}-0.tar", tmp_path)
    assert {clip.id: audio_bytes(clip.audio) for clip in corpus.clips} == contents
    local = opened(f"tars:{tmp_path}/{{train,validation,test}}-0.tar", tmp_path)
    assert corpus.fingerprint == local.fingerprint  # the same corpus, wherever it is
    read = [asked.removeprefix("bytes=").split("-") for method, _, asked in s3.requests if method == "GET" and asked]
    assert sum(int(last) - int(first) + 1 for first, last in read) < 3 * 600_000  # of 6 MB
