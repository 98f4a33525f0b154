"""What becomes of a run whose process is stopped or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from emonet.runtime import heeded, place, stamp
from emonet.runtime.signals import Stopped
from emonet.tracking import default_uri, orphans, start_run, taken_up
from emonet.tracking.orphans import OWNER, close_orphans

DEAD = f"{place()}/{2**22 + 1}@1"
ELSEWHERE = "elsewhere/1/1/1@1"


@pytest.fixture
def client(runs: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=default_uri(runs))


def started(runs: Path, **config: Any) -> Any:
    return start_run(
        default_uri(runs), experiment="toy", name="x", artifacts=runs / "mlartifacts", config=config, tags={}
    )


def left(client: MlflowClient, *owners: str, experiment: str = "toy") -> str:
    """A run that is still open."""
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    tags = {f"{OWNER}{number}": owner for number, owner in enumerate(owners)}
    return str(client.create_run(place, tags=tags).info.run_id)


def status(client: MlflowClient, run: str) -> str:
    return str(client.get_run(run).info.status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_signal_ends_is_killed(runs: Path, client: MlflowClient, number: int) -> None:
    ids = []

    def work() -> None:
        with started(runs) as run:
            ids.append(run.id)
            assert client.get_run(run.id).data.tags[next(iter(orphans.owner()))] == stamp()
            os.kill(os.getpid(), number)

    with heeded(), pytest.raises(Stopped):
        work()
    ended = client.get_run(*ids)
    assert ended.info.status == "KILLED"
    assert not [tag for tag in ended.data.tags if tag.startswith(OWNER)], "it has no process any more"


def test_so_is_one_that_breaks_because_of_it(runs: Path, client: MlflowClient) -> None:
    ids = []

    def work() -> None:
        with started(runs) as run:
            ids.append(run.id)
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("children are gone")

    with heeded(), pytest.raises(ValueError, match="children are gone"):
        work()
    assert status(client, *ids) == "KILLED"


@pytest.mark.parametrize("call", ["create_run", "set_terminated", "delete_tag"])
def test_more_signals_at_bad_moments_leave_no_run_open(
    runs: Path, client: MlflowClient, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(MlflowClient, call)

    def disturbed(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        made = original(*arguments, **options)
        os.kill(os.getpid(), signal.SIGHUP)
        return made

    monkeypatch.setattr(MlflowClient, call, disturbed)
    with heeded(), pytest.raises(Stopped), started(runs):
        os.kill(os.getpid(), signal.SIGINT)
    found = client.get_experiment_by_name("toy")
    assert found is not None
    assert [run.info.status for run in client.search_runs([found.experiment_id])] == ["KILLED"]


def test_the_next_start_closes_what_a_killed_process_left(runs: Path, client: MlflowClient) -> None:
    dead = [left(client, DEAD), left(client, DEAD, DEAD), left(client, DEAD, experiment="another")]
    others = [left(client), left(client, ELSEWHERE), left(client, stamp()), left(client, DEAD, ELSEWHERE)]
    with started(runs):
        assert [status(client, run) for run in dead] == ["KILLED"] * 3
        assert [status(client, run) for run in others] == ["RUNNING"] * 4


def test_a_run_that_is_taken_up_again_belongs_to_this_process_too(runs: Path, client: MlflowClient) -> None:
    run = left(client, DEAD)
    with taken_up(default_uri(runs), run, runs / "mlartifacts"):
        assert close_orphans(client) == []
        assert status(client, run) == "RUNNING"
    assert status(client, run) == "FINISHED"


def test_a_killed_process_leaves_a_run_that_is_closed(
    runs: Path, client: MlflowClient, forked: Callable[[Callable[[], None]], int]
) -> None:
    def work() -> None:
        with started(runs):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(work) == -signal.SIGKILL
    found = client.get_experiment_by_name("toy")
    assert found is not None
    [run] = client.search_runs([found.experiment_id])
    assert run.info.status == "RUNNING"
    assert close_orphans(client) == [run.info.run_id]
    assert status(client, run.info.run_id) == "KILLED"


@pytest.fixture
def forked() -> Callable[[Callable[[], None]], int]:
    """Call something in a copy of this process; gives its exit code."""

    def fork(call: Callable[[], None]) -> int:
        child = os.fork()
        if not child:
            try:
                call()
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return fork
