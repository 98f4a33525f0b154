"""Search: workers take trials until the study is complete, while this process watches and shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import EmonetError
from experiments.core import Experiment, SweepConfig, console
from experiments.sweep.cluster import ClusterWorkers
from experiments.sweep.records import INTERRUPTED, TrialRecord
from experiments.sweep.view import View
from experiments.sweep.worker import Job
from experiments.sweep.workers import Ended, Workers

if TYPE_CHECKING:
    from experiments.sweep.studies import Study
    from experiments.sweep.tracking import Mirror

POLL = 0.5  # seconds between looks at the study
FAILURES = 5  # in a row, with nothing finished since this sweep began: the settings are not to blame
REASONS = 3  # that are told, the latest first
LATER_FAILURES = 15  # in a row, after something was finished


def search(experiment: Experiment, study: Study, folder: Path, command: Sequence[str], mirror: Mirror) -> None:
    """Run trials until the study has all of them, or the sweep's time is over.

    Args:
        experiment: the sweep's.
        study: to be completed; others may work on it as well.
        folder: gets the workers' logs.
        command: that starts a worker.
        mirror: copies the trials of these workers into MLflow.

    Raises:
        EmonetError: if trial after trial fails, or no worker is left.
        UnansweredError: if the study's storage does not answer.
        KeyboardInterrupt: after Ctrl-C or another heeded signal, when the workers have ended.
    """
    study.retire()
    sweep, records = experiment.sweep, study.records()
    finished = sum(record.finished for record in records)
    console.say(
        f"study {study.plan.name} in {console.name(study.where)}: {finished} of {sweep.trials} trials finished, "
        f"{console.counted(sweep.workers, 'worker')} with logs in {console.name(folder)}"
    )
    if finished >= sweep.trials:
        return
    until = None if sweep.timeout is None else time.time() + sweep.timeout
    job = Job(experiment=experiment, study=study.plan.name, until=until)
    try:
        with (
            _workers(sweep, job, folder, command) as workers,
            console.progress("sweep", "trials") as progress,
        ):
            _Search(study, mirror, workers, View(progress, sweep.trials, records)).watch()
    finally:
        study.retire()  # what a worker that was killed has left


def _workers(sweep: SweepConfig, job: Job, folder: Path, command: Sequence[str]) -> Workers | ClusterWorkers:
    if sweep.engine == "local":
        return Workers(sweep.workers, job, folder, command)
    return ClusterWorkers(sweep.workers, job, folder, command, address=sweep.address)


class _Search:
    """One process' look at a study, again and again."""

    def __init__(self, study: Study, mirror: Mirror, workers: Workers | ClusterWorkers, view: View) -> None:
        self._study, self._mirror, self._workers, self._view = study, mirror, workers, view
        self._broken: list[Ended] = []

    def watch(self) -> None:
        """Look until no worker is at work."""
        try:
            while self._workers.running:
                self._look()
                time.sleep(POLL)
        except KeyboardInterrupt:
            console.say("ending the running trials; Ctrl-C once more does not wait for them")
            self._workers.stop()
            self._look()
            raise
        self._look()
        records = self._study.records()
        if self._broken and sum(record.finished for record in records) < self._study.plan.config.trials:
            raise EmonetError(
                "no worker is left, and the study is not complete",
                where=self._study.plan.name,
                found=self._broken[-1],
                hint="the same command goes on; all finished trials are kept",
            )

    def _look(self) -> None:
        for ended in self._workers.broken():
            self._broken.append(ended)
            console.say(f"[yellow]{console.name(ended)}[/]")
        self._study.retire()
        records = self._study.records()
        own = [record for record in records if record.worker in self._workers.identities]
        self._mirror.offer(own)
        self._view.update(records, self._study.best())
        self._require_success(own)  # a machine where every trial fails must not stop the others

    def _require_success(self, records: Sequence[TrialRecord]) -> None:
        """Stop where it cannot be the settings that make trials fail."""
        ended = sorted((one for one in records if one.ended is not None), key=lambda one: one.ended or 0.0)
        reasons: list[str] = []
        for record in ended:
            if record.state != "failed":
                reasons = []
            elif record.reason != INTERRUPTED:
                reasons.append(record.reason or "")
        most = LATER_FAILURES if any(record.finished for record in ended) else FAILURES
        if len(reasons) >= most:
            raise EmonetError(
                f"the last {len(reasons)} trials failed one after the other",
                where=self._study.plan.name,
                found="; ".join(list(dict.fromkeys(reversed(reasons)))[:REASONS]),
                hint="the workers' logs say more; once it is mended, the same command goes on",
            )
