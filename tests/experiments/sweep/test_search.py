"""A search with worker processes, and its copy in MLflow; trials take no training."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from emonet.errors import EmonetError
from emonet.tracking import default_uri
from experiments.core import Experiment
from experiments.sweep import Study, plan_of, study_run
from experiments.sweep import search as sweep_search
from experiments.sweep import tracking as sweep_tracking
from experiments.sweep import verb as sweep
from experiments.sweep import worker as sweep_worker
from experiments.sweep import workers as sweep_workers
from experiments.sweep.search import search
from experiments.sweep.tracking import Mirror, log_missing, log_study
from experiments.sweep.trials import TrialOutcome
from experiments.sweep.verb import SweepResult
from experiments.sweep.worker import Job, own_gpu, work
from experiments.sweep.workers import Workers, _shared_threads
from tests.experiments.sweep import fakes as sweep_fakes
from tests.experiments.sweep.fakes import COMMAND, FakeTrials, fake_experiment, wait_for
from tests.experiments.sweep.test_studies import run_all

STUDY = "fake-study"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setattr(sweep_search, "POLL", 0.1)
    monkeypatch.setattr(sweep_tracking, "WAIT", 0.2)


def searched(experiment: Experiment) -> tuple[Study, Path]:
    study, folder = Study(plan_of(experiment, STUDY)), experiment.runs / "sweep"
    folder.mkdir(exist_ok=True, parents=True)
    with study_run(experiment, study) as run, Mirror(experiment, run) as mirror:
        search(experiment, study, folder, COMMAND, mirror)
    return study, folder


@pytest.mark.slow
def test_two_workers_and_all_of_it_in_mlflow(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "some")
    experiment = fake_experiment(runs, trials=8, workers=2, sampler="random")
    study, folder = searched(experiment)
    records = study.records()
    assert sum(record.finished for record in records) == 8
    assert sorted(path.name for path in folder.iterdir()) == ["worker-0.log", "worker-1.log"]
    said = capsys.readouterr().err
    assert "0 of 8 trials finished, 2 workers with logs in" in said
    assert all(f"trial {record.number}: " in said for record in records)

    client = MlflowClient(default_uri(runs))
    parent = client.get_run(study.attribute(next(name for name in study._study.user_attrs if "mlflow" in name)))
    assert parent.info.status == "FINISHED"
    assert "sweep.trials" in parent.data.params
    assert "sweep.storage" not in parent.data.params, "it may hold a password"
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    by_number = {int(run.data.tags["trial"]): run for run in found}
    assert sorted(by_number) == [record.number for record in records]
    for record in records:
        run = by_number[record.number]
        assert run.data.tags["state"] == record.state
        assert run.info.status == ("FAILED" if record.state == "failed" else "FINISHED")
        assert run.data.params["heads.learning_rate"] == str(record.params["heads.learning_rate"])
        curve = [point.value for point in client.get_metric_history(run.info.run_id, "val_mae")]
        assert curve == pytest.approx(record.curve)
        if record.state == "failed":
            assert run.data.tags["reason"] == "RuntimeError: no such weather"
        if record.state == "pruned":
            assert run.data.metrics["pruned_after"] == len(record.curve)

    again, _ = searched(experiment)
    assert again.records() == records
    assert "8 of 8 trials finished" in capsys.readouterr().err
    assert len(client.search_runs([parent.info.experiment_id])) == 1 + len(records), "the parent is the same"


def test_trials_that_all_fail_end_the_sweep(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "all")
    experiment = fake_experiment(runs, trials=50)
    message = r"(?s)the last \d+ trials failed one after the other.*no such weather.*the same command goes on"
    with pytest.raises(EmonetError, match=message):
        searched(experiment)
    records = Study(plan_of(experiment, STUDY)).records()
    assert 5 <= sum(record.reason == "RuntimeError: no such weather" for record in records) < 50
    assert not any(record.state == "running" for record in records)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_the_others_go_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    experiment = fake_experiment(runs, trials=8, workers=2, pruner="none", heartbeat=1000)
    started: list[Workers] = []
    monkeypatch.setattr(sweep_search, "Workers", lambda *arguments: started.append(Workers(*arguments)) or started[0])

    def kill() -> None:
        wait_for(lambda: started and any(one.finished for one in Study(plan_of(experiment, STUDY)).records()))
        started[0]._processes[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    study, folder = searched(experiment)
    thread.join()
    records = study.records()
    assert sum(record.finished for record in records) == 8
    assert f"worker 0 was killed by signal 9 ({folder / 'worker-0.log'})" in capsys.readouterr().err
    assert all("its worker died" in str(record.reason) for record in records if record.state == "failed")


def test_no_worker_left(runs: Path) -> None:
    experiment = fake_experiment(runs, trials=3, workers=2)
    study, folder = Study(plan_of(experiment, STUDY)), runs
    command = (sys.executable, "-c", "import sys; print('out of luck'); sys.exit(3)")
    message = r"(?s)no worker is left.*stopped with exit code 3.*out of luck.*goes on"
    with (
        study_run(experiment, study) as run,
        Mirror(experiment, run) as mirror,
        pytest.raises(EmonetError, match=message),
    ):
        search(experiment, study, folder, command, mirror)


@pytest.fixture
def process(runs: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "FAKE_STAY": "until it is interrupted"}
    script = str(sweep_fakes.__file__)
    with subprocess.Popen(
        [sys.executable, script, "search", str(runs)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        yield process
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopping_it_loses_nothing(number: signal.Signals, process: subprocess.Popen[str], runs: Path) -> None:
    experiment = fake_experiment(runs, trials=2, workers=2)
    study = Study(plan_of(experiment, STUDY))
    wait_for(lambda: sum(record.state == "running" and bool(record.curve) for record in study.records()) == 2)
    pids = [int(record.worker.rpartition("/")[2]) for record in study.records()]
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    wait_for(lambda: not any(alive(pid) for pid in pids))
    records = study.records()
    interrupted = [record for record in records if record.reason == "interrupted"]
    assert len(interrupted) == 2, [(r.number, r.state, r.reason, len(r.curve)) for r in records]
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "ending the running trials" in said
        assert "the same command goes on from there" in said
    again = run_all(experiment).records()
    assert sum(record.finished for record in again) == 2
    assert [record for record in again if record.number <= records[-1].number] == records


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()


def test_mlflow_that_is_locked_gets_its_trials_later(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = fake_experiment(runs, trials=2)
    study = run_all(experiment)
    with study_run(experiment, study) as run:
        lock = sqlite3.connect(runs / "mlflow.db", check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
        with Mirror(experiment, run) as mirror:
            mirror.offer(study.records())
            time.sleep(0.3)
            lock.rollback()
        lock.close()
        assert mirror.missed == 0
        count = len(run.client.search_runs([run.client.get_run(run.id).info.experiment_id]))
    assert count == 3


def test_mlflow_that_is_gone_costs_no_trial(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = fake_experiment(runs, trials=2)
    study = run_all(experiment)
    with study_run(experiment, study) as run:
        with monkeypatch.context() as gone:
            gone.setattr("emonet.tracking.record_run", refuse)
            mirror = Mirror(experiment, run)
            with mirror:
                mirror.offer(study.records())
                mirror.close(0.3)
        assert mirror.missed == 2
        said = capsys.readouterr().err
        assert "MLflow does not take trials (no space left on device); they are offered again" in said
        assert "did not take 2 trials; the study has them" in said
        log_missing(experiment, run, study.records())
        log_missing(experiment, run, study.records())
        nested = run.client.search_runs([run.client.get_run(run.id).info.experiment_id], "tags.stage = 'trial'")
    assert sorted(one.data.tags["trial"] for one in nested) == ["0", "1"]


def refuse(*_: object, **__: object) -> None:
    raise OSError("no space left on device")


def test_a_half_logged_trial_is_logged_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = fake_experiment(runs, trials=1)
    study = run_all(experiment)
    with study_run(experiment, study) as run:
        with monkeypatch.context() as gone:
            gone.setattr("emonet.tracking.runs.Run.curves", refuse)
            with pytest.raises(OSError, match="no space"):
                sweep_tracking.log_trial(experiment, run, study.records()[0])
        log_missing(experiment, run, study.records())
        nested = run.client.search_runs([run.client.get_run(run.id).info.experiment_id], "tags.stage = 'trial'")
    assert [one.info.status for one in nested] == ["FINISHED"]


@pytest.mark.slow
def test_pictures_and_a_table_of_the_study(runs: Path, tmp_path: Path) -> None:
    experiment = fake_experiment(runs, trials=12)
    study = run_all(experiment)
    with study_run(experiment, study) as run:
        log_study(run, study, study.records(), tmp_path)
        logged = {Path(one.path).name for one in run.client.list_artifacts(run.id, "study")}
    pictures = {"history.png", "importance.png", "parallel_coordinates.png", "slices.png"}
    assert logged == {*pictures, "trials.csv"}
    sizes = [(tmp_path / "plots" / name).stat().st_size for name in sorted(pictures)]
    assert min(sizes) > 10_000, "they are not empty"
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0].startswith("trial,state,mae,epochs,heads.learning_rate,heads.inputs")
    assert len(lines) == 1 + len(study.records())


def test_processor_cores_and_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert _shared_threads(1) == {}
    assert _shared_threads(3)["OMP_NUM_THREADS"] == "2"
    assert _shared_threads(9)["OMP_NUM_THREADS"] == "1"
    assert [own_gpu(number, 2, None) for number in range(3)] == ["0", "1", "0"]
    assert [own_gpu(number, 4, "3,5") for number in range(2)] == ["3", "5"]
    assert own_gpu(1, 1, None) is None
    assert own_gpu(1, 4, "2") is None


def test_a_worker_takes_no_modules_of_the_working_folder(somebodys_project: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*sweep_workers.COMMAND, "0"]
    done = subprocess.run(
        command, input="no job\n", capture_output=True, text=True, cwd=somebodys_project, env=environment
    )
    assert "validation error for Job" in done.stderr


def test_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = fake_experiment(tmp_path, trials=5)
    study = Study(plan_of(experiment, STUDY))
    job = sweep_worker.Job(experiment=experiment, study=STUDY, until=time.time() - 1)
    sweep_worker.work(study, job, sweep_fakes.FakeTrials())
    assert study.records() == []


def test_why_a_trial_failed_is_kept_with_what_to_do(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Once(FakeTrials):
        calls = 0

        def run(self, experiment: Experiment, report: Callable[[int, float], None]) -> TrialOutcome:
            self.calls += 1
            if self.calls == 1:
                raise EmonetError("not enough memory", found="3 GiB", hint="--heads.memory 8")
            return super().run(experiment, report)

    experiment = fake_experiment(runs, trials=1)
    study = Study(plan_of(experiment, STUDY))
    work(study, Job(experiment=experiment, study=STUDY), Once())
    records = study.records()
    reason = "not enough memory found: 3 GiB try: --heads.memory 8"
    assert [record.reason for record in records] == [reason, None]
    summary = sweep._summary(study, records, study.best())
    assert summary["reasons"] == {reason: 1}
    fields = {"stage": "sweep", "experiment": "fake", "inputs": "", "run_id": "", "seconds": 1.0, "complete": True}
    sweep.show(SweepResult.model_validate({**fields, **summary}))
    assert f"1 trial failed: {reason}" in capsys.readouterr().err
