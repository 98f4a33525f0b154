"""Manifests in object stores, and recordings that manifests name by their addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from emonet.audio import audio_bytes, probe
from emonet.clips import AudioRange
from emonet.corpora import open_corpus, read_recordings
from emonet.errors import AudioError, RequestError
from emonet.objects import Objects
from emonet.tables import read_rows
from tests.buckets import S3
from tests.emonet.corpora.manifest.manifests import rows, write

# Most are slow: processes that decode have to be started for the server.
pytestmark = pytest.mark.usefixtures("fresh_decoders")


def upload(folder: Path, bucket: str) -> None:
    for name in "abc":
        Objects.open(bucket).write(f"c/audio/{name}.wav", folder / f"audio/{name}.wav")


@pytest.mark.parametrize(
    "suffix", [".csv", pytest.param(".jsonl", marks=pytest.mark.slow), pytest.param(".parquet", marks=pytest.mark.slow)]
)
def test_a_manifest_in_a_bucket(suffix: str, folder: Path, bucket: str) -> None:
    upload(folder, bucket)
    Objects.open(bucket).write(f"c/m{suffix}", write(folder / f"m{suffix}", rows()))
    local = open_corpus(f"manifest:{folder}/m{suffix}")
    corpus = open_corpus(f"manifest:{bucket}/c/m{suffix}")
    assert corpus.clips[1].audio == AudioRange(f"{bucket}/c/audio/b.wav", 0, 64_044)
    assert [audio_bytes(clip.audio) for clip in corpus.clips] == [Path(str(c.audio)).read_bytes() for c in local.clips]
    assert (corpus.fingerprint, corpus.name) == (local.fingerprint, f"manifest:{bucket}/c/m{suffix}")
    missing = rf"(?s)the manifest does not exist.*{bucket}/c/no{suffix}.*no such object"
    with pytest.raises(RequestError, match=missing):
        open_corpus(f"manifest:{bucket}/c/no{suffix}")


def test_a_table_in_a_bucket_is_asked_for_once(folder: Path, bucket: str, s3: S3) -> None:
    Objects.open(bucket).write("m.csv", write(folder / "m.csv", rows()))
    s3.requests.clear()
    assert len(list(read_rows(f"{bucket}/m.csv"))) == 3
    assert [method for method, _, _ in s3.requests] == ["HEAD", "GET"]


@pytest.mark.slow
def test_addresses_in_a_local_manifest(folder: Path, bucket: str, s3: S3) -> None:
    upload(folder, bucket)
    table = rows(audio=f"{bucket}/c/audio/b.wav")
    corpus = open_corpus(f"manifest:{write(folder / 'm.csv', table)}")
    assert [clip.id for clip in corpus.clips] == ["audio/a.wav", f"{bucket}/c/audio/b.wav", "audio/c.wav"]
    assert probe(corpus.clips[1].audio).seconds == 2
    write(folder / "m.csv", rows(audio=f"{bucket}/c/audio/no.wav"))
    with pytest.raises(RequestError, match=rf"line 3: audio '{bucket}/c/audio/no\.wav' does not exist"):
        open_corpus(f"manifest:{folder}/m.csv")
    Objects.open(bucket).write("c/audio/no.wav", b"no audio at all, whatever its name says it is")
    corpus = open_corpus(f"manifest:{folder}/m.csv")
    assert [one.reason.split(";")[0] for one in corpus.rejected] == ["not readable: format not recognised"]
    s3.refuses = lambda method, path: True
    with pytest.raises(RequestError, match=rf"(?s)these credentials may not .*{bucket}"):
        open_corpus(f"manifest:{folder}/m.csv")
    write(folder / "m.csv", rows(audio="ftp://host/x.wav"))
    with pytest.raises(RequestError, match=r"(?s)this is the URL of no object store.*ftp://host/x\.wav.*hf://"):
        open_corpus(f"manifest:{folder}/m.csv")


@pytest.mark.slow
def test_the_same_object_in_two_splits_is_a_leak(folder: Path, bucket: str) -> None:
    upload(folder, bucket)
    table = [{**row, "id": row["speaker"], "audio": f"{bucket}/c/audio/a.wav"} for row in rows()]
    with pytest.raises(RequestError, match="the same recording is in two splits"):
        open_corpus(f"manifest:{write(folder / 'm.jsonl', table)}")


@pytest.mark.slow
def test_tables_of_recordings_to_be_scored(folder: Path, bucket: str) -> None:
    upload(folder, bucket)
    table = [{"file": f"{bucket}/c/audio/a.wav"}, {"file": f"{bucket}/no.wav"}, {"file": "audio/c.wav"}]
    found = read_recordings(write(folder / "t.csv", table))
    assert probe(found[0].audio).seconds == 2
    with pytest.raises(AudioError, match="no such object"):  # told when it is heard
        probe(found[1].audio)
    assert found[2].audio == folder / "audio/c.wav"
