"""Fixed trials through the sweep's own engine, in one process or several; and what noting them costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any

from experiments.core import Experiment, merged

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from experiments.sweep import Trials

READY_SECONDS = 600.0  # in which all processes have opened the store and prepared their inputs
_process: dict[str, Any] = {}  # of a worker: its trials, and the barrier


@dataclass(frozen=True)
class Bookkeeping:
    """Seconds per trial.

    Args:
        study: to ask for a trial, report its epochs and tell its result.
        tracking: to copy a trial into MLflow, which the sweep does beside the trials.
        epochs: that were reported (count).
    """

    study: float
    tracking: float
    epochs: int


def wall_seconds(experiment: Experiment, trials: Sequence[Mapping[str, Any]], *, workers: int, threads: int) -> float:
    """Seconds from the start of the first trial to the end of the last; opening the store is not counted.

    Args:
        experiment: whose store it is.
        trials: dotted path -> value, of each.
        workers: processes (count).
        threads: of each (count).
    """
    context = get_context("spawn")
    barrier = context.Barrier(workers)
    given = (experiment, dict(trials[0]), threads, barrier)
    with ProcessPoolExecutor(workers, context, initializer=_open, initargs=given) as pool:
        for ready in [pool.submit(_wait) for _ in range(workers)]:
            ready.result()
        started = time.perf_counter()
        list(pool.map(_run, [merged(experiment, params) for params in trials]))
        return time.perf_counter() - started


def bookkeeping(experiment: Experiment, *, trials: int, epochs: int) -> Bookkeeping:
    """Note trials that take no time themselves, in a study and an MLflow of their own.

    Args:
        experiment: with an empty `runs` folder.
        trials: how many (count).
        epochs: that each reports (count).
    """
    from experiments.sweep import Study, log_trial, plan_of, study_run

    study = Study(plan_of(experiment, "bookkeeping"))
    started = time.perf_counter()
    for _ in range(trials):
        attempt = study.attempt()
        assert attempt is not None
        for epoch in range(epochs):
            attempt.report(epoch, 1.0 / (epoch + 1 + attempt.number))
        attempt.complete(dict.fromkeys(study.plan.config.aims, 1.0), {"epochs": epochs})
    noted = time.perf_counter() - started
    with study_run(experiment, study) as run:
        records = study.records()
        started = time.perf_counter()
        for record in records:
            log_trial(experiment, run, record)
        copied = time.perf_counter() - started
    return Bookkeeping(noted / trials, copied / trials, epochs)


def _open(experiment: Experiment, first: Mapping[str, Any], threads: int, barrier: Barrier) -> None:
    import torch

    from experiments.sweep import Trials

    torch.set_num_threads(threads)
    trials = Trials(experiment)
    trials.run(merged(experiment, {**first, "heads.epochs": 1}), _unheard)  # prepares the inputs
    _process.update(trials=trials, barrier=barrier)


def _wait() -> None:
    try:
        _process["barrier"].wait(READY_SECONDS)
    except BrokenBarrierError as error:
        raise TimeoutError("a worker did not get ready") from error


def _run(experiment: Experiment) -> float:
    trials: Trials = _process["trials"]
    return trials.run(experiment, _unheard).values["mae"]


def _unheard(_epoch: int, _error: float) -> None:
    """Let every trial run to its end."""
