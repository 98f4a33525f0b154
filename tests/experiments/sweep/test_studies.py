"""Studies on real storages: SQLite, and once PostgreSQL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from emonet.errors import RequestError
from emonet.runtime import identity
from experiments.core import Experiment
from experiments.sweep import Study, plan_of, studies
from experiments.sweep import heartbeat as presence
from experiments.sweep import worker as sweep_worker
from experiments.sweep.retry import UnansweredError
from experiments.sweep.worker import Job, work
from tests.databases import Postgres
from tests.experiments.sweep.fakes import COMMAND, FakeTrials, fake_experiment, wait_for


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_worker, "POLL", 0.02)


def on(tmp_path: Path, **sweep: Any) -> Experiment:
    return fake_experiment(tmp_path / "runs", **sweep)


def opened(experiment: Experiment) -> Study:
    return Study(plan_of(experiment, "fake-study"))


def run_all(experiment: Experiment) -> Study:
    study = opened(experiment)
    work(study, Job(experiment=experiment, study="fake-study"), FakeTrials())
    return study


def test_a_study_gets_its_trials_and_goes_on_to_more(tmp_path: Path) -> None:
    first = run_all(on(tmp_path, trials=6))
    records = first.records()
    assert sum(record.finished for record in records) == 6
    best = first.best()
    assert best is not None
    assert best.values["mae"] == min(record.values["mae"] for record in records if record.state == "complete")
    assert best.facts["input"] == best.params["heads.inputs"][0]
    for record in records:
        assert ("heads.rank" in record.params) == (record.params["heads.inputs"] == ["flatten"])
        assert record.params["heads.batch_size"] in {16, 32, 48, 64}
        assert 1e-4 <= record.params["heads.learning_rate"] <= 1e-1
        assert record.worker == identity()
    assert set(first.importance()) <= set(first.plan.space)
    assert sum(first.importance().values()) == pytest.approx(1)

    again = run_all(on(tmp_path, trials=6))
    assert len(again.records()) == 6
    more = run_all(on(tmp_path, trials=9)).records()
    assert more[:6] == records
    assert sum(record.finished for record in more) == 9
    rates = [record.params["heads.learning_rate"] for record in more]
    assert len(set(rates)) == 9, "a resumed study draws other values"


def test_the_same_seed_proposes_the_same_trials(tmp_path: Path) -> None:
    one, other = (run_all(on(tmp_path / name, trials=5)).records() for name in "ab")
    assert [record.params for record in one] == [record.params for record in other]


def test_machines_that_join_at_the_same_time_propose_different_trials(tmp_path: Path) -> None:
    one, other = (opened(on(tmp_path)) for _ in range(2))
    attempts = [study.attempt() for study in (one, other)]
    rates = {attempt.params["heads.learning_rate"] for attempt in attempts if attempt is not None}
    assert len(rates) == 2


def test_poor_trials_are_stopped_at_the_median(tmp_path: Path) -> None:
    records = run_all(on(tmp_path, trials=15, sampler="random")).records()
    pruned = [record for record in records if record.state == "pruned"]
    assert pruned
    assert all(1 <= len(record.curve) < 5 and record.facts["epochs"] == len(record.curve) for record in pruned)
    assert all(len(record.curve) == 4 for record in records if record.state == "complete")


@pytest.mark.parametrize("aim", ["mae", "pearson", "ua"])
def test_the_trials_with_the_larger_errors_are_stopped_whatever_is_aimed_at(aim: str, tmp_path: Path) -> None:
    study = opened(on(tmp_path, trials=9, objectives=[aim], startup_trials=3, warmup_epochs=0))
    for error in (0.4, 0.5, 0.6):
        attempt = study.attempt()
        assert attempt is not None
        assert not any(attempt.report(epoch, error) for epoch in range(3))
        attempt.complete({aim: error}, {})
    for error, stopped in ((0.9, True), (0.1, False)):
        attempt = study.attempt()
        assert attempt is not None
        assert attempt.report(0, error) == stopped
        attempt.prune({})
    assert [record.curve[0] for record in study.records()] == [0.4, 0.5, 0.6, 0.9, 0.1]


@pytest.mark.parametrize("pruner", [pytest.param("hyperband", marks=pytest.mark.slow), "none"])
def test_other_pruners(pruner: str, tmp_path: Path) -> None:
    study = run_all(on(tmp_path, trials=5, pruner=pruner, sampler="random"))
    assert study.plan.prunes == (pruner != "none")
    assert sum(record.finished for record in study.records()) == 5


def test_several_objectives(tmp_path: Path) -> None:
    study = run_all(on(tmp_path, trials=8, objectives=["pearson", "parameters"]))
    records, best = study.records(), study.best()
    assert not study.plan.prunes
    assert {record.state for record in records} == {"complete"}
    assert all(set(record.values) == {"pearson", "parameters"} and len(record.curve) == 4 for record in records)
    assert best is not None
    assert best.values["pearson"] == max(record.values["pearson"] for record in records)


def test_a_trial_that_fails_is_recorded_and_the_study_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "some")
    records = run_all(on(tmp_path, trials=8, pruner="none", sampler="random")).records()
    failed = [record for record in records if record.state == "failed"]
    assert failed
    assert {record.reason for record in failed} == {"RuntimeError: no such weather"}
    assert sum(record.finished for record in records) == 8


def test_a_value_that_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    study = opened(on(tmp_path))
    attempt = study.attempt()
    assert attempt is not None
    assert attempt.complete({"mae": float("nan")}, {})
    assert study.records()[0].reason == "no finite value of mae"


def test_several_workers_never_do_more_than_they_shall(tmp_path: Path) -> None:
    experiment = on(tmp_path, trials=9, pruner="none")
    opened(experiment)
    threads = [threading.Thread(target=run_all, args=(experiment,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = opened(experiment).records()
    assert sum(record.finished for record in records) == 9
    assert all(record.finished for record in records)


def test_who_is_one_too_many_withdraws(tmp_path: Path) -> None:
    study, other = opened(on(tmp_path, trials=1)), opened(on(tmp_path, trials=1))
    assert study.attempt() is not None
    assert other.attempt() is None
    assert [record.state for record in study.records()] == ["running"], "what was withdrawn is not told"


def test_a_trial_that_is_given_up_before_it_begins_ends_no_worker(tmp_path: Path) -> None:
    experiment = on(tmp_path, trials=2)
    study, other = opened(experiment), opened(experiment)

    class Slow(type(study)):  # type: ignore[misc]
        def _params(self, trial: Any) -> dict[str, Any]:
            assert other.fail(trial.number, "no sign of life")
            return super()._params(trial)

    study.__class__ = Slow
    assert study.attempt() is None
    assert [record.state for record in other.records()] == ["failed"]
    assert other.attempt() is not None


def dead_attempt(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str) -> Study:
    study = opened(experiment)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(studies, "identity", lambda: worker)
        attempt = study.attempt()
    assert attempt is not None
    attempt._ended.set()  # no more signs of life
    return study


def test_a_trial_of_a_dead_process_is_retired_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    worker = f"{identity().rpartition('/')[0]}/{process.pid}"
    study = dead_attempt(on(tmp_path, heartbeat=1000), tmp_path, monkeypatch, worker)
    assert opened(on(tmp_path)).retire() == [0]
    [record] = study.records()
    assert record.state == "failed"
    assert str(record.reason).startswith(f"its worker died (process {process.pid}")


def test_a_trial_without_signs_of_life_is_retired_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    study = dead_attempt(on(tmp_path, heartbeat=15), tmp_path, monkeypatch, "elsewhere/1/1")
    watcher = opened(on(tmp_path, heartbeat=15))
    for _ in range(7):  # it may have given one just before the first look
        assert watcher.retire() == []
        clock.now += 10
    assert watcher.retire() == [0]
    assert study.records()[0].reason == "its worker died: no sign of life for 60 s"


def test_the_time_in_which_the_storage_was_away_is_not_held_against_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    dead_attempt(on(tmp_path, heartbeat=15), tmp_path, monkeypatch, "elsewhere/1/1")
    watcher = opened(on(tmp_path, heartbeat=15))
    assert watcher.retire() == []
    clock.now += 250  # no look succeeded
    assert watcher.retire() == []
    note = watcher.note

    def locked(name: str, value: Any) -> None:
        clock.now += 200
        note(name, value)

    monkeypatch.setattr(watcher, "note", locked)  # as where SQLite is read, but cannot be written
    for _ in range(10):
        clock.now += 10
        assert watcher.retire() == []


class Clock:
    """Stands in for the one that signs of life are watched by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(presence, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_a_sign_that_does_not_get_through_is_followed_by_another_soon(tmp_path: Path) -> None:
    study = opened(on(tmp_path, heartbeat=0.3))
    attempt = study.attempt()
    assert attempt is not None
    signs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt._trial, "set_user_attr", lambda *_: signs.append(1) or refuse())
        wait_for(lambda: len(signs) >= 2)
    wait_for(lambda: sign_of(study) is not None)


def sign_of(study: Study) -> object:
    [trial] = study.trials()
    return trial.user_attrs.get("alive")


def refuse() -> None:
    raise sqlite3.OperationalError("database is locked")


def test_a_trial_that_gives_signs_of_life_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, clock = on(tmp_path, heartbeat=0.05), Clock(monkeypatch)
    study = opened(experiment)
    monkeypatch.setattr(studies, "identity", lambda: "elsewhere/1/1")
    attempt = study.attempt()
    assert attempt is not None
    watcher = opened(experiment)
    before = None
    for _ in range(10):  # by the watcher's clock it takes 18 beats, of which 4 may be missed
        wait_for(lambda: sign_of(study) not in {None, before})  # noqa: B023 - called in this round
        before = sign_of(study)
        assert watcher.retire() == []
        clock.now += 0.09
    assert study.fail(attempt.number, "given up by somebody else")
    assert not attempt.complete({"mae": 1.0}, {}), "it is not counted twice"
    assert study.records()[0].reason == "given up by somebody else"


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    study = opened(on(tmp_path, trials=1, patience=20))
    attempt = study.attempt()
    assert attempt is not None
    with Held(tmp_path / "runs" / "optuna.db"):
        thread = threading.Thread(target=attempt.complete, args=({"mae": 1.0}, {}))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert study.records()[0].state == "complete"


def test_a_database_that_stays_locked(tmp_path: Path) -> None:
    study = opened(on(tmp_path, patience=0.3))
    message = r"(?s)storage has not answered for 0\.3 s; every trial that was finished.*database is locked.*goes on"
    with Held(tmp_path / "runs" / "optuna.db"), pytest.raises(UnansweredError, match=message):
        study.note("anything", 1)


def test_a_file_that_is_deleted_in_mid_study(tmp_path: Path) -> None:
    study = opened(on(tmp_path))
    attempt = study.attempt()
    assert attempt is not None
    for file in tmp_path.glob("runs/optuna.db*"):
        file.unlink()
    with pytest.raises(UnansweredError, match=r"(?s)file has been deleted or moved.*put it back"):
        attempt.complete({"mae": 1.0}, {})


def test_a_study_of_a_journal_file_goes_on_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/sweeps.md, on what an earlier release had kept in a journal file."""
    before = run_all(on(tmp_path / "earlier", trials=4))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    journal = JournalStorage(JournalFileBackend("study.log"))
    optuna.copy_study(from_study_name="fake-study", from_storage=before._storage, to_storage=journal)
    lines = Path(__file__, "../../../../docs/sweeps.md").resolve().read_text("utf-8").partition("```python\n")[2]
    exec(lines.partition("```")[0], {})
    records = run_all(on(tmp_path, trials=6)).records()
    assert records[:4] == before.records()
    assert sum(record.finished for record in records) == 6


def test_storages_that_there_are_not(tmp_path: Path) -> None:
    for url in ("nothing://host/db", "sqlite+nothing:///x", "postgresql+psycopg2://me@host:port/db"):
        with pytest.raises(RequestError, match=r"(?s)no such storage for a study.*sqlite:///FILE"):
            opened(fake_experiment(tmp_path, storage=url))


def test_a_server_that_is_not_there_and_a_password_that_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "_OPENING", 0.1)
    with pytest.raises(UnansweredError, match=r"(?s)cannot be opened.*me:\*\*\*@127.0.0.1:1/db") as caught:
        opened(fake_experiment(tmp_path, storage="postgresql+psycopg2://me:secret@127.0.0.1:1/db"))
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_on_postgresql_as_well(postgres: Postgres, tmp_path: Path) -> None:
    experiment = fake_experiment(tmp_path, storage=postgres.database("optuna"), trials=8, patience=30.0)
    with Processes(experiment, 2, FAKE_SECONDS="0.05") as processes:
        study = opened(experiment)
        wait_for(lambda: any(record.finished for record in study.records()))
        before = [record for record in study.records() if record.finished]
        postgres.stop()
        time.sleep(1)
        postgres.start()
        assert [process.wait(60) for process in processes] == [0, 0]
    records = study.records()
    assert sum(record.finished for record in records) == 8
    assert [record for record in records if record.number in {one.number for one in before}] == before
    assert study.best() is not None


@pytest.mark.slow
def test_two_processes_share_a_study_and_one_is_killed(tmp_path: Path) -> None:
    experiment = on(tmp_path, trials=8, pruner="none", heartbeat=1000)
    study = opened(experiment)
    with Processes(experiment, 2, FAKE_SECONDS="0.05") as [killed, other]:
        name = f"{identity().rpartition('/')[0]}/{killed.pid}"
        wait_for(lambda: any(one.worker == name and one.state == "running" and one.curve for one in study.records()))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert other.wait(60) == 0
    records = study.records()
    assert sum(record.finished for record in records) == 8
    assert [record.reason for record in records if record.state == "failed"] == [
        f"its worker died (process {killed.pid} on {os.uname().nodename})"
    ]
    assert len({record.worker for record in records}) == 2


class Held:
    """A database that somebody else writes to, without an end."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()
        self.connection.close()


class Processes:
    """Worker processes, killed on the way out."""

    def __init__(self, experiment: Experiment, count: int, **environment: str) -> None:
        self.processes = [
            subprocess.Popen(
                [*COMMAND, str(number)],
                env={**os.environ, **environment, "PYTHONPATH": str(Path.cwd())},
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for number in range(count)
        ]
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(Job(experiment=experiment, study="fake-study").model_dump_json().encode() + b"\n")
            process.stdin.flush()

    def __enter__(self) -> list[subprocess.Popen[bytes]]:
        return self.processes

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
