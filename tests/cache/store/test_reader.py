from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cache.store.reader
import cache.store.threads
from cache.store import ExtractionRecord, FeatureStore, shard_file
from emonet.clips import SPLITS, Clip, Corpus
from emonet.errors import EmonetError, RequestError
from emonet.targets import EMOTIONS

Fill = Callable[..., str]


def corpus_of(clips: int) -> Corpus:
    """Clips whose audio nobody reads; every second one is rated."""
    return Corpus(
        "made",
        tuple(
            Clip(
                f"m/{row}",
                b"x",
                f"m/{SPLITS[row % 3]}",
                SPLITS[row % 3],
                scores={"fear": float(row % 5)} if row % 2 else {},
            )
            for row in range(clips)
        ),
        note="a note",
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back(
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., ExtractionRecord],
    fill_store: Fill,
) -> None:
    clips = data.draw(st.integers(1, 12), "clips")
    frames, width = data.draw(st.integers(25, 60), "frames"), data.draw(st.integers(1, 9), "width")
    failed = data.draw(st.sets(st.integers(0, clips - 1), max_size=clips - 1), "failed")
    usable = sorted(set(range(clips)) - failed)
    rows = data.draw(st.lists(st.sampled_from(usable), max_size=20), "rows")
    shard_clips = data.draw(st.integers(1, 7), "shard_clips")
    codec = data.draw(st.sampled_from(["none", "lossless"]), "codec")

    path = tmp_path_factory.mktemp("store") / "s.zarr"
    states = np.random.default_rng(clips).normal(0, 5, (clips, frames, width)).astype(np.float16)
    states[usable[0]] = 0  # zeros are values, not absence
    corpus = corpus_of(clips)
    record = make_record(corpus, frames=frames, width=width, shard_clips=shard_clips, codec=codec)
    # Clip lengths are 0.1 s times (row + 1).
    fill_store(
        path, record, corpus, states, failed=dict.fromkeys(failed, "0 bytes"), seconds=lambda row: 0.1 * (row + 1)
    )

    store = FeatureStore.open(path)
    np.testing.assert_array_equal(store.read(rows), states[rows])
    assert store.rows().tolist() == usable
    for split in SPLITS:
        assert store.rows(split).tolist() == [row for row in usable if corpus.clips[row].split == split]
    np.testing.assert_array_equal(store.scores(rows), corpus.scores()[rows])
    expected = [min(frames, max(1, round(5 * (row + 1)))) for row in rows]
    assert store.speech_frames(rows).tolist() == expected
    for row in failed:
        with pytest.raises(RequestError, match=f"clip 'm/{row}' has no states: 0 bytes"):
            store.read([row])


@pytest.fixture
def store(
    tmp_path: Path,
    make_record: Callable[..., ExtractionRecord],
    some_states: Callable[..., np.ndarray],
    fill_store: Fill,
) -> Path:
    corpus = corpus_of(10)
    fill_store(tmp_path / "s.zarr", make_record(corpus), corpus, some_states(10), failed={3: "0 bytes"})
    return tmp_path / "s.zarr"


def test_plain_zarr_opens_it(store: Path, some_states: Callable[..., np.ndarray]) -> None:
    group = zarr.open(store, mode="r")
    array = group["states"]
    assert array.shape == (10, 50, 8)
    assert array.dtype == np.float16
    assert array.chunks == (1, 50, 8)
    assert array.shards == (4, 50, 8)
    assert group.attrs["record"]["format_version"] == 2
    states = some_states(10)
    np.testing.assert_array_equal(array[4:8], states[4:8])
    assert np.isnan(array[3]).all()


def test_only_codecs_of_the_core_specification(store: Path) -> None:
    metadata = (store / "states" / "zarr.json").read_text()
    names = {part.split('"')[1] for part in metadata.split('"name":')[1:]}
    assert names == {"regular", "default", "sharding_indexed", "bytes", "blosc", "crc32c", "transpose"}


def test_the_table_and_what_the_store_says_of_itself(store: Path) -> None:
    opened = FeatureStore.open(store)
    assert list(opened.clips.columns[:7]) == [
        "id", "split", "speaker", "language", "seconds", "speech_frames", "failed",
    ]  # fmt: skip
    assert tuple(opened.clips.columns[9:]) == EMOTIONS.ids
    assert opened.clips["failed"].tolist() == [None, None, None, "0 bytes", *[None] * 6]
    assert np.isnan(opened.clips["seconds"][3])
    assert opened.clips["speech_frames"][3] == 0
    assert (opened.targets, opened.note, len(opened)) == (EMOTIONS, "a note", 10)
    assert len(opened.fingerprint) == 64
    assert not list(store.rglob("*.partial"))


def test_the_fingerprint_follows_the_content(
    tmp_path: Path,
    make_record: Callable[..., ExtractionRecord],
    some_states: Callable[..., np.ndarray],
    fill_store: Fill,
) -> None:
    corpus, states = corpus_of(5), some_states(5)
    record = make_record(corpus)
    first = fill_store(tmp_path / "a.zarr", record, corpus, states)
    assert fill_store(tmp_path / "b.zarr", record, corpus, states) == first
    assert fill_store(tmp_path / "c.zarr", record, corpus, states, failed={2: "0 bytes"}) != first
    states[4, 0, 0] += 1
    assert fill_store(tmp_path / "d.zarr", record, corpus, states) != first


def test_another_record_is_refused_field_by_field(store: Path) -> None:
    record = FeatureStore.open(store).record
    assert FeatureStore.open(store, expect=record.model_copy(update={"encoder": "elsewhere"})).record == record
    other = record.model_copy(update={"encoder_digest": "0" * 64, "precision": "bf16"})
    with pytest.raises(RequestError) as caught:
        FeatureStore.open(store, expect=other)
    message = str(caught.value)
    assert f"encoder_digest: the store has {'d' * 64}, wanted {'0' * 64}" in message
    assert "precision: the store has float32, wanted bf16" in message
    assert "width" not in message
    assert "--force" in message


def test_a_missing_shard_is_an_error_and_not_zeros(store: Path) -> None:
    shard_file(store, 1).unlink()
    opened = FeatureStore.open(store)
    assert opened.read([0, 9]).shape == (2, 50, 8)
    with pytest.raises(EmonetError, match=r"(?s)clip 'm/5'.*its chunk is missing.*shard 1.*emonet store repair"):
        opened.read([0, 5])


def test_damage_is_told_when_nobody_writes_into_the_states_any_more(
    store: Path, some_states: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread reads a shard that is lost, another one a whole shard, slowly."""
    shard_file(store, 0).unlink()
    monkeypatch.setattr(cache.store.reader, "THREADS", 2)
    monkeypatch.setattr(cache.store.threads, "_pools", {})
    read = cache.store.reader.read_chunk
    begun = threading.Event()

    def slow(file: int, place: tuple[int, int]) -> bytes:
        begun.set()
        time.sleep(0.05)
        return read(file, place)

    monkeypatch.setattr(cache.store.reader, "read_chunk", slow)
    out, reading = np.zeros((6, 50, 8), np.float16), FeatureStore._read

    def after_the_other(self: FeatureStore, clips: list[tuple[int, int]], *rest: Any) -> None:
        if clips and clips[0][0] == 0:
            assert begun.wait(10)
        reading(self, clips, *rest)

    monkeypatch.setattr(FeatureStore, "_read", after_the_other)
    with pytest.raises(EmonetError, match=r"clip 'm/0'.*its chunk is missing"):
        FeatureStore.open(store).read([0, 1, 2, 4, 5, 6], out=out)
    np.testing.assert_array_equal(out[3:], some_states(10)[4:7])
    assert not out[:3].any()


def test_threads_that_read_first_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find none and make one; the slower of them takes the other's."""
    monkeypatch.setattr(cache.store.threads, "_pools", {-1: None})  # as after a fork
    both, made = threading.Barrier(2), iter([0.0, 0.2])

    def make(*args: Any, **kwargs: Any) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(*args, **kwargs)
        both.wait(10)
        time.sleep(next(made))
        return pool

    monkeypatch.setattr(cache.store.threads, "ThreadPoolExecutor", make)
    with ThreadPoolExecutor(2) as threads:
        first, second = (
            asked.result() for asked in [threads.submit(cache.store.threads.reading_pool) for _ in range(2)]
        )
    assert first is second


def test_a_damaged_shard_is_an_error(store: Path) -> None:
    file = shard_file(store, 0)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(EmonetError, match=r"(?s)cannot be read: .*checksum.*shard 0"):
        FeatureStore.open(store).read([0, 1, 2])


@pytest.mark.parametrize("row", [-1, 10])
def test_a_row_out_of_range_is_refused(store: Path, row: int) -> None:
    with pytest.raises(RequestError, match=rf"(?s)no such row.*0 to 9.*{row}"):
        FeatureStore.open(store).read([row])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(10, bool), r"(?s)rows are numbers, not a mask.*whole numbers from 0 to 9.*try: +np\.flatnonzero\(mask\)"),
        ([True, False], "rows are numbers, not a mask"),
        (np.array([0.0, 1.5]), r"(?s)rows are whole numbers.*found: +float64"),
        ([1, 2.0], "rows are whole numbers"),
        (["1"], "rows are whole numbers"),
        ([None], "rows are whole numbers"),
        (3, r"(?s)plain list of numbers.*found: +3 alone.*try: +\[3\]"),
        (np.int64(3), r"(?s)plain list of numbers.*try: +\[3\]"),
        (np.zeros((2, 2), int), r"(?s)plain list of numbers.*found: +an array of shape \(2, 2\)"),
        ([[1], [2, 3]], "plain list of numbers"),
        ([0, 99], r"(?s)no such row.*0 to 9.*found: +99"),
        ([2**70], "rows are whole numbers"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused(rows: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        cache.store.reader._numbers(rows, 10, Path("s.zarr"))


@pytest.mark.parametrize("rows", [[], (3, 1, 3), range(2, 5), np.array([3, 1], np.uint8)])
def test_any_list_of_whole_numbers_will_do(rows: Any) -> None:
    found = cache.store.reader._numbers(rows, 10, Path("s.zarr"))
    assert found.dtype == np.int64
    assert found.tolist() == list(rows)


def test_every_way_in_refuses_the_same(store: Path) -> None:
    """In a process that checks no annotations, as a user's."""
    code = """if True:
        import json, sys
        import numpy as np
        from cache.store import FeatureStore
        from emonet.errors import RequestError
        store, told = FeatureStore.open(sys.argv[1]), []
        for call in (store.read, store.scores, store.speech_frames, store.rows):
            for asked in (np.arange(10) > 5, [99], [-1], 3, "trian"):
                try:
                    call(asked)
                except RequestError as error:
                    told.append([call.__name__, str(error)])
        print(json.dumps(told))
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    told = json.loads(done.stdout)
    for name in ("read", "scores", "speech_frames"):
        messages = [message for call, message in told if call == name]
        for message, begins in zip(
            messages, ("rows are numbers", "the store", "the store", "rows", "rows"), strict=True
        ):
            assert message.startswith(begins)
    trian = told[-1][1].splitlines()
    assert trian[0] == "there is no such split"
    assert trian[2:] == ["  expected: train, validation, test", "  found:    'trian'"]


def test_a_store_says_what_it_is(store: Path) -> None:
    assert repr(FeatureStore.open(store)) == f"FeatureStore('{store}', 10 clips x 50 x 8, lossless)"
    golden = Path(__file__).parents[2] / "data" / "golden-store" / "v2" / "speech.zarr"
    assert repr(FeatureStore.open(golden)).endswith(", only states that hear the clip)")


def test_reading_nothing(store: Path) -> None:
    assert FeatureStore.open(store).read([]).shape == (0, 50, 8)


def test_what_is_no_store_is_named(tmp_path: Path, store: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no feature store.*no such folder.*emonet extract"):
        FeatureStore.open(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(RequestError, match="not a feature store of emonet"):
        FeatureStore.open(tmp_path / "other.zarr")
    metadata = store / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(
        RequestError, match=r"(?s)another format version.*expected: 2.*found: +9.*try: +emonet .*--force"
    ):
        FeatureStore.open(store)


@pytest.mark.parametrize(
    "attributes", ["[]", '{"format": "emonet-feature-store"}', '{"format": "emonet-feature-store", "record": 3}']
)
def test_attributes_of_something_else_are_named(store: Path, attributes: str) -> None:
    (store / "zarr.json").write_text('{"attributes": ' + attributes + "}")
    with pytest.raises(EmonetError, match=r"attributes of the store are damaged|the store's zarr\.json is damaged"):
        FeatureStore.open(store)


def test_what_lies_where_a_store_should_be_does_not_send_in_circles(tmp_path: Path) -> None:
    """`emonet extract` refuses both, so neither may be told to type just that."""
    path = tmp_path / "s.zarr"
    path.mkdir()
    with pytest.raises(RequestError) as caught:
        FeatureStore.open(path)
    assert str(caught.value).splitlines() == [
        "there is no feature store",
        f"  where:    {path}",
        "  found:    an empty folder",
        "  try:      emonet extract --force, which makes the store anew",
    ]
    (path / "thesis.tex").touch()
    with pytest.raises(
        RequestError,
        match=r"(?s)a folder with no readable zarr\.json.*try: +name the folder of a store; .* move what it",
    ):
        FeatureStore.open(path)


def test_another_folder_of_an_experiment_names_its_store(store: Path) -> None:
    """Nothing may be told to remove what was named by mistake."""
    experiment = store.rename(store.with_name("store.zarr")).parent
    captioner = experiment / "captioner"
    captioner.mkdir()
    (captioner / "model.safetensors").touch()
    for wrong in (experiment, captioner, experiment / "sotre.zarr"):
        with pytest.raises(
            RequestError, match=rf"(?s)no feature store.*did you mean {experiment}/store\.zarr\?"
        ) as told:
            FeatureStore.open(wrong)
        assert "remove" not in str(told.value)
    with pytest.raises(RequestError, match=r"(?s)no feature store.*expected: +a folder.*found: +a file"):
        FeatureStore.open(captioner / "model.safetensors")


@pytest.mark.parametrize(("content", "state"), [(None, "missing"), ("{", "damaged"), ("{}", "damaged")])
def test_a_store_that_has_lost_its_attributes_alone_says_so(store: Path, content: str | None, state: str) -> None:
    if content is None:
        (store / "zarr.json").unlink()
    else:
        (store / "zarr.json").write_text(content)
    message = rf"(?s)the store's zarr\.json is {state}.*states, shards, clips\.parquet are still there.*emonet extract --force"
    with pytest.raises(EmonetError, match=message) as told:
        FeatureStore.open(store)
    assert told.value.exit_code == 1
    shutil.rmtree(store / "shards")
    with pytest.raises(EmonetError, match=rf"(?s)zarr\.json is {state}.*found: +states, clips.*move what it holds"):
        FeatureStore.open(store)


def test_an_unfinished_store_says_to_extract_again(store: Path) -> None:
    (store / "clips.parquet").unlink()
    with pytest.raises(RequestError, match=r"(?s)did not finish.*emonet extract"):
        FeatureStore.open(store)


def test_a_damaged_table_is_named(store: Path) -> None:
    (store / "clips.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(EmonetError, match=r"(?s)table of clips is damaged.*clips\.parquet"):
        FeatureStore.open(store)


def _read_in_child(store: FeatureStore, answers: multiprocessing.SimpleQueue[np.ndarray]) -> None:
    answers.put(store.read([1, 8]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_another_process_reads_it_too(store: Path, method: str) -> None:
    opened = FeatureStore.open(store)
    expected = opened.read([1, 8])  # the parent has threads from here on
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    child = context.Process(target=_read_in_child, args=(opened, answers))
    child.start()
    np.testing.assert_array_equal(answers.get(), expected)
    child.join()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened)).read([1, 8]), expected)


def test_opening_reads_no_row_of_the_table(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the table was read")

    monkeypatch.setattr("cache.store.reader.read_table", refuse)
    opened = FeatureStore.open(store)
    assert len(opened) == 10
    assert opened.read([0, 9]).shape == (2, 50, 8)
    with pytest.raises(AssertionError, match="the table was read"):
        opened.rows()


def test_reading_into_an_array(store: Path, some_states: Callable[..., np.ndarray]) -> None:
    opened, out = FeatureStore.open(store), np.zeros((2, 50, 8), np.float16)
    assert opened.read([7, 1], out=out) is out
    np.testing.assert_array_equal(out, some_states(10)[[7, 1]])
    with pytest.raises(RequestError, match=r"(?s)do not fit.*float16 \(2, 50, 8\), C-contiguous.*float16 \(3, 50, 8\)"):
        opened.read([7, 1], out=np.zeros((3, 50, 8), np.float16))


def test_labels_and_what_they_stand_for_are_kept(
    tmp_path: Path, make_record: Callable[..., ExtractionRecord], fill_store: Fill
) -> None:
    plain = corpus_of(3)
    labels = ("cross", None, "neutral")
    clips = tuple(replace(clip, label=label) for clip, label in zip(plain.clips, labels, strict=True))
    record, states = make_record(plain), np.zeros((3, 50, 8), np.float16)
    fill_store(tmp_path / "old.zarr", record, plain, states)
    labelled = replace(plain, clips=clips, classes={"cross": "anger", "neutral": None})
    fill_store(tmp_path / "new.zarr", record, labelled, states)
    old, new = FeatureStore.open(tmp_path / "old.zarr"), FeatureStore.open(tmp_path / "new.zarr")
    assert (new.labels([2, 0, 1]), new.classes) == (["neutral", "cross", None], {"cross": "anger", "neutral": None})
    assert (old.labels([2, 0]), old.classes) == ([None, None], {})
    assert old.fingerprint == new.fingerprint
    assert "label" not in old.clips
    attributes = json.loads((new.path / "zarr.json").read_text())
    attributes["attributes"]["classes"] = {"cross": 3}
    (new.path / "zarr.json").write_text(json.dumps(attributes))
    with pytest.raises(RequestError, match="attributes of the store are damaged"):
        FeatureStore.open(new.path).classes  # noqa: B018 read from disk


def test_other_splits_over_the_same_states(store: Path) -> None:
    own = FeatureStore.open(store)
    table = own.clips.copy()
    splits = [None, *("test" if row % 2 else "train" for row in range(1, len(own)))]
    other = own.with_splits(splits)
    usable = own.rows()
    assert other.rows().tolist() == usable.tolist()
    for split in SPLITS:
        assert other.rows(split).tolist() == [row for row in usable if splits[row] == split]
    assert other.clips["split"].tolist() == splits
    assert (other.fingerprint, own.division) == (own.fingerprint, "")
    assert other.division != own.with_splits(splits[::-1]).division
    np.testing.assert_array_equal(other.read(usable[:3]), own.read(usable[:3]))
    np.testing.assert_array_equal(other.scores(usable), own.scores(usable))
    assert own.clips.equals(table), "the store itself is as it was"
    assert own.rows("train").tolist() == FeatureStore.open(store).rows("train").tolist()
    assert pickle.loads(pickle.dumps(other)).rows("test").tolist() == other.rows("test").tolist()
    with pytest.raises(ValueError, match=f"1 splits for {len(own)} clips"):
        own.with_splits(["train"])
