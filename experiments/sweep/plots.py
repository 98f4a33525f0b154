"""Plots of a study, drawn by Optuna: its history, what matters, every trial's settings."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib import pyplot as plt
from optuna.trial import TrialState, create_trial
from optuna.visualization import matplotlib as optunas

from emonet.evaluation import DPI
from experiments.core import HIGHER
from experiments.sweep.studies import Study

HISTORY, IMPORTANCE, PARALLEL, SLICES = "history.png", "importance.png", "parallel_coordinates.png", "slices.png"
_LABELS = {
    "mae": "validation MAE",
    "pearson": "validation Pearson",
    "ua": "validation UA",
    "loss": "validation loss (nats per token)",
}


def study_figures(study: Study, folder: Path) -> list[Path]:
    """Draw what there is to draw, by the first objective.

    Args:
        study: with all its trials.
        folder: gets the files.

    Returns:
        The files; none where no trial is complete.
    """
    aim, complete = study.plan.config.aims[0], [one for one in study.records() if one.state == "complete"]
    if not complete:
        return []
    losses = np.array([one.values[aim] * (-1 if aim in HIGHER else 1) for one in complete])
    best, most = np.quantile(losses, (0.0, 0.9))
    beyond = losses > most + 2 * (most - best)  # a trial that diverged would press all others onto a line
    near = _copy(study, {one.number for one, far in zip(complete, beyond, strict=True) if not far})
    label = _LABELS.get(aim, aim)
    told = f"{label}\n({beyond.sum()} much worse not shown)" if beyond.any() else label
    width = 1.0 + 2.2 * len({path for one in complete for path in one.params})  # inches
    folder.mkdir(parents=True, exist_ok=True)
    with _apart():
        # First, since the others set a style whose grid would strike its words out.
        _write(optunas.plot_parallel_coordinate(near, target_name=told), folder / PARALLEL, (width + 1, 4.8))
        _write(optunas.plot_optimization_history(near, target_name=told), folder / HISTORY, (7.5, 3.8))
        _write(optunas.plot_slice(near, target_name=told), folder / SLICES, (width, 3.6))
        if not study.importance():
            return [folder / HISTORY, folder / PARALLEL, folder / SLICES]
        every = _copy(study, {one.number for one in complete})
        _write(optunas.plot_param_importances(every, target_name=label), folder / IMPORTANCE, (7.5, 3.8))
    return [folder / name for name in (HISTORY, PARALLEL, SLICES, IMPORTANCE)]


def _copy(study: Study, numbers: Collection[int]) -> optuna.Study:
    """In memory, with one objective; trials of other numbers count as failed, so that all keep their own."""
    aim = study.plan.config.aims[0]
    copy = optuna.create_study(direction="maximize" if aim in HIGHER else "minimize")
    for trial in study.trials():
        kept = trial.number in numbers
        copy.add_trial(
            create_trial(
                state=TrialState.COMPLETE if kept else TrialState.FAIL,
                value=trial.values[0] if kept else None,
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    return copy


@contextmanager
def _apart() -> Iterator[None]:
    """Optuna draws with pyplot, in a style of its own; none of that stays, and no window opens."""
    before = mpl.get_backend(auto_select=False)
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that these are new, and that one trial or value has no range
        plt.switch_backend("agg")
        try:
            yield
        finally:
            if before is not None:
                plt.switch_backend(before)


def _write(axes: Any, path: Path, inches: tuple[float, float]) -> None:
    first, *others = np.ravel(axes)
    for axis in (first, *others) if others else ():  # of choices, whose names are long
        axis.tick_params(axis="x", labelrotation=90)
    first.figure.set_size_inches(inches)
    first.figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(first.figure)
