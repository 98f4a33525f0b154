"""Optuna's pictures of a study: by its first objective, with what diverged left out and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from experiments.sweep import Study, plan_of
from experiments.sweep import plots as sweep_plots
from experiments.sweep.plots import study_figures
from tests.experiments.sweep.fakes import fake_experiment

ERRORS = {0: 0.4, 2: 0.3, 3: 0.35, 4: 1e6, 5: 0.31, 6: 0.32, 7: 0.33, 8: 0.34, 9: 0.36, 10: 0.37, 11: 0.38, 12: 0.39}


def studied(tmp_path: Path, errors: dict[int, float], **sweep: Any) -> Study:
    study = Study(plan_of(fake_experiment(tmp_path, trials=50, pruner="none", **sweep), "fake-study"))
    for number in range(max(errors, default=0) + 1):
        attempt = study.attempt()
        assert attempt is not None
        if number in errors:
            attempt.complete({"mae": errors[number], "pearson": -errors[number], "parameters": 1.0}, {})
        else:
            attempt.fail("bad luck")
    return study


@pytest.mark.parametrize("objectives", [["mae"], ["pearson", "parameters"]])
def test_a_diverged_trial_is_told_and_the_others_keep_their_numbers(
    objectives: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    write = sweep_plots._write
    monkeypatch.setattr(sweep_plots, "_write", lambda axes, *rest: drawn.append(axes) or write(axes, *rest))
    style, figures = dict(mpl.rcParams), plt.get_fignums()
    study = studied(tmp_path, ERRORS, objectives=objectives)
    files = study_figures(study, tmp_path / "plots")
    assert sorted(path.name for path in files) == [
        "history.png",
        "importance.png",
        "parallel_coordinates.png",
        "slices.png",
    ]
    _, history, *_ = drawn
    points, *_ = history.collections
    assert sorted(points.get_offsets()[:, 0]) == [number for number in ERRORS if number != 4]
    [best] = history.get_lines()
    assert best.get_ydata()[-1] == (0.3 if objectives == ["mae"] else -0.3)
    assert history.get_ylabel().endswith("(1 much worse not shown)")
    assert {name: mpl.rcParams[name] for name in style if name != "backend"} == {
        name: value for name, value in style.items() if name != "backend"
    }
    assert plt.get_fignums() == figures


@pytest.mark.parametrize("errors", [{}, {0: 0.3}])
def test_few_trials(errors: dict[int, float], tmp_path: Path) -> None:
    files = study_figures(studied(tmp_path, errors), tmp_path / "plots")
    assert len(files) == (3 if errors else 0)
    assert all(path.stat().st_size > 10_000 for path in files)
