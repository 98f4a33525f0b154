from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.rows import Row, interleaved_seconds, machine, publish

ROWS = (
    Row("ours, end to end", 1.0421, "s/clip", "float32 [one] at a time", ratio=2.4, reach=3.5),
    Row("ours, end to end", 1.0421, "s/clip", "limit", ratio=0.81, reach=0.6),
    Row("stored", 1_902_331.0, "bytes/clip"),
)


def test_rows_are_written_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs" / "bench" / "extract.json"
    publish(ROWS, path, title="extract", about={"clips": 24, "versions": {"torch": "2"}})
    content = json.loads(path.read_text())
    assert content["machine"] == machine()
    assert content["about"] == {"clips": 24, "versions": {"torch": "2"}}
    assert [Row(**row) for row in content["rows"]] == list(ROWS)
    assert list(content["rows"][0]) == ["name", "figure", "unit", "peer", "ratio", "reach"]
    assert content["rows"][2]["ratio"] is None
    assert [other.name for other in path.parent.iterdir()] == ["extract.json"]


def test_rows_are_printed_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    publish(ROWS, tmp_path / "a.json", title="extract [24]", about={})
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert "extract [24]" in printed
    assert any(all(part in line for part in ("[one] at a time", "2.40", "3.50", "short")) for line in lines)
    assert any(all(part in line for part in ("limit", "0.81", "0.60", "met")) for line in lines)
    assert any("1,902,331" in line and "met" not in line and "short" not in line for line in lines)
    assert str(tmp_path / "a.json") in printed.replace("\n", "")


def test_a_figure_that_is_none_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        publish([Row("x", float("nan"), "s")], tmp_path / "a.json", title="x", about={})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(("ratio", "reach", "verdict"), [(1.0, 1.0, "met"), (0.99, 1.0, "short"), (2.0, None, "")])
def test_a_ratio_at_its_reach_meets_it(ratio: float, reach: float | None, verdict: str) -> None:
    assert Row("x", 1.0, "s", "peer", ratio, reach).verdict == verdict


def test_interleaved_calls_take_turns() -> None:
    order: list[str] = []
    taken = interleaved_seconds({"a": lambda: order.append("a"), "b": lambda: time.sleep(0.01)}, repeats=3, warmup=2)
    assert order == ["a"] * 5
    assert [len(taken[name]) for name in ("a", "b")] == [3, 3]
    assert min(taken["b"]) >= 0.01 > max(taken["a"])
