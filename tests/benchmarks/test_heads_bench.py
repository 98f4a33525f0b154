from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from benchmarks import heads_forward
from benchmarks.heads import _banked, accuracy_rows, cost_rows, epoch_rows, forward_rows
from benchmarks.heads_accuracy import Accuracy
from benchmarks.heads_costs import cost_figure
from benchmarks.heads_forward import Forward, compact, measure_forward, one_by_one, write_published
from benchmarks.heads_training import Coordinates, Epoch

pytestmark = pytest.mark.numeric


def test_epochs_are_extrapolated_by_clips_and_experts() -> None:
    single = Epoch(clips=128, reading=1.0, steps=(9.0, 0.5, 0.7, 0.6), experts=1)
    assert single.step == 0.6  # without the first
    assert single.seconds(256) == pytest.approx(2.0 + 4 * 0.6)
    bank = Epoch(clips=128, reading=1.0, steps=(9.0, 2.0), experts=8)
    seconds, passes = _banked(bank, "float32", 256, 8)
    assert seconds == pytest.approx(passes * 2.0 + 4 * 2.0)
    rows = epoch_rows(single, {"float32": bank}, 256, 8)
    assert [row.ratio for row in rows[1:]] == [pytest.approx(8 * 4.4 / seconds), pytest.approx(8 / passes)]


def test_rows_name_what_they_are_compared_with() -> None:
    forward = Forward({("one by one", 32): 1.0, ("int8", 32): 0.25}, {"int8": 0.02}, {"one by one": 400, "int8": 100})
    rows = {row.name: row for row in forward_rows(forward, 40)}
    assert rows["forward, 32 clips, bank in int8"].ratio == 4.0
    assert rows["forward, 32 clips, bank in int8"].verdict == "met"
    assert rows["memory of weights, int8"].ratio == 4.0
    found = Coordinates(clips=1000, basis=6.0, epochs=4.0, lifting=9.0, difference=2e-4)
    costs = {"one by one": {1000: 6000.0}, "bank, float32": {1000: 900.0}, "principal coordinates": {1000: 10.0}}
    rows = {(row.name, row.peer): row for row in cost_rows(costs, found, 1000)}
    assert [row.verdict for row in rows.values()] == ["met", "short", "", "", "", "met"]
    names = [row.verdict for row in accuracy_rows(Accuracy(360, 0.40, 0.40, 0.41, 0.39))]
    assert names == ["short", "met", "", ""]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    costs = {"one by one": {250: 3e3, 1000: 1e4}, "principal coordinates": {250: 4.0, 1000: 9.0}}
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    cost_figure(costs, paths[0], title="t", ours="principal coordinates")
    cost_figure({**costs, "bank": {250: 100.0, 1000: 400.0}}, paths[1], title="t", ours="principal coordinates")
    first, second = (imread(path) for path in paths)
    assert first.shape == second.shape
    assert (first != second).any()


@pytest.mark.slow
def test_all_ways_forward_give_the_same_scores(tmp_path: Path) -> None:
    write_published(tmp_path / "experts", 1)
    states = torch.randn(32, heads_forward.FRAMES, heads_forward.WIDTH).half()
    banks = {"int8": compact(tmp_path / "experts", "int8")}
    found = measure_forward(one_by_one(tmp_path / "experts", 1), banks, states, repeats=1)
    assert set(found.seconds) == {(name, clips) for name in ("one by one", "int8") for clips in (1, 32)}
    assert found.errors["int8"] < 0.1
    assert found.bytes["one by one"] / found.bytes["int8"] == pytest.approx(4, rel=0.01)
