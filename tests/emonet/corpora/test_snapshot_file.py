from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from emonet.clips import Clip, ClipColumns, Clips, Corpus, Rejection, Sources
from emonet.corpora.snapshot_file import DamagedError, read_snapshot, write_snapshot
from emonet.targets import ATTRIBUTES, EMOTIONS
from tests.emonet.clips.made import CLIPS, TEXTS, plain


def _corpus(clips: list[Clip], **fields: object) -> Corpus:
    """A corpus whatever its clips are: what is kept has been checked before."""
    known = {"rejected": (), "targets": EMOTIONS, "note": "", "passed_over": {}, "remarks": (), "classes": {}}
    made = {**known, "name": "mine", "clips": Clips(ClipColumns.of(clips)), **fields}
    return Corpus.restored(fingerprint="f" * 64, warnings=("Look!",), **made)


def _sources(*locations: str) -> Sources:
    sources = Sources(tables={"m.csv": (1, 2)}, folders={"a\udce4": "0" * 64})
    for number, location in enumerate(locations):
        sources.recordings.append(location)
        sources.sizes.append(number)
        sources.times.append(1000 + number)
    return sources


@settings(max_examples=40)
@given(st.lists(CLIPS, max_size=6), st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=2))
def test_what_is_written_is_read_back(clips: list[Clip], texts: list[str], names: list[str]) -> None:
    corpus = _corpus(
        clips,
        name="+".join(texts),
        rejected=tuple(Rejection(text, "0 bytes") for text in texts),
        note="".join(texts),
        remarks=tuple(texts),
        passed_over=dict.fromkeys(texts, 3),
        classes=dict.fromkeys(names, "anger") | {"neutral": None},
    )
    locations = corpus.columns.audio.location.present()
    sources = _sources(*locations, "rejected.wav")
    with TemporaryDirectory() as folder:
        path = Path(folder, "c.parquet")
        write_snapshot(path, corpus, sources, "request")
        found, known = read_snapshot(path, "request")
    assert list(map(plain, found.clips)) == list(map(plain, clips))
    for name in ("name", "rejected", "targets", "note", "passed_over", "remarks", "classes", "fingerprint", "warnings"):
        assert getattr(found, name) == getattr(corpus, name)
    assert (known.tables, known.folders, known.whole) == (sources.tables, sources.folders, True)
    stamps = [sorted(zip(one.recordings, one.sizes, one.times, strict=True)) for one in (known, sources)]
    assert stamps[0] == stamps[1]
    np.testing.assert_array_equal(found.scores(), corpus.scores())
    np.testing.assert_array_equal(found.weights(), corpus.weights())


def test_other_targets_are_kept(tmp_path: Path) -> None:
    corpus = _corpus([Clip("a", b"", "s", "train", scores={"arousal": 3.0})], targets=ATTRIBUTES)
    write_snapshot(tmp_path / "c.parquet", corpus, _sources(), "request")
    found, _ = read_snapshot(tmp_path / "c.parquet", "request")
    assert found.targets == ATTRIBUTES
    assert found.rated == ("arousal",)
    assert replace(found, name="again").clips == found.clips


def test_the_columns_are_for_everybody_to_read(tmp_path: Path) -> None:
    clips = [
        Clip("a", Path("a.wav"), "eve", "train", "en", {"anger": 1.5}, "Calm.", 0.5, None, 2.0, label="sad"),
        Clip("b", Path("b.wav"), "bob", "test"),
    ]
    write_snapshot(tmp_path / "c.parquet", _corpus(clips), _sources("a.wav"), "request")
    table = parquet.read_table(tmp_path / "c.parquet")
    assert table.select(["id", "speaker", "split", "label", "start", "end", "seconds", "score.anger"]).to_pylist() == [
        {"id": "a", "speaker": "eve", "split": "train", "label": "sad", "start": 0.5, "end": None, "seconds": 2.0,
         "score.anger": 1.5},
        {"id": "b", "speaker": "bob", "split": "test", "label": None, "start": None, "end": None, "seconds": None,
         "score.anger": None},
    ]  # fmt: skip
    assert table["audio_location"].to_pylist() == ["a.wav", "b.wav"]
    assert (table["file_size"].to_pylist(), table["file_time"].to_pylist()) == ([0, -1], [1000, -1])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(255 - byte for byte in content[200:260])
    path.write_bytes(bytes(content))


def _flipped_about(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"Nobody laughs.") == 1
    path.write_bytes(content.replace(b"Nobody laughs.", b"Nobody coughs."))


def _rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the file again, with something else in its columns and the same beside them."""
    with parquet.ParquetFile(path) as file:
        about, table = file.metadata.metadata[b"emonet"], change(file.read())
    with parquet.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"emonet": about})


def _without_column(path: Path) -> None:
    _rewrite(path, lambda table: table.drop_columns(["weight"]))


def _other_table(path: Path) -> None:
    parquet.write_table(pa.table({"id": ["a"]}), path)


def _fewer_rows(path: Path) -> None:
    _rewrite(path, lambda table: table.slice(1))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "Parquet"),
        (_empty, "Parquet"),
        (_flipped_page, "."),
        (_flipped_about, "has changed"),
        (_without_column, "columns are not those"),
        (_fewer_rows, "columns are not those"),
        (_other_table, "does not say what it is"),
        (_folder, "."),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "c.parquet"
    clips = [Clip(f"clip-{n}", Path(f"{n}.wav"), f"s{n}", "train", scores={"anger": n / 100}) for n in range(200)]
    write_snapshot(path, _corpus(clips, note="Nobody laughs."), _sources(), "request")
    assert len(read_snapshot(path, "request")[0]) == 200
    damage(path)
    with pytest.raises(DamagedError, match=said):
        read_snapshot(path, "request")


def test_a_snapshot_of_something_else_is_none(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "c.parquet", _corpus([]), _sources(), "request")
    with pytest.raises(DamagedError, match="of another version"):
        read_snapshot(tmp_path / "c.parquet", "another")
    with pytest.raises(FileNotFoundError):
        read_snapshot(tmp_path / "none.parquet", "request")
