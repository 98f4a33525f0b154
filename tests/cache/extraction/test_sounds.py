"""Extraction of recordings in tars, Parquet files and buckets: the same bytes as of files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from cache.extraction import extract
from cache.store import FeatureStore
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.corpora import open_corpus
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError
from emonet.objects import Objects
from tests.buckets import S3

pytestmark = [pytest.mark.numeric, pytest.mark.slow]
CONFIG = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32", workers=1)
KINDS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG"}
SPLITS = ("train", "validation", "test")


@pytest.fixture
def encoder(tiny_encoder: Path) -> FrozenEncoder:
    return FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine clips of nine speakers in files with a table, in Parquet files and in tars."""
    made = tmp_path / "corpus"
    made.mkdir()
    rows = []
    for n in range(9):
        kind, split = list(KINDS)[n % 4], SPLITS[n // 3]
        tone = 0.3 * np.sin(np.arange(5000 + 700 * n) / (9 + n)) + np.random.default_rng(n).normal(
            0, 0.02, 5000 + 700 * n
        )
        soundfile.write(made / f"{n}.{kind}", tone, 16_000, format=KINDS[kind])
        rows.append(
            {"audio": f"{n}.{kind}", "id": f"{split}-0/{n}", "speaker": f"s{n}", "split": split, "anger": n / 4}
        )
    (made / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split]
        inside = [{**row, "audio": {"bytes": (made / str(row["audio"])).read_bytes(), "path": None}} for row in own]
        parquet.write_table(pa.Table.from_pylist(inside), made / f"{split}-0.parquet", row_group_size=2)
        with tarfile.open(made / f"{split}-0.tar", "w") as tar:
            for row in own:
                about = json.dumps({name: row[name] for name in ("speaker", "anger")}).encode()
                key, _, kind = str(row["audio"]).partition(".")
                for name, content in (
                    (f"{key}.json", about),
                    (f"{key}.{kind}", (made / str(row["audio"])).read_bytes()),
                ):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return made


def upload(folder: Path, bucket: str) -> None:
    for file in folder.iterdir():
        Objects.open(bucket).write(f"c/{file.name}", file)


def opened(spec: str, folder: Path) -> Corpus:
    return open_corpus(spec, folder=folder / "kept")


def content(path: Path) -> dict[str, bytes]:
    """The store's arrays: file -> bytes."""
    return {
        str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if "c" in one.parts and one.is_file()
    }


@pytest.mark.usefixtures("fresh_decoders")
def test_the_same_bytes_wherever_the_recordings_are(
    folder: Path, bucket: str, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    upload(folder, bucket)
    specs = [f"manifest:{folder}/m.jsonl"]
    for place in (str(folder), f"{bucket}/c"):
        shards = f"{place}/{{train,validation,test}}-0"
        specs += [f"manifest:{place}/m.jsonl", f"manifest:{shards}.parquet", f"tars:{shards}.tar"]
    corpora = [opened(spec, tmp_path) for spec in specs]
    assert {corpus.fingerprint for corpus in corpora} == {corpora[0].fingerprint}
    stores = []
    for number, corpus in enumerate(corpora):
        path = tmp_path / f"{number}.zarr"
        extract(corpus, encoder, path, CONFIG, source="tiny")
        stores.append(content(path))
    assert len(stores[0]) == 3  # a file for each shard
    for other in stores[1:]:
        assert other == stores[0]


@pytest.mark.usefixtures("fresh_decoders")
def test_an_object_that_is_gone_costs_its_clip_and_a_store_that_is_away_stops_the_run(
    folder: Path, bucket: str, s3: S3, encoder: FrozenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(folder, bucket)
    corpus = opened(f"manifest:{bucket}/c/m.jsonl", tmp_path)
    Objects.open(bucket).delete(["c/4.wav"])
    report = extract(corpus, encoder, tmp_path / "a.zarr", CONFIG, source="tiny")
    assert [(one.id, one.reason) for one in report.failures] == [("validation-0/4", "no such object")]
    s3.refuses = lambda method, path: "/c/7." in path
    with pytest.raises(EmonetError, match=r"(?s)these credentials may not read here.*/c/7\."):
        extract(corpus, encoder, tmp_path / "b.zarr", CONFIG, source="tiny")
    s3.refuses = lambda method, path: False
    extract(corpus, encoder, tmp_path / "b.zarr", CONFIG, source="tiny")  # goes on
    store = FeatureStore.open(tmp_path / "b.zarr")
    assert len(store.rows()) == len(corpus) - 1
