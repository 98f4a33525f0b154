"""Tracking of a study in MLflow: one run for the study, below it one for each trial.

The study's own storage has everything; MLflow gets a copy, so nothing is lost where it is locked or away for a while.
"""

from __future__ import annotations

import csv
import io
import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.markup import escape

from emonet.schema import digest
from emonet.tracking import ARTIFACTS, reason
from experiments.core import SECTIONS, Experiment, console, decoration, write_text
from experiments.sweep.records import INTERRUPTED, Plan, TrialRecord
from experiments.sweep.worker import of_trial

if TYPE_CHECKING:
    from emonet.tracking import Run
    from experiments.sweep.studies import Study

_NOTE = "mlflow run in "  # what notes of the study's runs begin with
TRIAL = "trial"  # the tag that names a trial's number
WAIT = 5.0  # seconds until what MLflow did not take is offered again
PATIENCE = 60.0  # seconds, at the end, for what MLflow has not taken


@contextmanager
def study_run(experiment: Experiment, study: Study) -> Iterator[Run]:
    """The study's MLflow run: begun by whoever comes first, taken up again by all others that use the same MLflow.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    from emonet.tracking import default_uri, run_exists, start_run, taken_up

    uri, artifacts = default_uri(experiment.runs), experiment.runs / ARTIFACTS
    note = f"{_NOTE}{digest(uri)[:8]}"
    # Whoever uses another MLflow has noted a run of his own; a folder that was moved still has the run that it had.
    known = next((one for one in study.attributes(_NOTE) if run_exists(uri, str(one), artifacts)), None)
    if known is not None:
        with taken_up(uri, str(known), artifacts) as run:
            yield run
        return
    config = experiment.model_dump(mode="json", exclude={"force": True, "description": True, "sweep": {"storage"}})
    tags = {"stage": "sweep", "study": study.plan.name, "sweep.stage": experiment.sweep.stage}
    with start_run(
        uri, experiment=experiment.name, name=f"sweep {study.plan.name}", artifacts=artifacts, config=config, tags=tags
    ) as run:
        study.note(note, run.id)
        yield run


class Mirror:
    """Copies finished trials into MLflow, in a thread of its own; a context manager.

    Args:
        experiment: the sweep's.
        parent: the study's run.
    """

    def __init__(self, experiment: Experiment, parent: Run) -> None:
        self._experiment, self._parent = experiment, parent
        self._waiting: queue.Queue[TrialRecord | None] = queue.Queue()
        self._offered: set[int] = set()
        self._until = float("inf")
        self.missed = 0
        self._thread = threading.Thread(target=self._copy, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offer(self, records: Iterable[TrialRecord]) -> None:
        """Copy those that have ended and were not offered before."""
        for record in records:
            if record.ended is not None and record.number not in self._offered:
                self._offered.add(record.number)
                self._waiting.put(record)

    def close(self, patience: float = PATIENCE) -> None:
        """Wait for what is left; says how many trials MLflow did not take."""
        if self._until < float("inf"):
            return
        self._until = time.monotonic() + patience
        self._waiting.put(None)
        self._thread.join()
        if self.missed:
            _say_missed(self.missed)

    def _copy(self) -> None:
        complained = False
        while (record := self._waiting.get()) is not None:
            while (error := self._copied(record)) is not None and time.monotonic() < self._until:
                if not complained:
                    complained = True
                    console.say(f"[yellow]MLflow does not take trials[/] ({escape(error)}); they are offered again")
                time.sleep(min(WAIT, max(0.0, self._until - time.monotonic())))
            self.missed += error is not None

    def _copied(self, record: TrialRecord) -> str | None:
        """Copy a trial; why not, if it failed."""
        try:
            log_trial(self._experiment, self._parent, record)
        except Exception as error:  # noqa: BLE001  # whatever MLflow, SQLAlchemy or requests raise: the trial is safe
            return reason(error)
        return None


def log_missing(experiment: Experiment, parent: Run, records: Iterable[TrialRecord]) -> None:
    """Copy all trials that MLflow does not have, whoever ran them."""
    from emonet.tracking import finished_below

    try:
        known = finished_below(parent, TRIAL)
    except Exception as error:  # noqa: BLE001  # as above
        console.say(f"[yellow]MLflow does not tell which trials it has[/] ({escape(reason(error))})")
        return
    with Mirror(experiment, parent) as mirror:
        mirror.offer(record for record in records if str(record.number) not in known)


def log_study(parent: Run, study: Study, records: Sequence[TrialRecord], folder: Path) -> None:
    """Draw the whole study and log the pictures, and a table of all trials, with the study's run."""
    from experiments.sweep.plots import study_figures

    write_text(folder / "trials.csv", table(study.plan, records))
    drawn: list[Path] = []
    with decoration("the study's pictures"):
        drawn = study_figures(study, folder / "plots")
    for path in [*drawn, folder / "trials.csv"]:
        parent.artifact(path, "study")


def table(plan: Plan, records: Sequence[TrialRecord]) -> str:
    """All trials as CSV: number, state, values, settings, reason."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", "state", *plan.config.aims, "epochs", *plan.space, "reason"])
    for record in records:
        values = [record.values.get(aim, "") for aim in plan.config.aims]
        chosen = [json.dumps(record.params[path]) if path in record.params else "" for path in plan.space]
        writer.writerow([record.number, record.state, *values, len(record.curve), *chosen, record.reason or ""])
    return text.getvalue()


def log_trial(experiment: Experiment, parent: Run, record: TrialRecord) -> None:
    """Copy one trial: its configuration, curve, figures and how it ended."""
    from emonet.tracking import record_run

    tags = {TRIAL: str(record.number), "state": record.state, "worker": record.worker, "stage": "trial"}
    if record.reason is not None:
        tags["reason"] = record.reason[:4000]
    name = "val_loss" if experiment.sweep.stage == "pretrain" else "val_mae"
    record_run(
        parent,
        name=f"trial {record.number}",
        config=_config(experiment, record),
        tags=tags,
        curves={name: record.curve},
        figures=_figures(record),
        span=(record.started, record.ended or record.started),
        status=_status(record),
    )


def _config(experiment: Experiment, record: TrialRecord) -> Mapping[str, Any]:
    section = SECTIONS[experiment.sweep.stage]
    chosen = of_trial(experiment, record.params)
    return chosen.model_dump(mode="json", include={"name", "corpus", "seed", section})


def _figures(record: TrialRecord) -> dict[str, float]:
    measured = {key: value for key, value in record.facts.items() if isinstance(value, int | float)}
    pruned = {"pruned_after": float(len(record.curve))} if record.state == "pruned" else {}
    return {**{key: float(value) for key, value in measured.items()}, **dict(record.values.items()), **pruned}


def _status(record: TrialRecord) -> Literal["FINISHED", "FAILED", "KILLED"]:
    if record.state == "failed":
        return "KILLED" if record.reason == INTERRUPTED else "FAILED"
    return "FINISHED"


def _say_missed(missed: int) -> None:
    console.say(
        f"[yellow]MLflow did not take {console.counted(missed, 'trial')}[/]; the study has them, and the same command "
        "logs them once MLflow answers"
    )
