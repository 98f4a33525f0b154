from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.loading import ShuffledClips
from cache.store import ExtractionRecord, FeatureStore, marked_shards, place, read_silence, wrong_metadata
from emonet.clips import SPLITS, Clip, Corpus
from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects
from tests.buckets import S3

Fill = Callable[..., str]


def corpus_of(clips: int) -> Corpus:
    splits = [SPLITS[row % 3] for row in range(clips)]
    return Corpus(
        "made",
        tuple(
            Clip(f"m/{row}", b"x", f"m/{split}", split, scores={"fear": float(row % 5)})
            for row, split in enumerate(splits)
        ),
    )


@pytest.fixture
def both(
    tmp_path: Path,
    bucket: str,
    make_record: Callable[..., ExtractionRecord],
    some_states: Callable[..., np.ndarray],
    fill_store: Fill,
) -> Callable[..., tuple[Path, str]]:
    """The same store on disk and in a bucket."""

    def make(clips: int = 10, *, silence: np.ndarray | None = None, **options: Any) -> tuple[Path, str]:
        corpus, states = corpus_of(clips), some_states(clips)
        record = make_record(corpus, **options)
        places = tmp_path / "s.zarr", f"{bucket}/deep/down/s.zarr"
        given: dict[str, Any] = {"failed": {3: "0 bytes"}, "silence": None if silence is None else lambda: silence}
        marks = {fill_store(where, record, corpus, states, **given) for where in places}
        assert len(marks) == 1
        return places

    return make


def contents(url: str) -> dict[str, bytes]:
    objects = Objects.open(url)
    return {key: objects.read(key) for key, _ in objects.list()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in ({"codec": "none"}, {"codec": "int8"}, {"kept": "speech"}, {"shard_clips": 20})
        ),
    ],
)
def test_it_is_the_local_store_byte_for_byte(both: Callable[..., tuple[Path, str]], options: dict[str, Any]) -> None:
    silence = np.ones((50, 8), np.float16) if "kept" in options else None
    path, url = both(silence=silence, **options)
    assert contents(url) == {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }
    local, remote = FeatureStore.open(path), FeatureStore.open(url)
    assert (remote.record, remote.fingerprint, len(remote)) == (local.record, local.fingerprint, len(local))
    rows = [9, 0, 4, 4, 8, 1]
    np.testing.assert_array_equal(remote.read(rows), local.read(rows))
    np.testing.assert_array_equal(remote.scores(rows), local.scores(rows))
    pd.testing.assert_frame_equal(remote.clips, local.clips)
    assert wrong_metadata(place(url), remote.record) == {}
    if silence is not None:
        np.testing.assert_array_equal(read_silence(place(url)), silence)
    with pytest.raises(RequestError, match="clip 'm/3' has no states: 0 bytes"):
        remote.read([3])
    assert list(Objects.open(url.removesuffix("/s.zarr")).list(".s.zarr.leases")) == []


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back(
    data: st.DataObject, s3: S3, make_record: Callable[..., ExtractionRecord], fill_store: Fill
) -> None:
    clips = data.draw(st.integers(1, 9), "clips")
    width, shard_clips = data.draw(st.integers(1, 6), "width"), data.draw(st.integers(1, 5), "shard_clips")
    failed = data.draw(st.sets(st.integers(0, clips - 1), max_size=clips - 1), "failed")
    usable = sorted(set(range(clips)) - failed)
    rows = data.draw(st.lists(st.sampled_from(usable), max_size=12), "rows")
    states = np.random.default_rng(clips).normal(0, 5, (clips, 25, width)).astype(np.float16)
    corpus, url = corpus_of(clips), f"{s3.bucket()}/s.zarr"
    codec = data.draw(st.sampled_from(["none", "lossless"]), "codec")
    record = make_record(corpus, frames=25, width=width, shard_clips=shard_clips, codec=codec)
    fill_store(url, record, corpus, states, failed=dict.fromkeys(failed, "0 bytes"))
    store = FeatureStore.open(url)
    np.testing.assert_array_equal(store.read(rows), states[rows])
    assert store.rows().tolist() == usable


def test_a_shard_is_asked_for_its_index_once_and_for_neighbours_together(
    both: Callable[..., tuple[Path, str]], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.store.reader._REMOTE_THREADS", 1)
    _, url = both(shard_clips=5)
    store = FeatureStore.open(url)
    store.clips, store.speech_frames([0])
    for rows, requests in ([0, 1, 2, 5, 6], 6), ([0, 1, 2, 5, 6], 2), ([8, 2], 2):
        s3.requests.clear()
        store.read(rows)
        assert len(s3.requests) == requests


def test_opening_reads_ends_of_the_table_alone(both: Callable[..., tuple[Path, str]], s3: S3) -> None:
    _, url = both()
    s3.requests.clear()
    FeatureStore.open(url)
    assert all(asked or method == "HEAD" for method, path, asked in s3.requests if path.endswith("parquet"))


def test_loaders_and_pickles_work(both: Callable[..., tuple[Path, str]]) -> None:
    stores = [pickle.loads(pickle.dumps(FeatureStore.open(where))) for where in both()]
    local, remote = (
        [(batch.rows.tolist(), batch.states.copy()) for batch in ShuffledClips(store, batch_size=2, seed=1)]
        for store in stores
    )
    assert [rows for rows, _ in remote] == [rows for rows, _ in local]
    for (_, theirs), (_, ours) in zip(remote, local, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_what_is_no_store_is_told(both: Callable[..., tuple[Path, str]], bucket: str) -> None:
    _, url = both()
    with pytest.raises(RequestError, match="there is no feature store") as raised:
        FeatureStore.open(f"{bucket}/nothing.zarr")
    assert "nothing at this address" in str(raised.value)
    objects = Objects.open(url)
    objects.write("zarr.json", b"{")
    with pytest.raises(
        EmonetError, match=r"zarr.json is damaged.*\n.*\n.*\n.*states, shards, clips.parquet are still there"
    ):
        FeatureStore.open(url)


def test_damage_is_told(both: Callable[..., tuple[Path, str]]) -> None:
    _, url = both()
    objects, shard = Objects.open(url), "states/c/1/0/0"
    whole = objects.read(shard)
    for content, message in (
        (whole[:30], "has 30 bytes, its index alone"),
        (whole[100:], "ends after|CRC-32C"),
        (b"X" + whole[1:], "CRC-32C"),
        (whole[:-1] + b"X", "index of its shard is damaged"),
    ):
        objects.write(shard, content)
        with pytest.raises(EmonetError, match=rf"states of clip 'm/4' cannot be read: .*({message})"):
            FeatureStore.open(url).read([4])
    objects.delete([shard])
    with pytest.raises(EmonetError, match="its chunk is missing"):
        FeatureStore.open(url).read([4])
    table = objects.read("clips.parquet")
    objects.write("clips.parquet", table[:-20])
    with pytest.raises(EmonetError, match="table of clips is damaged"):
        FeatureStore.open(url)


@pytest.mark.slow  # half a second of patience at each try
def test_a_server_that_goes_away_while_reading(
    both: Callable[..., tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = both()
    server = S3()
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    url = f"{server.bucket()}/s.zarr"
    objects = Objects.open(url)
    for file in path.rglob("*"):
        if file.is_file():
            objects.write(file.relative_to(path).as_posix(), file)
    store = FeatureStore.open(url)
    store.read([0])
    server.stop()
    with pytest.raises(EmonetError, match="object store does not read this"):
        store.read([0, 5])


def test_markers_are_listed(both: Callable[..., tuple[Path, str]]) -> None:
    for where in both():
        assert marked_shards(place(where)) == {0, 1, 2}
