from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.maintenance import verify
from cache.store import FeatureStore, marker_file, open_array, shard_file
from emonet.errors import EmonetError, RequestError

Make = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make) -> Path:
    """Ten clips in three shards; row 3 failed, and so did all of the last shard."""
    corpus, states = make_corpus(10), some_states(10)
    failed = dict.fromkeys((3, 8, 9), "0 bytes")
    fill_store(tmp_path / "s.zarr", make_record(corpus), corpus, states, failed=failed)
    return tmp_path / "s.zarr"


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_store_has_no_problems(store: Path, deep: bool) -> None:
    calls: list[tuple[int, int]] = []
    report = verify(store, deep=deep, progress=lambda done, total: calls.append((done, total)))
    assert report.problems == ()
    assert report.exit_code == 0
    assert (report.clips, report.failed, report.shape) == (10, 3, (10, 50, 8))
    assert [failure.id for failure in report.failures] == ["t/003", "t/008", "t/009"]
    assert report.bytes_raw == 7 * 50 * 8 * 2
    assert calls[0] == (0, 10)
    assert calls[-1] == (10, 10)
    assert not shard_file(store, 2).exists()


@pytest.fixture
def speech(tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make, fill_store: Make) -> Path:
    """Ten clips in three shards, of which only the states that hear the clip are kept, as int8."""
    corpus, silence = make_corpus(10), some_states(1, seed=9)[0]
    record = make_record(corpus, codec="int8", kept="speech")
    fill_store(tmp_path / "p.zarr", record, corpus, some_states(10), silence=lambda: silence)
    return tmp_path / "p.zarr"


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "content", [lambda whole: whole[:-9], lambda whole: b"{}", lambda whole: b"[]", lambda whole: b"7"]
)
@pytest.mark.parametrize("name", ["states", "scales", "silence"])
def test_damaged_metadata_of_any_array_are_one_problem(
    speech: Path, name: str, content: Callable[[bytes], bytes], deep: bool
) -> None:
    metadata = speech / name / "zarr.json"
    metadata.write_bytes(content(metadata.read_bytes()))
    report = verify(speech, deep=deep)
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"the metadata of the array {name} cannot be read: ")
    assert report.damaged == ()


def test_metadata_of_another_array_are_seen(speech: Path) -> None:
    (speech / "silence" / "zarr.json").write_bytes((speech / "scales" / "zarr.json").read_bytes())
    assert verify(speech).problems == ("the array silence is float32 (10, 8), the record says float16 (50, 8)",)


@pytest.mark.parametrize("deep", [False, True])
def test_lost_silence_is_one_problem_that_no_shard_is_to_blame_for(speech: Path, deep: bool) -> None:
    file = speech / "silence" / "c" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(content)
    report = verify(speech, deep=deep)
    assert (report.problems, report.damaged) == (("the mean of silence cannot be read; every clip needs it",), ())
    file.unlink()
    assert verify(speech, deep=deep).problems == ("the mean of silence is missing; every clip needs it",)


def test_a_shard_of_another_size_is_seen_at_once(store: Path) -> None:
    file = shard_file(store, 1)
    file.write_bytes(file.read_bytes()[:-7])
    report = verify(store)
    assert report.exit_code == 1
    assert "shard 1 (clips 't/004' to 't/007')" in report.problems[0]
    assert report.damaged == (1,)


def test_a_missing_shard_is_seen(store: Path) -> None:
    shard_file(store, 0).unlink()
    for deep in (False, True):
        report = verify(store, deep=deep)
        assert "shard 0 (clips 't/000' to 't/003') is missing, its marker says" in report.problems[0]
        assert report.damaged == (0,)


def test_a_missing_marker_is_seen(store: Path) -> None:
    marker_file(store, 2).unlink()
    assert any("marker of shard 2 cannot be read" in problem for problem in verify(store).problems)


def test_a_flipped_bit_is_seen_by_the_deep_look_only(store: Path) -> None:
    file = shard_file(store, 0)
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)
    assert verify(store).problems == ()
    problems = verify(store, deep=True).problems
    assert len(problems) == 1
    assert "the states of clip 't/000' cannot be read: its checksum (CRC-32C) is wrong" in problems[0]


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "all zero"), (np.inf, "not finite"), (0.25, "other states than were written")]
)
def test_values_written_past_us_are_seen_by_the_deep_look(store: Path, value: float, message: str) -> None:
    size = marker_file(store, 1)
    before = shard_file(store, 1).stat().st_size
    open_array(store, mode="r+")[5] = np.full((50, 8), value, np.float16)
    after = shard_file(store, 1).stat().st_size
    size.write_text(size.read_text().replace(f'"stored_bytes":{before}', f'"stored_bytes":{after}'))
    assert verify(store).problems == ()
    assert any(message in problem for problem in verify(store, deep=True).problems)


def test_a_table_that_lists_other_failures_is_seen(store: Path) -> None:
    marker = marker_file(store, 0)
    marker.write_text(marker.read_text().replace('"3":"0 bytes"', '"2":"0 bytes"'))
    problems = " ".join(verify(store).problems)
    assert "list different failed clips" in problems
    assert "fingerprint" in problems


def test_leftovers_are_seen(store: Path) -> None:
    (store / "states" / "c" / "0" / "x.partial").touch()
    assert "left by a killed writer" in verify(store).problems[0]


def test_an_unfinished_store_is_refused(store: Path) -> None:
    (store / "clips.parquet").unlink()
    with pytest.raises(RequestError, match="did not finish"):
        verify(store)


@pytest.mark.slow
def test_no_flipped_bit_in_the_table_changes_a_score_unnoticed(store: Path) -> None:
    table = store / "clips.parquet"
    whole, before = table.read_bytes(), FeatureStore.open(store).clips
    harmless = 0
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        table.write_bytes(damaged)
        with suppress(EmonetError):  # which says that the table is damaged
            if not verify(store).problems:  # a byte that nobody reads
                assert FeatureStore.open(store).clips.equals(before)
                harmless += 1
    assert harmless < len(whole) / 37 / 2


@pytest.mark.parametrize("change", ['"shard":0 -> "shard":1', '"seconds":[1.0, -> "seconds":[1.0,1.0,'])
def test_a_marker_of_another_shard_is_seen(store: Path, change: str) -> None:
    marker, (old, new) = marker_file(store, 0), change.split(" -> ")
    text = marker.read_text().replace("[0.5,", "[1.0,")
    assert old in text
    marker.write_text(text.replace(old, new))
    report = verify(store)
    assert report.damaged == (0,)
    assert "marker of shard 0 cannot be read" in report.problems[0]
