from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from emonet.audio import audio_bytes
from emonet.clips import AudioCell
from emonet.corpora import open_corpus
from emonet.corpora.manifest.reader import open_manifest
from emonet.errors import RequestError
from emonet.tables import parquet as tables
from emonet.tables import read_rows
from tests.emonet.corpora.manifest.manifests import rows, write

MakeWav = Callable[..., Path]


def embedded(folder: Path, name: str = "hub.parquet", **changes: Any) -> Path:
    """The three rows as Hugging Face's data sets write them; `changes` go into the second's audio."""
    table = [{**row, "audio": {"bytes": (folder / row["audio"]).read_bytes(), "path": row["audio"]}} for row in rows()]
    table[1]["audio"] |= changes
    parquet.write_table(pa.Table.from_pylist(table), folder / name)
    return folder / name


def test_audio_inside_of_a_table_is_read(folder: Path, make_wav: MakeWav) -> None:
    wanted = [(folder / f"audio/{name}.wav").read_bytes() for name in "abc"]
    corpus = open_corpus(f"manifest:{embedded(folder)}")
    assert [audio_bytes(clip.audio) for clip in corpus.clips] == wanted
    assert all(isinstance(clip.audio, AudioCell) for clip in corpus.clips)  # nothing is kept in memory
    assert [(clip.id, clip.seconds) for clip in corpus.clips] == [(f"audio/{name}.wav", 2.0) for name in "abc"]
    again = open_manifest(embedded(folder, "again.parquet"))
    assert again.fingerprint == corpus.fingerprint
    content = make_wav("other.wav", seconds=2.5, hertz=300).read_bytes()
    other = open_manifest(embedded(folder, "other.parquet", bytes=content))
    assert other.fingerprint != corpus.fingerprint  # the size counts, as of files
    paths = open_manifest(embedded(folder, "paths.parquet", bytes=None))
    assert paths.clips[1].audio == folder / "audio/b.wav"
    assert [audio_bytes(clip.audio) for clip in paths.clips] == [wanted[0], folder / "audio/b.wav", wanted[2]]
    unnamed = open_manifest(embedded(folder, "unnamed.parquet", path=None))
    assert [clip.id for clip in unnamed.clips] == ["audio/a.wav", "unnamed/row-2", "audio/c.wav"]


def test_a_column_of_bytes_alone_and_a_path_in_json(folder: Path) -> None:
    table = [{**row, "audio": (folder / row["audio"]).read_bytes()} for row in rows()]
    parquet.write_table(pa.Table.from_pylist(table), folder / "plain.parquet")
    assert [clip.id for clip in open_manifest(folder / "plain.parquet").clips] == [f"plain/row-{n}" for n in (1, 2, 3)]
    table = [{**row, "audio": {"path": row["audio"]}} for row in rows()]
    assert open_manifest(write(folder / "m.jsonl", table)).clips[0].id == "audio/a.wav"


def test_embedded_audio_that_cannot_be_used(folder: Path, make_wav: MakeWav, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_wav("other.wav", hertz=300).read_bytes()
    corpus = open_manifest(embedded(folder, bytes=b"no audio" * 100))
    assert [(rejection.id, rejection.reason) for rejection in corpus.rejected] == [
        ("audio/b.wav", "not readable: format not recognised; try: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav")
    ]
    with pytest.raises(RequestError, match=r"row 2: audio is empty \(\{'bytes': None, 'path': None\}\)"):
        open_manifest(embedded(folder, bytes=None, path=None))
    with pytest.raises(RequestError, match=r"row 2: the id 'audio/a.wav' .* \(two recordings have the same path: give"):
        open_manifest(embedded(folder, path="audio/a.wav", bytes=content))
    monkeypatch.setattr(tables, "available_bytes", lambda: 10_000)
    with pytest.raises(
        RequestError, match=r"(?s)does not fit into memory.*at most 0\.0 GB.*found: +0\.\d GB.*to files"
    ):
        list(read_rows(embedded(folder)))
    assert len(open_manifest(embedded(folder))) == 3  # stays in the file


def test_recordings_are_not_printed(folder: Path) -> None:
    table = [{**row, "speaker": (folder / row["audio"]).read_bytes()} for row in rows()]
    parquet.write_table(pa.Table.from_pylist(table), folder / "m.parquet")
    with pytest.raises(RequestError, match=r"row 1: speaker is 64,044 bytes, which is not text") as caught:
        open_manifest(folder / "m.parquet")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_spans_of_audformat_in_every_unit(unit: str, folder: Path) -> None:
    count = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    table = pa.table(
        {
            "file": ["audio/a.wav", "audio/b.wav", "audio/c.wav"],
            "start": pa.array([0, count, None], pa.duration(unit)),
            "end": pa.array([count, None, 2 * count], pa.duration(unit)),
            "speaker": ["a", "b", "c"],
        }
    )
    parquet.write_table(table, folder / "m.parquet")
    assert [(clip.start, clip.end) for clip in open_manifest(folder / "m.parquet").clips] == [
        (0, 1),
        (1, None),
        (None, 2),
    ]


def test_spans_and_missing_words_as_text(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text(
        "file,start,end,speaker,split,language,anger\n"
        "audio/a.wav,0 days 00:00:00.500000,NaT,a,train,NA,n/a\n"
        "audio/b.wav,00:00:00.25,0 days 00:00:01,b,validation,-,?\n"
        "audio/c.wav,#N/A,00:00:01,c,test,None,1\n"
    )
    clips = open_manifest(path).clips
    assert [(clip.start, clip.end) for clip in clips] == [(0.5, None), (0.25, 1.0), (None, 1.0)]
    assert [clip.scores for clip in clips] == [{}, {}, {"anger": 1.0}]
    assert {clip.language for clip in clips} == {"und"}


def test_times_of_the_clock_in_parquet(folder: Path) -> None:
    table = pa.Table.from_pylist(rows()).append_column("start", pa.array([500_000, None, 0], pa.time64("us")))
    parquet.write_table(table.append_column("end", pa.array([1, None, 2], pa.time32("s"))), folder / "m.parquet")
    assert [(c.start, c.end) for c in open_manifest(folder / "m.parquet").clips] == [(0.5, 1), (None, None), (0, 2)]
