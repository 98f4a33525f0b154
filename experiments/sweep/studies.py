"""Studies: trials that are proposed, counted, judged and kept by Optuna; no other module but the pictures imports it.

Any number of processes on any number of machines may open the same study; nothing but its storage connects them.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Literal, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as SQLTimeout

from emonet.errors import RequestError
from emonet.runtime import identity
from emonet.schema import digest
from emonet.tracking import hidden, prepare, reason, sqlite_path
from experiments.core import HIGHER, Dimension, Objective
from experiments.sweep.heartbeat import DIED, Liveness, reason_of_death
from experiments.sweep.records import Plan, State, TrialRecord, decoded, encoded
from experiments.sweep.retry import UnansweredError, retry

MISSED = 4  # signs of life after which a trial counts as dead
_WITHDRAWN = "withdrawn"  # trials that were one too many: neither run nor counted
_STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_TROUBLE = (StorageInternalError, DBAPIError, SQLTimeout, sqlite3.Error, OSError)  # of a storage; it may pass
_OPENING = 5.0  # seconds for a storage to answer at all

T = TypeVar("T")
optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it says is said by the view


class Study:
    """A study that is open in this process.

    Args:
        plan: what it is; created where its storage does not have it yet.

    Raises:
        RequestError: if there is no such kind of storage.
        UnansweredError: if the storage does not answer.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.where = hidden(plan.storage)
        self._storage = _opened(plan.storage, plan.config.patience, self.where)
        directions: list[Literal["minimize", "maximize"]] = [
            "maximize" if aim in HIGHER else "minimize" for aim in plan.config.aims
        ]
        self._study: optuna.Study = self.retry(
            lambda: optuna.create_study(
                study_name=plan.name,
                storage=self._storage,
                directions=directions,
                pruner=_pruner(plan),
                load_if_exists=True,
            )
        )
        self._id = self.retry(lambda: self._storage.get_study_id_from_name(plan.name))
        self._signs = Liveness(MISSED * plan.config.heartbeat)
        self._records: dict[int, TrialRecord] = {}  # of finished trials: these do not change

    def retry(self, call: Callable[[], T]) -> T:
        """Call the storage, again and again for a while where it is locked or does not answer.

        Raises:
            UnansweredError: if it still does not answer.
        """
        patience = self.plan.config.patience
        return retry(call, patience, _TROUBLE, lambda error: _unanswered(self.where, patience, error))

    def attribute(self, name: str) -> Any:
        """What was noted about the study under a name; None if nothing was."""
        return self.retry(lambda: self._study.user_attrs.get(name))

    def attributes(self, prefix: str) -> list[Any]:
        """What was noted under all names that begin like this."""
        noted = self.retry(lambda: dict(self._study.user_attrs))
        return [noted[name] for name in sorted(noted) if name.startswith(prefix)]

    def note(self, name: str, value: Any) -> None:
        """Note something JSON-able about the study, for all who work on it."""
        self.retry(lambda: self._study.set_user_attr(name, value))

    def records(self) -> list[TrialRecord]:
        """All trials in the order of their numbers, but those that were withdrawn."""
        found = []
        for trial in self.trials():
            record = self._records.get(trial.number) or self._record(trial)
            if trial.state.is_finished():
                self._records[trial.number] = record
            if record.reason != _WITHDRAWN:
                found.append(record)
        return found

    def best(self) -> TrialRecord | None:
        """The best complete trial; of several objectives, by the first among those that no other trial beats."""
        first = self.plan.config.aims[0]
        front = {trial.number for trial in self.retry(lambda: self._study.best_trials)}
        candidates = [one for one in self.records() if one.number in front]
        return min(candidates, key=lambda one: (_sign(first) * one.values[first], one.number), default=None)

    def importance(self) -> dict[str, float]:
        """How much each field tells the best tenth of trials from the rest (PED-ANOVA): shares; empty for too few."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len({trial.values[0] for trial in complete}) < 2:
            return {}
        sign = _sign(self.plan.config.aims[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that less counts as better here, and that it is new
            try:
                shares = optuna.importance.get_param_importances(
                    self._study, target=lambda trial: sign * trial.values[0]
                )
            except (ValueError, RuntimeError):  # of fields that never changed
                return {}
        return {path: share for path, share in shares.items() if math.isfinite(share)}

    def attempt(self) -> Attempt | None:
        """A new trial; None if it would be one too many, since others have begun theirs at the same time.

        A trial's number is given out by the storage, one after the other. Whoever finds as many trials finished or
        running below its own number as there shall be withdraws; so there are never more.
        """
        _require_file(self.plan.storage)
        # As `Study.ask` does, but with the worker's name from the first moment: a kill leaves no trial of nobody.
        named = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"worker": identity()})
        created = self.retry(lambda: self._storage.create_new_trial(self._id, named))
        number = self.retry(lambda: self._storage.get_trial_number_from_id(created))
        self._study.sampler = _sampler(self.plan, number)
        trial = self.retry(lambda: optuna.Trial(self._study, created))
        earlier = [one for one in self.records() if one.number < trial.number and one.state != "failed"]
        if len(earlier) >= self.plan.config.trials:
            self.fail(trial.number, _WITHDRAWN)
            return None
        with suppress(UpdateFinishedTrialError):  # others gave it up, since proposing its settings took so long
            return Attempt(self, trial, self._params(trial))
        return None

    def fail(self, number: int, reason: str, trace: str = "") -> bool:
        """Record that a running trial failed, and why; false if it has ended meanwhile."""
        with suppress(UpdateFinishedTrialError, ValueError):
            trial = self.retry(lambda: self._storage.get_trial_id_from_study_id_trial_number(self._id, number))
            for name, text in {"reason": reason, "traceback": trace}.items():
                if text:
                    self.retry(lambda n=name, t=text: self._storage.set_trial_user_attr(trial, n, t))  # type: ignore[misc]
            self.retry(lambda: self._study.tell(number, state=TrialState.FAIL))
            return True
        return False

    def abandon(self, reason: str) -> None:
        """Fail what this process runs."""
        for record in self.records():
            if record.state == "running" and record.worker == identity():
                self.fail(record.number, reason)

    def retire(self) -> list[int]:
        """Fail the running trials whose worker is dead: at once on this machine, else after missing signs of life.

        Optuna's own heartbeat stops for good once the database is locked, never fails a trial that was killed before
        its first beat, keeps no reason, and fails all trials where the database was away. Signs are compared with what
        this process saw before, by its own clock, so that clocks of several machines need not agree. While the storage
        does not answer, nobody can give signs; such a time is not held against anybody.

        Returns:
            Their numbers.
        """
        dead, running = [], [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        self._signs.begin()
        if any(self._silent(trial) for trial in running):
            self.note("judged", time.time())  # readers of SQLite see old signs while somebody keeps it locked
            self._signs.begin()
        for trial in running:
            reason = reason_of_death(trial.user_attrs.get("worker"))
            if reason is None and self._silent(trial):
                reason = f"{DIED}: no sign of life for {MISSED * self.plan.config.heartbeat:g} s"
            if reason is not None and self.fail(trial.number, reason):
                dead.append(trial.number)
        return dead

    def _silent(self, trial: FrozenTrial) -> bool:
        return self._signs.is_stale(trial.number, trial.user_attrs.get("alive"))

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order of their numbers, as Optuna has them."""
        return self.retry(lambda: self._study.get_trials(deepcopy=False))

    def _params(self, trial: optuna.Trial) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for path, dimension in self.plan.space.items():
            if dimension.applies(params):
                whole = path in self.plan.whole
                params[path] = self.retry(lambda p=path, d=dimension, w=whole: _suggested(trial, p, d, whole=w))  # type: ignore[misc]
        return params

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        noted, space = trial.user_attrs, self.plan.space
        curve = noted.get("curve") or [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        values = trial.values if trial.state == TrialState.COMPLETE else []
        return TrialRecord(
            number=trial.number,
            state=_STATES.get(trial.state, "running"),
            params={path: decoded(value, space.get(path)) for path, value in trial.params.items()},
            values=dict(zip(self.plan.config.aims, values, strict=False)),
            curve=tuple(map(abs, curve)),  # errors, with a minus where a study maximises
            facts=noted.get("facts", {}),
            reason=(noted.get("reason") or "unknown") if trial.state == TrialState.FAIL else None,
            worker=noted.get("worker", ""),
            started=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
            ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        )


class Attempt:
    """A trial that this process runs; gives signs of life until it is ended.

    Args:
        study: it belongs to.
        trial: Optuna's.
        params: dotted path -> value.
    """

    def __init__(self, study: Study, trial: optuna.Trial, params: Mapping[str, Any]) -> None:
        self.number = trial.number
        self.params = params
        self._study, self._trial = study, trial
        self._curve: list[float] = []
        self._steps: set[int] = set()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"trial {self.number}", daemon=True)
        self._heart.start()

    def report(self, epoch: int, value: float) -> bool:
        """Note the validation error after an epoch; whether the trial is to be stopped since it is poor."""
        if epoch in self._steps or not math.isfinite(value):
            return False
        self._steps.add(epoch)
        self._curve.append(value)
        if len(self._study.plan.config.aims) > 1:  # Optuna keeps no curve of several objectives
            self._study.retry(lambda: self._trial.set_user_attr("curve", self._curve))
            return False
        signed = _sign(self._study.plan.config.aims[0]) * value  # pruners judge by the study's direction
        self._study.retry(lambda: self._trial.report(signed, epoch))
        return self._study.plan.prunes and self._study.retry(self._trial.should_prune)

    def complete(self, values: Mapping[str, float], facts: Mapping[str, Any]) -> bool:
        """End it with its values; false if it was given up by others meanwhile, since it gave no sign of life."""
        aims = self._study.plan.config.aims
        missing = [aim for aim in aims if not math.isfinite(values.get(aim, math.nan))]
        if missing:
            return self.fail(f"no finite value of {', '.join(missing)}")
        return self._tell([values[aim] for aim in aims], TrialState.COMPLETE, facts)

    def prune(self, facts: Mapping[str, Any]) -> bool:
        """End it early; as `complete`."""
        return self._tell(None, TrialState.PRUNED, facts)

    def fail(self, reason: str, trace: str = "") -> bool:
        """End it without a result; as `complete`."""
        self._ended.set()
        return self._study.fail(self.number, reason, trace)

    def _tell(self, values: Sequence[float] | None, state: TrialState, facts: Mapping[str, Any]) -> bool:
        self._ended.set()
        study = self._study
        _require_file(study.plan.storage)
        with suppress(UpdateFinishedTrialError, ValueError):
            study.retry(lambda: self._trial.set_user_attr("facts", dict(facts)))
            study.retry(lambda: study._study.tell(self._trial, values, state))
            return True
        # Told already: by others, since it gave no sign of life, or by us, before the storage stopped answering.
        return any(one.number == self.number and one.finished for one in study.records())

    def _beat(self) -> None:
        count, heartbeat = 0, self._study.plan.config.heartbeat
        pause = heartbeat
        while not self._ended.wait(pause):
            count += 1
            pause = min(1.0, heartbeat)  # where this sign does not get through, the next one comes soon
            with suppress(OptunaError, *_TROUBLE):
                self._trial.set_user_attr("alive", count)
                pause = heartbeat


def _opened(storage: str, patience: float, where: str) -> optuna.storages.BaseStorage:
    try:
        return retry(lambda: _database(storage, patience), _OPENING, _TROUBLE, lambda e: _unopened(where, e))
    except (ImportError, ArgumentError, ValueError) as error:  # the last of a port that is no number
        raise RequestError(
            "there is no such storage for a study, or its driver is not installed",
            where=where,
            expected="sqlite:///FILE, or a URL as postgresql+psycopg2://USER@HOST/NAME",
            found=str(error).splitlines()[0],
            hint="--storage URL; pip install psycopg2-binary for PostgreSQL",
        ) from error


def _database(url: str, patience: float) -> optuna.storages.BaseStorage:
    if (path := sqlite_path(url)) is None:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # its tables are made by one process
        prepare(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers; kept in the file
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": min(30.0, patience)}})


def _unopened(where: str, error: Exception) -> UnansweredError:
    return UnansweredError(
        "the study's storage cannot be opened",
        where=where,
        found=reason(error),
        hint="is the server up, and the folder writable? --storage names another",
    )


def _unanswered(where: str, patience: float, error: Exception) -> UnansweredError:
    return UnansweredError(
        f"the study's storage has not answered for {patience:g} s; every trial that was finished before is kept in it",
        where=where,
        found=reason(error),
        hint="once it answers again, the same command goes on",
    )


def _require_file(storage: str) -> None:
    """A deleted file would be written on, into nothing, as long as it is open."""
    if (path := sqlite_path(storage)) is not None and not path.is_file():
        raise UnansweredError(
            "the study's file has been deleted or moved while it was in use",
            where=path,
            hint="put it back, and the same command goes on; without it the sweep begins anew",
        )


def _sign(aim: Objective) -> int:
    return -1 if aim in HIGHER else 1


def _sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """Of one trial: whoever runs it, on whatever machine, no other trial draws the same random numbers."""
    seed = int(digest([plan.seed, number])[:8], 16)
    if plan.config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # group: fields that only some trials have; constant_liar: what runs elsewhere counts as poor meanwhile.
        return optuna.samplers.TPESampler(
            n_startup_trials=plan.config.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        )


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    config = plan.config
    if config.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.warmup_epochs)
    if config.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, config.warmup_epochs), max_resource=plan.epochs)
    return optuna.pruners.NopPruner()


def _suggested(trial: optuna.Trial, path: str, dimension: Dimension, *, whole: bool) -> Any:
    if dimension.choices:
        return decoded(trial.suggest_categorical(path, [encoded(one) for one in dimension.choices]), dimension)
    low, high = dimension.low or 0, dimension.high or 0
    if whole:
        return trial.suggest_int(path, int(low), int(high), step=int(dimension.step or 1), log=dimension.log)
    return trial.suggest_float(path, low, high, step=dimension.step, log=dimension.log)
