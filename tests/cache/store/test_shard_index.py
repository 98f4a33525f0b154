from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cache.store import ExtractionRecord, FeatureStore, open_array, shard_file, shard_parts
from cache.store.shard_index import ShardIndex, read_chunk, read_plain
from cache.store.tiers import DamagedChunkError, checked
from emonet.clips import Clip, Corpus
from emonet.windows import Window

pytestmark = pytest.mark.numeric

Make = Callable[..., ExtractionRecord]
States = Callable[..., np.ndarray]
Fill = Callable[..., str]
TIERS = ["none", "lossless", "bfloat", "int8"]


@pytest.fixture
def corpus() -> Corpus:
    return Corpus("made", tuple(Clip(f"m/{row}", b"x", "someone", "train") for row in range(7)))


@given(chunks=st.lists(st.none() | st.binary(min_size=1, max_size=40), min_size=1, max_size=9))
def test_every_chunk_is_found_again(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes | None]) -> None:
    path = tmp_path_factory.mktemp("shard") / "0"
    path.write_bytes(b"".join(shard_parts(chunks)))
    file = os.open(path, os.O_RDONLY)
    index = ShardIndex.read(file, len(chunks))
    places = [index[number] for number in range(len(chunks))]
    assert [place and read_chunk(file, place) for place in places] == chunks
    os.close(file)


@pytest.mark.parametrize("tier", TIERS)
def test_any_zarr_reader_opens_what_is_written(
    tmp_path: Path, make_record: Make, some_states: States, fill_store: Fill, corpus: Corpus, tier: str
) -> None:
    path, states = tmp_path / "s.zarr", some_states(7)
    fill_store(path, make_record(corpus, codec=tier), corpus, states, failed={2: "0 bytes"})
    group, ours = zarr.open_group(path, mode="r"), FeatureStore.open(path)
    rows = ours.rows()
    values = np.asarray(group["states"])
    if tier == "int8":
        assert (values[2] == -128).all()
        assert np.isnan(np.asarray(group["scales"])[2]).all()
        values = (values * np.asarray(group["scales"])[:, None, :]).astype(np.float16)
    else:
        assert np.isnan(values[2]).all()
    np.testing.assert_array_equal(ours.read(rows), values[rows])
    if tier in {"none", "lossless"}:
        np.testing.assert_array_equal(values[rows], states[rows])


@pytest.mark.parametrize("tier", ["none", "lossless"])
def test_what_zarr_writes_is_read(
    tmp_path: Path, make_record: Make, some_states: States, fill_store: Fill, corpus: Corpus, tier: str
) -> None:
    path, states = tmp_path / "s.zarr", some_states(7)
    fill_store(path, make_record(corpus, codec=tier), corpus, np.zeros_like(states) + np.float16(1))
    open_array(path, mode="r+")[:] = states
    np.testing.assert_array_equal(FeatureStore.open(path).read(range(7)), states)


@pytest.mark.parametrize("tier", TIERS)
def test_states_beyond_the_clip_read_as_silence(
    tmp_path: Path, make_record: Make, some_states: States, fill_store: Fill, corpus: Corpus, tier: str
) -> None:
    all_kept, speech = tmp_path / "all.zarr", tmp_path / "speech.zarr"
    states, silence = some_states(7, frames=500), some_states(1, frames=500, seed=9)[0]
    seconds = [0.1, 3.0, 10.0, 5.0, 0.02, 9.99, 1.0]
    for path, kept in ((all_kept, "all"), (speech, "speech")):
        record = make_record(corpus, frames=500, codec=tier, kept=kept)
        fill_store(path, record, corpus, states, seconds=lambda row: seconds[row], silence=lambda: silence)
    store = FeatureStore.open(speech)
    read, whole = store.read([3, 0, 2, 6]), FeatureStore.open(all_kept).read([3, 0, 2, 6])
    for clip, all_states, row in zip(read, whole, [3, 0, 2, 6], strict=True):
        heard = Window(10.0).speech_frames(seconds[row])
        if tier != "int8":  # whose scales follow the states that are kept
            np.testing.assert_array_equal(clip[:heard], all_states[:heard])
        np.testing.assert_allclose(clip[:heard], states[row, :heard], atol=0.03)
        np.testing.assert_array_equal(clip[heard:], silence[heard:])
    if tier != "none":
        sizes = [sum(file.stat().st_size for file in path.rglob("c/*/0/0")) for path in (speech, all_kept)]
        assert sizes[0] < 0.7 * sizes[1]  # 2.9 of 10 s are heard on average


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "0"
    content = b"".join(shard_parts([b"abc", None]))
    for wrong, message in [
        (content[:-1] + b"x", "index of its shard is damaged: its checksum"),
        (content[-20:], "has 20 bytes, its index alone takes 36"),
        (b"", "has 0 bytes"),
    ]:
        path.write_bytes(wrong)
        file = os.open(path, os.O_RDONLY)
        with pytest.raises(DamagedChunkError, match=message):
            ShardIndex.read(file, 2)
        os.close(file)


def test_a_chunk_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "0", np.empty((2, 3), np.float16)
    path.write_bytes(checked(np.ones((2, 3), np.float16).tobytes())[:-3])
    file = os.open(path, os.O_RDONLY)
    with pytest.raises(DamagedChunkError, match="13 of its 16 bytes"):
        read_chunk(file, (0, 16))
    with pytest.raises(DamagedChunkError, match="not all are there"):
        read_plain(file, (0, 16), out)
    os.close(file)


def test_a_shard_without_a_single_clip_has_no_file(
    tmp_path: Path, make_record: Make, some_states: States, fill_store: Fill, corpus: Corpus
) -> None:
    path = tmp_path / "s.zarr"
    fill_store(path, make_record(corpus), corpus, some_states(7), failed=dict.fromkeys(range(4), "0 bytes"))
    assert not shard_file(path, 0).exists()
    assert FeatureStore.open(path).rows().tolist() == [4, 5, 6]
