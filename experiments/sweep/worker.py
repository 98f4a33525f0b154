"""A worker of a sweep: a process that takes trials of a study until it has them all.

`python -m experiments.sweep.worker NUMBER`, as `emonet sweep` starts it. What it is to do comes as a line of standard
input, since a storage's URL may hold a password; and it ends when its standard input does: a sweep that was killed
leaves no workers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.markup import escape

from emonet.errors import EmonetError
from emonet.runtime import heeded
from emonet.schema import Schema
from experiments.core import SECTIONS, Experiment, console, merged
from experiments.sweep.records import INTERRUPTED, plan_of
from experiments.sweep.retry import UnansweredError

if TYPE_CHECKING:
    from experiments.sweep.studies import Attempt, Study
    from experiments.sweep.trials import TrialOutcome

POLL = 0.5  # seconds between looks at what the others do
_GPUS = "CUDA_VISIBLE_DEVICES"
_STDIN = 0
STOPPED = 130  # exit code of a worker that was told to stop


class Job(Schema):
    """What a worker is told."""

    experiment: Experiment
    """The sweep's."""
    study: str
    """Name of the study."""
    until: float | None = None
    """No trial is started after this time (seconds since 1970)."""


class Runner(Protocol):
    """What runs the trials of a process: `experiments.sweep.Trials`, for instance."""

    def run(self, experiment: Experiment, report: Callable[[int, float], None]) -> TrialOutcome:
        """Train as the experiment says; `report` takes an epoch and the validation error, and may raise."""
        ...


def main(arguments: Sequence[str], runner: Callable[[Experiment], Runner] | None = None) -> int:
    """Work until the study is complete.

    Args:
        arguments: this worker's number on this machine, from 0. A `Job` comes as a line of standard input.
        runner: makes what runs the trials; by default the stage's own.

    Returns:
        0 when there is nothing left to do, 130 if it was stopped, 1 after an error.
    """
    number, job = int(arguments[0]), Job.model_validate_json(_line_of_standard_input())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        with heeded():
            _take_gpu(number)
            from experiments.sweep.studies import Study

            study = Study(plan_of(job.experiment, job.study))
            try:
                work(study, job, (runner or runner_of)(job.experiment))
            except KeyboardInterrupt:
                study.abandon(INTERRUPTED)
                raise
    except KeyboardInterrupt:
        return STOPPED
    except EmonetError as error:
        console.say(escape(str(error)))
        return 1
    return 0


def work(study: Study, job: Job, runner: Runner) -> None:
    """Take and run trials until the study is complete.

    Raises:
        UnansweredError: if the study's storage does not answer.
    """
    while (attempt := _next(study, job.until)) is not None:
        _run(attempt, job.experiment, runner)


def runner_of(experiment: Experiment) -> Runner:
    """What runs the trials of the experiment's stage."""
    from experiments.sweep import trials

    made: Runner = (
        trials.Trials(experiment) if experiment.sweep.stage == "heads" else trials.CaptionerTrials(experiment)
    )
    return made


def of_trial(experiment: Experiment, params: Mapping[str, Any]) -> Experiment:
    """The experiment of a trial: the sweep's, with the trial's values and no more epochs than a trial gets."""
    budget = (
        {}
        if experiment.sweep.epochs is None
        else {f"{SECTIONS[experiment.sweep.stage]}.epochs": experiment.sweep.epochs}
    )
    return merged(experiment, {**budget, **params})


def _next(study: Study, until: float | None) -> Attempt | None:
    """A trial to run; waits while others run the last ones, since these may fail."""
    wanted = study.plan.config.trials
    while until is None or time.time() < until:
        study.retire()
        records = study.records()
        finished = sum(record.finished for record in records)
        if finished >= wanted:
            return None
        if finished + sum(record.state == "running" for record in records) < wanted:
            attempt = study.attempt()
            if attempt is not None:
                return attempt
        time.sleep(POLL)
    return None


def _run(attempt: Attempt, experiment: Experiment, runner: Runner) -> None:
    from experiments.sweep.trials import TrialPruned

    label, started = f"trial {attempt.number}", time.monotonic()
    console.say(f"{label}: {console.name(dict(attempt.params))}")
    epochs = 0

    def report(epoch: int, value: float) -> None:
        nonlocal epochs
        epochs = epoch + 1
        if attempt.report(epoch, value):
            raise TrialPruned

    try:
        outcome = runner.run(of_trial(experiment, attempt.params), report)
    except TrialPruned:
        kept, said = attempt.prune({"epochs": epochs, "seconds": time.monotonic() - started}), "pruned"
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        attempt.fail(INTERRUPTED)
        console.say(f"{label}: {INTERRUPTED}")
        raise KeyboardInterrupt from None
    except UnansweredError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a trial's settings break is noted, and the next one comes
        text = " ".join(str(error).split())  # in a line: what, where, expected, found, and what to try
        reason = text if isinstance(error, EmonetError) else f"{type(error).__name__}: {text}"
        kept, said = attempt.fail(reason.strip(), traceback.format_exc()), f"failed: {reason}"
    else:
        facts = {**outcome.values, "epochs": outcome.epochs, "seconds": outcome.seconds, **outcome.best}
        kept, said = attempt.complete(outcome.values, facts), str(outcome.values)
    lost = "" if kept else " (not counted: it had been given up, since it gave no sign of life)"
    console.say(f"{label}: {console.name(said)}{lost}, {console.duration(time.monotonic() - started)}")


def own_gpu(number: int, devices: int, named: str | None) -> str | None:
    """Which GPU a worker of this machine gets, in turn; None where there are not several.

    Args:
        number: of the worker, from 0.
        devices: GPUs of the machine (count).
        named: those that may be used, as in `CUDA_VISIBLE_DEVICES`; None for all.
    """
    allowed = [str(device) for device in range(devices)] if named is None else [one for one in named.split(",") if one]
    return allowed[number % len(allowed)] if len(allowed) > 1 else None


def _take_gpu(number: int) -> None:
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))  # without the seconds that importing torch takes
    chosen = own_gpu(number, devices, os.environ.get(_GPUS))
    if chosen is not None:
        os.environ[_GPUS] = chosen


def _line_of_standard_input() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (part := os.read(_STDIN, 65_536)):
        line += part
    return line


def _end_with_standard_input() -> None:
    while os.read(_STDIN, 1024):  # sys.stdin would be locked, and that is fatal at the process' end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
