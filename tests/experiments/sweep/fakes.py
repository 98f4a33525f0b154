"""A worker whose trials take no training: the error follows from the settings. Run as a script, as `emonet sweep` does.

The environment says what goes wrong: FAKE_SECONDS an epoch takes, FAKE_STAY after the first, FAKE_FAIL every trial, or
those with dropout.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.core import Experiment
from experiments.sweep import Study
from experiments.sweep.trials import TrialOutcome
from experiments.sweep.worker import Job, main, runner_of, work

COMMAND = (sys.executable, __file__)
SPACE = {
    "heads.learning_rate": {"low": "1e-4", "high": "1e-1", "log": True},
    "heads.inputs": {"choices": [["statistics"], ["flatten"]]},
    "heads.rank": {"choices": [32, 0.9, "all"], "when": {"heads.inputs": [["flatten"]]}},
    "heads.batch_size": {"low": 16, "high": 64, "step": 16},
}


class FakeTrials:
    def run(self, experiment: Experiment, report: Callable[[int, float], None]) -> TrialOutcome:
        heads = experiment.heads
        if os.environ.get("FAKE_FAIL") == "all" or (os.environ.get("FAKE_FAIL") and heads.batch_size >= 48):
            raise RuntimeError("no such weather")
        error = 0.2 + abs(math.log10(heads.learning_rate) + 2.5) / 10 + 0.05 * (heads.inputs == ("statistics",))
        curve = []
        for epoch in range(heads.epochs):
            time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
            curve.append(error * (1 + 1 / (epoch + 1)))
            report(epoch, curve[-1])
            if os.environ.get("FAKE_STAY"):
                time.sleep(3600)
        values = {"mae": curve[-1], "pearson": 1 - error, "parameters": float(heads.batch_size), "seconds": 0.1}
        return TrialOutcome(values, len(curve), 0.1, tuple(curve), {"input": heads.inputs[0]})


def fake_experiment(runs: Path, **sweep: object) -> Experiment:
    settings = {"space": SPACE, "heartbeat": 0.2, "patience": 5.0, "startup_trials": 3, "warmup_epochs": 1, **sweep}
    return Experiment.model_validate({"name": "fake", "runs": runs, "heads": {"epochs": 4}, "sweep": settings})


def search_here(experiment: Experiment, study: Study, *_: object) -> None:
    """A search by this process alone, with real training: no seconds go into the start of a worker."""
    work(study, Job(experiment=experiment, study=study.plan.name), runner_of(experiment))


def search_alone(runs: Path) -> int:
    """A whole search, as the command line runs it."""
    from emonet.runtime import heeded
    from experiments.cli.verbs import VERBS, _guarded
    from experiments.sweep import plan_of, study_run
    from experiments.sweep.search import search
    from experiments.sweep.tracking import Mirror

    experiment = fake_experiment(runs, trials=50, workers=2)
    study = Study(plan_of(experiment, "fake-study"))
    (runs / "sweep").mkdir(parents=True)

    def call() -> int:
        with study_run(experiment, study) as run, Mirror(experiment, run) as mirror:
            search(experiment, study, runs / "sweep", COMMAND, mirror)
        return 0

    with heeded():
        return _guarded(call, debug=False, stopped=VERBS["sweep"].stopped)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "search":
        sys.exit(search_alone(Path(sys.argv[2])))
    sys.exit(main(sys.argv[1:], lambda _: FakeTrials()))
