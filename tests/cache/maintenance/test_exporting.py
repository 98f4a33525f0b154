from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import cache.maintenance.exporting
from cache.maintenance import export
from cache.maintenance.exporting import Form
from cache.store import FeatureStore, shard_file
from cache.store import table as table_file
from emonet.clips import Split
from emonet.errors import EmonetError, RequestError

Make = Callable[..., Any]
CLIP = 50 * 8 * 2  # bytes


@pytest.fixture
def store(tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make) -> FeatureStore:
    """Ten clips in three shards; rows 3 and 9 failed."""
    corpus, failed = make_corpus(10), {3: "0 bytes", 9: "no audio"}
    fill_store(tmp_path / "s.zarr", make_record(corpus), corpus, some_states(10), failed=failed)
    return FeatureStore.open(tmp_path / "s.zarr")


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clips in a safetensors file, two read at a time."""
    monkeypatch.setattr(cache.maintenance.exporting, "FILE_BYTES", 3 * CLIP)
    monkeypatch.setattr(cache.maintenance.exporting, "READ_BYTES", 2 * CLIP)


def check_table(store: FeatureStore, out: Path, rows: np.ndarray) -> pd.DataFrame:
    table = pd.read_parquet(out / "clips.parquet")
    assert table["row"].tolist() == list(range(len(rows)))
    assert table["store_row"].tolist() == rows.tolist()
    assert table["id"].tolist() == store.clips["id"].iloc[rows].tolist()
    assert "failed" not in table
    np.testing.assert_array_equal(table[list(store.targets.ids)].to_numpy(np.float32), store.scores(rows))
    np.testing.assert_array_equal(table["speech_frames"], store.speech_frames(rows))
    return table


@pytest.mark.usefixtures("small_files")
def test_safetensors_files_hold_every_readable_clip(tmp_path: Path, store: FeatureStore) -> None:
    calls: list[tuple[int, int]] = []
    out = tmp_path / "deep" / "out"
    report = export(store, out, "safetensors", progress=lambda done, total, note="": calls.append((done, total)))
    assert report.files == tuple(f"states-0000{number}-of-00003.safetensors" for number in range(3))
    assert (report.clips, report.shape) == (8, (8, 50, 8))
    assert report.bytes == sum((out / name).stat().st_size for name in report.files)
    assert [(left.id, left.reason) for left in report.left_out] == [("t/003", "0 bytes"), ("t/009", "no audio")]
    files = [load_file(out / name) for name in report.files]
    assert [len(file["states"]) for file in files] == [3, 3, 2]
    states, rows = (np.concatenate([file[name] for file in files]) for name in ("states", "rows"))
    assert states.dtype == np.float16
    np.testing.assert_array_equal(states, store.read(store.rows()))
    np.testing.assert_array_equal(rows, np.arange(8))
    table = check_table(store, out, store.rows())
    assert table["file"].tolist() == [report.files[row // 3] for row in range(8)]
    with safe_open(out / report.files[0], "numpy") as file:
        assert file.metadata()["fingerprint"] == store.fingerprint
    assert calls == [(0, 8), (2, 8), (3, 8), (5, 8), (6, 8), (8, 8)]


@pytest.mark.usefixtures("small_files")
def test_npy_can_be_mapped_into_memory(tmp_path: Path, store: FeatureStore) -> None:
    report = export(store, tmp_path / "out", "npy", split="train")
    states = np.load(tmp_path / "out" / "states.npy", mmap_mode="r")
    assert isinstance(states, np.memmap)
    assert states.shape == report.shape == (2, 50, 8)  # of rows 0, 3, 6 and 9
    np.testing.assert_array_equal(states, store.read([0, 6]))
    assert [left.id for left in report.left_out] == ["t/003", "t/009"]
    table = check_table(store, tmp_path / "out", np.array([0, 6]))
    assert set(table["file"]) == {"states.npy"}
    assert set(table["split"]) == {"train"}


@pytest.mark.parametrize("form", ["safetensors", "npy"])
def test_the_description_says_what_it_is(tmp_path: Path, store: FeatureStore, form: Form) -> None:
    report = export(store, tmp_path / "out", form)
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (about["format"], about["version"], about["split"]) == ("emonet-export", 1, None)
    assert about["record"] == store.record.model_dump(mode="json")
    assert about["targets"] == store.targets.to_json()
    assert (about["fingerprint"], about["note"]) == (store.fingerprint, "tones, no speech")
    assert about["files"] == list(report.files)
    assert about["left_out"][0] == {"id": "t/003", "reason": "0 bytes"}
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["clips.parquet", "export.json", *report.files]
    )


def test_other_tiers_are_exported_as_they_read(
    tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make
) -> None:
    corpus, silence = make_corpus(5), np.full((50, 8), 0.25, np.float16)
    record = make_record(corpus, codec="int8", kept="speech")
    fill_store(tmp_path / "s.zarr", record, corpus, some_states(5), silence=lambda: silence)
    store = FeatureStore.open(tmp_path / "s.zarr")
    export(store, tmp_path / "out", "npy")
    states = np.load(tmp_path / "out" / "states.npy")
    np.testing.assert_array_equal(states, store.read(range(5)))
    assert (states[:, 25:] == 0.25).all()  # each clip has 0.5 s


@pytest.mark.parametrize("form", ["safetensors", "npy"])
def test_a_pooled_store_is_exported_as_statistics(whole: Make, tmp_path: Path, form: Form) -> None:
    store = FeatureStore.open(whole(pool="statistics").path)
    report = export(store, tmp_path / "out", form)
    (file,) = report.files
    states = np.load(tmp_path / "out" / file) if form == "npy" else load_file(tmp_path / "out" / file)["states"]
    np.testing.assert_array_equal(states, store.read(store.rows()))
    assert (report.shape, report.pool) == ((9, 4, 64), "statistics")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (about["shape"], about["pool"], about["record"]["pool"]) == ([9, 4, 64], "statistics", "statistics")
    check_table(store, tmp_path / "out", store.rows())


def test_what_is_there_is_replaced_only_if_asked_and_an_export(tmp_path: Path, store: FeatureStore) -> None:
    out = tmp_path / "out"
    export(store, out, "npy")
    with pytest.raises(RequestError, match=r"(?s)folder already exists.*--force"):
        export(store, out, "safetensors")
    assert (out / "states.npy").exists()
    report = export(store, out, "safetensors", force=True)
    assert sorted(path.name for path in out.iterdir()) == ["clips.parquet", "export.json", *report.files]

    other = tmp_path / "thesis"
    other.mkdir()
    export(store, other, "npy", force=True)  # an empty folder
    (other / "export.json").write_text('{"format": "of something else"}')
    with pytest.raises(RequestError, match="no export of emonet"):
        export(store, other, "npy", force=True)
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="no export of emonet"):
        export(store, tmp_path / "file", "npy", force=True)
    with pytest.raises(RequestError, match="cannot lie inside the store"):
        export(store, store.path / "out", "npy")


def test_nothing_to_export(
    tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make
) -> None:
    corpus = make_corpus(2)  # train and validation
    fill_store(tmp_path / "s.zarr", make_record(corpus), corpus, some_states(2), failed={1: "0 bytes"})
    for split in ("validation", "test"):
        with pytest.raises(RequestError, match=f"no readable clips in the split '{split}'"):
            export(FeatureStore.open(tmp_path / "s.zarr"), tmp_path / "out", "npy", split=split)  # type: ignore[arg-type]


def test_a_damaged_store_leaves_no_export(tmp_path: Path, store: FeatureStore) -> None:
    export(store, tmp_path / "out", "npy")
    before = (tmp_path / "out" / "states.npy").read_bytes()
    file = shard_file(store.path, 1)
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    for form, force in (("npy", True), ("safetensors", True)):
        with pytest.raises(EmonetError, match="clip 't/004' cannot be read"):
            export(store, tmp_path / "out", form, force=force)  # type: ignore[arg-type]
    assert (tmp_path / "out" / "states.npy").read_bytes() == before
    with pytest.raises(EmonetError, match="clip 't/004'"):
        export(store, tmp_path / "new", "npy")
    assert {path.name for path in tmp_path.iterdir()} & {"new", ".new.partial", ".out.partial"} == set()


def test_a_full_disk_is_seen_before(tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    free = cache.maintenance.exporting.RESERVE + 8 * CLIP - 1
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.used, free))
    with pytest.raises(EmonetError, match=r"(?s)too little space for the export.*expected: +0\.07 GB"):
        export(store, tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.used, free + 1))
    assert export(store, tmp_path / "out", "npy").clips == 8


@pytest.mark.parametrize("form", ["safetensors", "npy"])
def test_a_disk_that_fills_up_on_the_way(tmp_path: Path, store: FeatureStore, form: Form) -> None:
    """With a limit on the size of a file, which is an error on writing just as a full disk is."""
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * CLIP, before[1]))
        with pytest.raises(EmonetError) as caught:
            export(store, tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value).splitlines() == [
        "a file would be larger than this process may write; nothing was exported, and what was there before is still there",
        f"  where:    {tmp_path}",
        "  try:      raise the limit (ulimit -f) and run the same command again: it starts from the beginning",
    ]
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("split", [None, "train"])
def test_a_long_table_is_written_some_rows_at_a_time(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split | None
) -> None:
    export(store, tmp_path / "at-once", "safetensors", split=split)
    monkeypatch.setattr(table_file, "_ROWS", 3)
    export(store, tmp_path / "out", "safetensors", split=split)
    table = check_table(store, tmp_path / "out", store.rows(split))
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "at-once" / "clips.parquet"))


@pytest.mark.parametrize("form", ["safetensors", "npy"])
def test_a_damaged_table_is_not_exported(tmp_path: Path, store: FeatureStore, form: Form) -> None:
    table = store.path / "clips.parquet"
    whole = table.read_bytes()
    for content in (whole[:100], b"", whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]):  # cut, empty, another bit
        table.write_bytes(content)
        with pytest.raises(EmonetError, match=r"(?s)the table of clips is damaged.*clips\.parquet.*store repair"):
            export(store, tmp_path / "out", form)
        assert not (tmp_path / "out").exists()
    with pytest.raises(EmonetError, match="the table of clips is damaged"):
        list(table_file.table_parts(store.path / "nowhere"))
