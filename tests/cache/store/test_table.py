from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.maintenance import describe, verify
from cache.store import FeatureStore, read_table, require_table
from cache.store import table as table_file
from cache.writing import clip_columns
from emonet.errors import EmonetError

Make = Callable[..., Any]
FAILED = {3: "0 bytes", 9: "no audio"}


@pytest.fixture
def make_store(make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make) -> Make:
    """Ten clips in five shards; rows 3 and 9 failed."""

    def make(path: Path) -> FeatureStore:
        corpus = make_corpus(10)
        fill_store(path, make_record(corpus, shard_clips=2), corpus, some_states(10), failed=FAILED)
        return FeatureStore.open(path)

    return make


def test_a_table_is_the_same_however_many_rows_are_worked_on_at_a_time(
    make_store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_store(tmp_path / "whole.zarr")
    monkeypatch.setattr(table_file, "_ROWS", 3)
    monkeypatch.setattr(clip_columns, "CHUNK", 4)
    parts = make_store(tmp_path / "parts.zarr")
    assert (parts.path / "clips.parquet").read_bytes() == (whole.path / "clips.parquet").read_bytes()
    require_table(parts.path)
    table = read_table(parts.path)
    np.testing.assert_array_equal(parts.scores(range(10)), table[list(parts.targets.ids)].to_numpy(np.float32))
    assert parts.scores(range(10)).dtype == np.float32
    assert parts.ids.tolist() == table["id"].tolist()
    assert parts.failures() == FAILED
    assert parts.failures("train") == {row: why for row, why in FAILED.items() if table["split"][row] == "train"}
    info = describe(parts.path)
    assert info.splits == table["split"].value_counts().to_dict()
    assert info.rated == {"anger": int(table["anger"].notna().sum())}
    assert info.hours == pytest.approx(table["seconds"].sum() / 3600)


def test_another_value_in_the_table_is_found_a_column_at_a_time(
    make_store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(table_file, "_ROWS", 3)
    store = make_store(tmp_path / "s.zarr")
    file = store.path / "clips.parquet"
    table = pq.read_table(file)
    position = table.schema.get_field_index("speaker")
    other = table.column(position).to_pylist()
    other[7] += "x"
    pq.write_table(table.set_column(position, "speaker", [other]), file)
    with pytest.raises(EmonetError, match=r"(?s)table of clips is damaged.*not what was written"):
        verify(store.path)


def test_scores_of_a_damaged_table_are_refused(make_store: Make, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    file = store.path / "clips.parquet"
    content = bytearray(file.read_bytes())
    for place in range(200, len(content) - 4000, 40):
        content[place] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(EmonetError, match=r"(?s)table of clips is damaged.*store repair"):
        store.scores([0])
