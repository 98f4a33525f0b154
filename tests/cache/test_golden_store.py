"""What releases wrote, in tests/data/golden-store/vN, reads the same for ever; see tools/make_golden_store.py."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cache.maintenance import describe, verify
from cache.store import FeatureStore
from tools.make_golden_store import GOLDEN, main

pytestmark = pytest.mark.numeric

STORES = sorted(GOLDEN.glob("v*/*.zarr"))
NAMES = [f"{path.parent.name}-{path.stem}" for path in STORES]


@cache
def expected(version: Path) -> tuple[Any, Any]:
    return json.loads((version / "expected.json").read_text("utf-8")), np.load(version / "expected.npz")


def test_there_is_a_store_of_every_tier() -> None:
    assert {path.stem for path in STORES} >= {"none", "lossless", "bfloat", "int8", "speech"}


@pytest.mark.parametrize("path", STORES, ids=NAMES)
def test_states_are_those_that_were_written(path: Path) -> None:
    facts, states = expected(path.parent)
    store, wanted = FeatureStore.open(path), states[path.stem]
    rows = store.rows()
    assert store.fingerprint == facts["stores"][path.stem]["fingerprint"]
    assert rows.tolist() == [row for row in range(len(wanted)) if str(row) not in facts["table"]["failed"]]
    np.testing.assert_array_equal(store.read(rows), wanted[rows])
    np.testing.assert_array_equal(store.read(rows[::-1]), wanted[rows[::-1]])


@pytest.mark.parametrize("path", STORES, ids=NAMES)
def test_the_table_is_the_one_that_was_written(path: Path) -> None:
    facts, _ = expected(path.parent)
    store, wanted = FeatureStore.open(path), facts["table"]
    for column, key in {"id": "ids", "split": "splits", "speaker": "speakers", "language": "languages"}.items():
        assert store.clips[column].tolist() == wanted[key]
    assert [None if np.isnan(value) else value for value in store.clips["seconds"]] == wanted["seconds"]
    assert {str(row): why for row, why in enumerate(store.clips["failed"]) if why is not None} == wanted["failed"]
    assert list(store.targets.ids) == wanted["targets"]
    assert store.note == facts["note"]
    np.testing.assert_array_equal(store.scores(range(len(store))), np.array(wanted["scores"], np.float32))


@pytest.mark.parametrize("path", STORES, ids=NAMES)
def test_a_deep_look_finds_it_whole(path: Path) -> None:
    facts, _ = expected(path.parent)
    wanted, report, info = facts["stores"][path.stem], verify(path, deep=True), describe(path)
    assert report.problems == ()
    assert (report.codec, report.kept, report.failed) == (
        wanted["codec"],
        wanted["kept"],
        len(facts["table"]["failed"]),
    )
    for found in (report, info):
        assert found.largest_error == pytest.approx(wanted["largest_error"])
        assert found.rms_error == pytest.approx(wanted["rms_error"])
    assert info.finished


@pytest.mark.parametrize("path", STORES, ids=NAMES)
def test_plain_zarr_reads_it(path: Path) -> None:
    facts, states = expected(path.parent)
    wanted, failed = states[path.stem], [int(row) for row in facts["table"]["failed"]]
    found: np.ndarray = np.asarray(zarr.open_array(path / "states", mode="r")[:])
    if path.stem == "int8":
        scales = np.asarray(zarr.open_array(path / "scales", mode="r")[:])
        assert np.isnan(scales[failed]).all()
        found = (found * scales[:, None, :]).astype(np.float16)
    elif path.stem == "speech":
        silence = np.asarray(zarr.open_array(path / "silence", mode="r")[:])
        for row, frames in enumerate(FeatureStore.open(path).speech_frames(range(len(wanted))).tolist()):
            assert not found[row, frames:].any() or row in failed
            found[row, frames:] = np.nan if row in failed else silence[frames:]
    assert np.isnan(found[failed]).all()
    np.testing.assert_array_equal(found, wanted)


def test_the_tool_still_makes_stores_that_read_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(tmp_path / "again")
    assert "bytes" in capsys.readouterr().out
    newest = max(GOLDEN.iterdir(), key=lambda folder: int(folder.name[1:]))
    (facts, states), (golden, values) = expected(tmp_path / "again"), expected(newest)
    assert facts == golden
    for name in values.files:
        np.testing.assert_array_equal(states[name], values[name])


def test_the_tool_writes_over_nothing() -> None:
    with pytest.raises(SystemExit, match="never written again"):
        main(next(GOLDEN.iterdir()))
