"""EmoNet-Voice Bench as published: its Parquet read into ratings and clips that can be heard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.stats import spearmanr

from emonet import RequestError
from emonet.audio import decode
from emonet.protocols import BENCH, Bench, BenchSample, read_bench, write_bench_sample

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def written(path: Path, *rows: tuple[Any, bytes | None, Any]) -> Path:
    """A file in the published form out of (path, recording, label)."""
    table = [{"audioId": {"bytes": sound, "path": name}, "label": label} for name, sound, label in rows]
    schema = pa.schema([("audioId", STRUCT), ("label", pa.string())])
    parquet.write_table(pa.Table.from_pylist(table, schema), path)
    return path


def test_the_42_categories() -> None:
    assert len(BENCH) == 42
    assert BENCH.scale == (0.0, 2.0)
    assert len(BENCH.ranked) == 40
    assert BENCH.apart == ("authenticity", "arousal")
    short = [
        "Pleasure",
        "Thankfulness",
        "Hope",
        "Astonishment",
        "Malevolence",
        "Fatigue",
        "Intoxication",
        "Jealousy / Envy",
    ]
    assert all(name in BENCH for name in short)


def test_the_sample_has_the_published_form(sample: BenchSample) -> None:
    table = parquet.read_table(sample.path)
    assert table.schema.field("audioId").type == STRUCT
    assert table.schema.field("label").type == pa.string()
    labels = table["label"].to_pylist()
    assert any("'Jealousy%20/%20Envy'" in label for label in labels)
    assert any("'Sexual%20Lust'" in label for label in labels)
    assert all(label.startswith("[{'human-") for label in labels)
    sound = table["audioId"][0].as_py()["bytes"]
    import soundfile

    with soundfile.SoundFile(pa.BufferReader(sound)) as file:
        assert (file.format, file.samplerate) == ("MP3", 44_100)


def test_ratings_and_clips_are_those_that_were_written(bench: Bench, sample: BenchSample) -> None:
    assert len(bench.ratings) == sample.ratings
    assert len(bench.clips) == sample.clips < sample.rows
    assert {clip.id for clip in bench.clips} == set(sample.meant)
    assert bench.ratings.targets == tuple(
        name for name in BENCH.ids if any(name in levels for levels in sample.meant.values())
    )
    assert bench.ratings.levels == (0.0, 1.0, 2.0)
    assert set(bench.ratings.items.count(axis=1)) == {2, 3, 4}
    assert len(bench.ratings.raters) == 6
    rated = bench.ratings.table.groupby("clip")["target"].agg(set).to_dict()
    assert rated == {clip: set(levels) for clip, levels in sample.meant.items()}


def test_recordings_can_be_heard(bench: Bench, sample: BenchSample) -> None:
    """How loud a clip is orders clips as the levels that were meant."""
    loud = [float(np.sqrt(np.mean(np.square(decode(clip.audio).samples)))) for clip in bench.clips[:24]]
    meant = [max(sample.meant[clip.id].values()) for clip in bench.clips[:24]]
    assert len(set(meant)) == 3
    groups = [[one for one, level in zip(loud, meant, strict=True) if level == wanted] for wanted in (0, 1, 2)]
    assert max(groups[0]) < min(groups[1]) <= max(groups[1]) < min(groups[2])
    assert spearmanr(loud, meant).statistic > 0.85


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    one, two, other = (
        write_bench_sample(tmp_path / f"{n}.parquet", ["fear"], seconds=0.1, seed=seed).path.read_bytes()
        for n, seed in enumerate((3, 3, 4))
    )
    assert one == two != other


def test_parts_in_a_folder_are_one_benchmark(tmp_path: Path, sample: BenchSample, bench: Bench) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table = parquet.read_table(sample.path)
    parquet.write_table(table.slice(0, 30), folder / "train-00000-of-00002.parquet")
    parquet.write_table(table.slice(30), folder / "train-00001-of-00002.parquet")
    shutil.copy(sample.path, tmp_path / "beside.parquet")
    pd.testing.assert_frame_equal(read_bench(folder).ratings.table, bench.ratings.table)


def test_repeated_paths_are_told_apart(tmp_path: Path) -> None:
    """Another category is the same clip; the same category again, and another recording, are clips of their own."""
    shame, fear = "[{'human-1': {'Shame': 1}}]", "[{'human-1': {'Fear': 2}}]"
    path = written(
        tmp_path / "b.parquet",
        ("x.mp3", b"one", shame),
        ("x.mp3", b"one", fear),
        ("x.mp3", b"one", shame),
        ("x.mp3", b"two", fear),
        ("y.mp3", b"one", fear),
    )
    found = read_bench(path)
    assert [(clip.id, clip.audio) for clip in found.clips] == [
        ("x.mp3", b"one"),
        ("x.mp3#2", b"one"),
        ("x.mp3#3", b"two"),
        ("y.mp3", b"one"),
    ]
    assert found.ratings.table[["clip", "target"]].to_numpy().tolist() == [
        ["x.mp3", "shame"],
        ["x.mp3", "fear"],
        ["x.mp3#2", "shame"],
        ["x.mp3#3", "fear"],
        ["y.mp3", "fear"],
    ]
    assert found.ratings.remarks == (
        "1 paths occur again: 1 rows are further categories of a clip, 2 are clips of their own",
    )


@pytest.mark.parametrize(
    "name", ["Emotional%20Numbness", "emotional_numbness", "Emotional+Numbness", "Emotional Numbness"]
)
def test_names_are_known_however_they_are_written(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "b.parquet", ("x.mp3", b"one", f"[{{'human-1': {{'{name}': 1}}}}]"))
    assert read_bench(path).ratings.targets == ("emotional_numbness",)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("[{'human-1': {'Shame': 3}}]", "b.parquet, row 1: 'human-1' gives 3; 0, 1 or 2 is expected"),
        ("[{'human-1': {'Shame': 1.5}}]", "'human-1' gives 1.5"),
        ("[{'human-1': {'Shame': True}}]", "'human-1' gives True"),
        ("[{'human-1': {'Shame': None}}]", "'human-1' gives None"),
        ("[{'human-1': {'Hunger': 1}}]", "there is no category called 'Hunger'"),
        ("[{'human-1': {'Shame': 1}}, {'human-1': {'Shame': 2}}]", "'human-1' rated clip 'x.mp3' for shame twice"),
        ("[]", "a clip without raters"),
        ("[{'human-1': {}}]", "'human-1' gave no rating"),
        ("{'human-1': {'Shame': 1}}", "the label is no list of ratings"),
        ("[{'human-1': __import__('os').getcwd()}]", "the label is no list of ratings"),
        ("[{'human-1'", "the label is no list of ratings"),
        ("(" * 5000, "the label is no list of ratings"),
        (None, "the label is no list of ratings: None"),
    ],
)
def test_a_wrong_label_is_refused(tmp_path: Path, label: Any, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        read_bench(written(tmp_path / "b.parquet", ("x.mp3", b"one", label)))


@pytest.mark.parametrize(
    ("name", "sound", "problem"),
    [("x.mp3", None, "of 'x.mp3' holds no audio"), ("x.mp3", b"", "holds no audio"), (None, b"one", "names no path")],
)
def test_missing_audio_is_named(tmp_path: Path, name: Any, sound: bytes | None, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        read_bench(written(tmp_path / "b.parquet", (name, sound, "[{'human-1': {'Shame': 1}}]")))


def test_what_is_no_benchmark_is_said(tmp_path: Path) -> None:
    pd.DataFrame({"audio": ["x"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(RequestError, match="this is no EmoNet-Voice Bench"):
        read_bench(tmp_path / "other.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"(?s)holds no EmoNet-Voice Bench.*emonet-voice-bench from Hugging Face"):
        read_bench(tmp_path / "empty")
    with pytest.raises(RequestError, match="does not exist"):
        read_bench(tmp_path / "none.parquet")
