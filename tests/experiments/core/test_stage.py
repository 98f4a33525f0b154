from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from emonet.errors import EmonetError, RequestError
from emonet.tracking import backlog, default_uri
from experiments.core import Experiment, StageContext, StageResult, require_result, run_stage, write_text
from experiments.core.stage import read_result
from tests.cache.test_full_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture


class ToyResult(StageResult):
    """A stage's own field."""

    answer: int


@pytest.fixture
def experiment(runs: Path) -> Experiment:
    return Experiment(name="toy", runs=runs)


def run_toy(experiment: Experiment, *, inputs: Mapping[str, Any] | None = None, answer: int = 1) -> ToyResult:
    output = experiment.folder / "output"

    def work(job: StageContext) -> dict[str, Any]:
        job.run.metrics({"answer": answer})
        output.mkdir(exist_ok=True)
        return {"answer": answer}

    return run_stage(experiment, "toy", ToyResult, inputs or {"corpus": "a"}, [output], work)


def test_a_finished_stage_is_not_run_again(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_toy(experiment, answer=1)
    again = run_toy(experiment, answer=2)
    assert again == first
    assert "up to date" in capsys.readouterr().err
    assert json.loads((experiment.folder / "toy.json").read_text())["answer"] == 1


@pytest.mark.parametrize("change", ["inputs", "output gone", "force", "result cut short"])
def test_what_makes_a_stage_run_again(experiment: Experiment, change: str) -> None:
    run_toy(experiment, answer=1)
    inputs = {"corpus": "b"} if change == "inputs" else None
    if change == "output gone":
        (experiment.folder / "output").rmdir()
    if change == "result cut short":
        (experiment.folder / "toy.json").write_text('{"inputs": ')
    if change == "force":
        experiment = Experiment(name="toy", runs=experiment.runs, force=True)
    assert run_toy(experiment, inputs=inputs, answer=2).answer == 2


DAMAGED = {
    "cut short": b'{"inputs": ', "a list": b"[]", "a number": b"7", "nothing": b"null", "a text": b'"inputs"', "empty": b"",
    "other types": b'{"inputs": [1], "answer": "x"}', "no UTF-8": b"\xff\xfe{}", "zeros": bytes(4096),
    "deep": b"[" * 100_000, "of another version": b'{"stage": "toy", "inputs": "x", "colour": 1}',
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_result_is_none_and_said(
    experiment: Experiment, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment.folder / "toy.json"
    path.parent.mkdir()
    path.write_bytes(DAMAGED[damage])
    message = f"{path} does not hold a result of this version"
    assert read_result(experiment, "toy", ToyResult) is None
    with pytest.raises(RequestError, match=r"(?s)has not finished.*found: +a file that cannot be used"):
        require_result(experiment, "toy", ToyResult)
    assert capsys.readouterr().err.count(message) == 2
    assert run_toy(experiment, answer=3).answer == 3
    assert message in capsys.readouterr().err
    assert run_toy(experiment, answer=4).answer == 3


def test_a_folder_in_the_place_of_a_result_is_none(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    (experiment.folder / "toy.json").mkdir(parents=True)
    assert read_result(experiment, "toy", ToyResult) is None
    assert "Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("committed", [False, True])
def test_a_stage_that_fails_keeps_the_former_result_until_it_replaces_outputs(
    experiment: Experiment, committed: bool
) -> None:
    former = run_toy(experiment)

    def fail(job: StageContext) -> dict[str, Any]:
        if committed:
            job.commit()
        raise EmonetError("out of luck")

    with pytest.raises(EmonetError, match="out of luck"):
        run_stage(experiment, "toy", ToyResult, {"corpus": "c"}, [], fail)
    assert read_result(experiment, "toy", ToyResult) == (None if committed else former)
    client = MlflowClient(tracking_uri=default_uri(experiment.runs))
    found = client.get_experiment_by_name("toy")
    assert found is not None
    assert sorted(run.info.status for run in client.search_runs([found.experiment_id])) == ["FAILED", "FINISHED"]


def test_the_run_carries_config_tags_and_metrics(experiment: Experiment) -> None:
    result = run_toy(experiment, answer=7)
    run = MlflowClient(tracking_uri=default_uri(experiment.runs)).get_run(result.run_id)
    assert run.data.metrics["answer"] == 7
    assert run.data.params["captioner.epochs"] == str(experiment.captioner.epochs)
    assert run.data.tags["stage"] == "toy"
    assert run.data.tags["corpus"] == "a"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40


def test_a_second_process_is_refused(experiment: Experiment) -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(job: StageContext) -> dict[str, Any]:
        inside.set()
        leave.wait(30)
        return {"answer": 1}

    thread = threading.Thread(target=run_stage, args=(experiment, "toy", ToyResult, {"a": 1}, [], wait))
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(EmonetError, match=r"(?s)another process is running the stage 'toy'.*wait for it"):
            run_toy(experiment)
    finally:
        leave.set()
        thread.join()


def test_a_stage_that_has_to_come_first(experiment: Experiment) -> None:
    with pytest.raises(
        RequestError, match=r"(?s)'toy' of experiment 'toy' has not finished.*emonet toy, with the same"
    ):
        require_result(experiment, "toy", ToyResult)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(RequestError, match=r"(?s)cannot be written.*--runs FOLDER"):
        run_toy(Experiment(name="toy", runs=tmp_path / "runs"))


def test_a_disk_that_may_only_be_read(small_disk: Path) -> None:
    experiment = Experiment(name="toy", runs=small_disk / "runs")
    experiment.folder.mkdir(parents=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RequestError, match=r"(?s)cannot be written.*Read-only file system.*--runs FOLDER"):
        run_toy(experiment)


def test_a_full_disk_is_told_before_anything_begins(small_disk: Path) -> None:
    experiment = Experiment(name="toy", runs=small_disk / "runs")
    experiment.folder.mkdir(parents=True)
    fill(small_disk)
    with pytest.raises(EmonetError, match=r"(?s)the disk is full; nothing was begun.*toy.*free some space") as full:
        run_toy(experiment)
    assert full.value.exit_code == 1
    assert list(small_disk.rglob("mlflow.db")) == []


def test_a_text_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


class LateResult(ToyResult):
    """A stage whose work is followed by something that may fail."""

    published: bool

    @property
    def settled(self) -> bool:
        return self.published


def test_what_follows_the_work_does_not_cost_it(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markup = tmp_path / "[/x]"
    markup.parent.mkdir()
    experiment = Experiment(name="toy", runs=experiment.runs.rename(markup))
    worked: list[StageContext] = []

    def work(job: StageContext) -> dict[str, Any]:
        worked.append(job)
        job.keep({"answer": 3, "published": False})
        raise EmonetError("the server is gone")

    def resume(job: StageContext, done: LateResult) -> dict[str, Any]:
        job.run.metrics({"answer": done.answer})
        return {**dict(done), "published": True}

    def run() -> LateResult:
        return run_stage(experiment, "toy", LateResult, {"corpus": "a"}, [], work, resume=resume)

    with pytest.raises(EmonetError, match="the server is gone"):
        run()
    assert read_result(experiment, "toy", LateResult).answer == 3
    result = run()
    assert f"its work is done and safe ({markup}/toy/toy.json)" in capsys.readouterr().err
    assert (len(worked), result.answer, result.published) == (1, 3, True)
    client = MlflowClient(tracking_uri=default_uri(experiment.runs))
    assert client.get_run(result.run_id).info.status == "FINISHED", "the same run, taken up again"
    assert client.get_run(result.run_id).data.metrics["answer"] == 3
    assert run() == result == read_result(experiment, "toy", LateResult)


def test_the_result_is_written_before_the_run_is_ended(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(MlflowClient, "set_terminated", gone)
    with pytest.raises(EmonetError, match=r"(?s)tracking server cannot be used.*the server is gone"):
        run_toy(experiment, answer=5)
    assert read_result(experiment, "toy", ToyResult).answer == 5


def test_figures_that_mlflow_did_not_take_are_logged_by_the_next_call(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[StageContext] = []

    def work(job: StageContext) -> dict[str, Any]:
        worked.append(job)
        monkeypatch.setattr(backlog, "PATIENCE", 0.0)
        monkeypatch.setattr(MlflowClient, "log_batch", away)
        monkeypatch.setattr(MlflowClient, "search_experiments", away)
        relog(job, ToyResult.model_construct(answer=3))
        return {"answer": 3}

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("the server is gone")

    def relog(job: StageContext, done: ToyResult) -> None:
        job.run.metrics({"answer": done.answer})

    def run() -> ToyResult:
        return run_stage(experiment, "toy", ToyResult, {"corpus": "a"}, [], work, relog=relog)

    with pytest.raises(EmonetError, match="MLflow has not taken 1 "):
        run()
    monkeypatch.undo()
    result = run()
    assert (len(worked), result.answer) == (1, 3)
    found = MlflowClient(tracking_uri=default_uri(experiment.runs)).get_run(result.run_id)
    assert (found.data.metrics, found.info.status) == ({"answer": 3}, "FINISHED")
    assert run() == result, "up to date"
