from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.store import open_array, shard_file
from cache.verify import verify
from cache.writer import StoreWriter, marker_file
from emonet.errors import RequestError

Make = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path, make_corpus: Make, make_record: Make, some_states: Make) -> Path:
    """Ten clips in three shards; row 3 failed, and so did all of the last shard."""
    corpus, states = make_corpus(10), some_states(10)
    failed = {3, 8, 9}
    with StoreWriter(tmp_path / "s.zarr", make_record(corpus), corpus) as writer:
        for shard in writer.pending():
            rows = writer.record.rows(shard)
            failures = {row: "0 bytes" for row in rows if row in failed}
            seconds = [None if row in failed else 1.0 for row in rows]
            writer.write(shard, states[rows.start : rows.stop], seconds, failures)
        writer.finish()
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


def test_a_shard_of_another_size_is_seen_at_once(store: Path) -> None:
    file = shard_file(store, 1)
    file.write_bytes(file.read_bytes()[:-7])
    report = verify(store)
    assert report.exit_code == 1
    assert "shard 1 (clips 't/004' to 't/007')" in report.problems[0]
    assert f"rm -f {store}/shards/00001.json" in report.problems[0]


def test_a_missing_shard_is_seen(store: Path) -> None:
    shard_file(store, 0).unlink()
    assert "is missing" in verify(store).problems[0]
    deep = verify(store, deep=True).problems
    assert "clip 't/000': its chunk is missing" in " ".join(deep)


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
    assert "clip 't/000': its chunk is damaged" in problems[0]


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
