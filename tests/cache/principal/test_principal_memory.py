from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache.principal import memory
from cache.store import FeatureStore
from emonet.errors import RequestError
from tests.cache.flat_stores import SPLITS, Fill, compute, fill, made_states


@pytest.fixture
def store(fill_store: Fill, tmp_path: Path) -> FeatureStore:
    return fill(fill_store, tmp_path / "s.zarr", made_states(len(SPLITS)))


def test_what_memory_does_not_hold_is_refused_before_anything_is_read(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, clips = len(store.rows("train")), len(store.rows())
    monkeypatch.setattr(memory, "available_bytes", lambda: 24 * train**2 - 1)
    with pytest.raises(RequestError, match=rf"(?s)products of {train} basis clips.*GiB.*--heads\.inputs statistics"):
        compute(store)
    assert not (store.path / "principal").exists()
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 40)
    (whole,) = compute(store).undivided([np.arange(len(store))])
    monkeypatch.setattr(memory, "available_bytes", lambda: 4 * clips * 5)  # kept by now: only reading counts
    with pytest.raises(RequestError, match=rf"(?s){train} principal coordinates of {clips} clips.*--heads\.rank 5 or"):
        compute(store)
    states = compute(store, rank=5).of(5)
    (read,) = states.undivided([store.rows()])
    np.testing.assert_array_equal(read, whole[store.rows(), :5])
    with pytest.raises(RequestError, match=r"(?s)principal coordinates of .* do not fit.*--heads\.rank"):
        states.undivided([np.arange(len(store))])  # also those that failed


def test_coordinates_of_some_rows_are_those_of_all(store: FeatureStore) -> None:
    states, parts = compute(store), [store.rows("train"), store.rows("test"), np.arange(0)]
    (whole,) = states.undivided([np.arange(len(store))])
    for rows, read in zip(parts, states.undivided(parts), strict=True):
        np.testing.assert_array_equal(read, whole[rows])
