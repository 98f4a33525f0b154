from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.maintenance import transcode, verify
from cache.store import TIERS, FeatureStore
from cache.writing import SilenceMeter, sample
from emonet.clips import Corpus
from emonet.errors import RequestError

pytestmark = pytest.mark.numeric

Make = Callable[..., Any]


@pytest.fixture
def corpus(make_corpus: Make) -> Corpus:
    return make_corpus(9)


@pytest.fixture
def source(tmp_path: Path, corpus: Corpus, make_record: Make, some_states: Make, fill_store: Make) -> FeatureStore:
    """Nine clips of 0.2, 0.3 ... s in a window of 1 s; the sixth could not be read."""
    path, states = tmp_path / "s.zarr", some_states(9)
    fill_store(path, make_record(corpus), corpus, states, failed={5: "0 bytes"}, seconds=lambda row: 0.2 + 0.1 * row)
    return FeatureStore.open(path)


@pytest.mark.parametrize("tier", list(TIERS))
def test_the_states_again_in_another_tier(tmp_path: Path, source: FeatureStore, corpus: Corpus, tier: Any) -> None:
    calls: list[tuple[int, int]] = []
    transcode(
        source, corpus, tmp_path / "t.zarr", tier, progress=lambda done, total, note="": calls.append((done, total))
    )
    other, rows = FeatureStore.open(tmp_path / "t.zarr"), source.rows()
    assert other.rows().tolist() == rows.tolist()
    assert other.clips.equals(source.clips)
    expected = np.stack([TIERS[tier].encode(clip).restored for clip in source.read(rows)])
    np.testing.assert_array_equal(other.read(rows), expected)
    report = verify(tmp_path / "t.zarr", deep=True)
    assert report.problems == ()
    difference = np.abs(expected.astype(float) - source.read(rows).astype(float))
    assert report.largest_error == pytest.approx(difference.max())
    size = np.square(source.read(rows).astype(float)).mean()
    assert report.rms_error == pytest.approx(np.sqrt(np.square(difference).mean() / size))
    assert calls[0] == (0, 9)
    assert calls[-1] == (9, 9)


def test_states_that_hear_nothing_become_their_mean(tmp_path: Path, source: FeatureStore, corpus: Corpus) -> None:
    transcode(source, corpus, tmp_path / "t.zarr", "lossless", kept="speech")
    rows, other = source.rows(), FeatureStore.open(tmp_path / "t.zarr")
    states, heard = source.read(rows).astype(np.float64), source.speech_frames(rows)
    silent = np.arange(50)[None, :] >= heard[:, None]
    late = states[:, 30][silent[:, 30]].mean(axis=0)  # of the clips that have ended after 0.6 s
    np.testing.assert_allclose(other.read([0])[0, 30], late, atol=1e-3)
    for row, frames in zip(rows.tolist(), heard.tolist(), strict=True):
        np.testing.assert_array_equal(other.read([row])[0, :frames], source.read([row])[0, :frames])


def test_another_corpus_is_refused_with_both_values(tmp_path: Path, source: FeatureStore, make_corpus: Make) -> None:
    """Its ids and scores would stand beside the states of others."""
    other = make_corpus(8)
    with pytest.raises(RequestError) as caught:
        transcode(source, other, tmp_path / "t.zarr", "int8")
    message, mine = str(caught.value), source.record.corpus_fingerprint
    assert f"corpus_fingerprint: the store has {mine}, wanted {other.fingerprint}" in message
    assert "clips: the store has 9, wanted 8" in message
    assert "try:      the corpus that this store was extracted from" in message
    assert not (tmp_path / "t.zarr").exists()


def test_where_no_clip_is_silent_the_overall_mean_stands() -> None:
    meter = SilenceMeter(3, 2)
    assert not meter.mean().any()
    meter.update(np.array([[9, 9], [1, 2], [3, 4]], np.float16), heard=1)
    np.testing.assert_array_equal(meter.mean(), [[2, 3], [1, 2], [3, 4]])


def test_the_sample_is_spread_over_all_rows() -> None:
    assert sample(list(range(5))) == [0, 1, 2, 3, 4]
    assert sample([]) == []
    chosen = sample(list(range(0, 2000, 2)))
    assert len(chosen) == len(set(chosen)) == 32
    assert (chosen[0], chosen[-1]) == (0, 1998)
