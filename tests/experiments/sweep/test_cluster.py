"""Workers of a sweep on a real cluster of several nodes, with the study in a real PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.errors import EmonetError, RequestError
from experiments.core import SweepConfig
from experiments.sweep import Study, plan_of, study_run
from experiments.sweep import cluster as sweep_cluster
from experiments.sweep.cluster import ClusterWorkers, require_reachable, room
from experiments.sweep.search import search
from experiments.sweep.tracking import Mirror
from experiments.sweep.worker import Job
from tests.databases import Postgres
from tests.experiments.sweep.fakes import COMMAND, fake_experiment

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),  # on a busy machine a worker takes half a minute to import PyTorch
]
SMALL = {"object_store_memory": 80 * 2**20}


def test_sqlite_is_for_workers_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    file, server = "sqlite:////drive/optuna.db", "postgresql+psycopg2://somebody@host/studies"
    for storage, address in [(file, None), (server, "auto"), (server, None)]:
        require_reachable(SweepConfig(engine="ray", address=address), storage)
    with pytest.raises(RequestError, match=r"(?s)SQLite cannot be shared.*drive/optuna\.db.*--storage postgresql"):
        require_reachable(SweepConfig(engine="ray", address="auto"), file)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(RequestError, match="SQLite cannot be shared"):
        require_reachable(SweepConfig(engine="ray"), file)
    with pytest.raises(RequestError, match="address is for --engine ray"):
        require_reachable(SweepConfig(address="auto"), server)


@pytest.mark.parametrize(
    ("nodes", "count", "cpus", "gpus"),
    [
        ([(8, 0)], 2, 4, 0),
        ([(1, 0), (1, 0)], 1, 1, 0),  # not 2, which no node has
        ([(8, 0), (2, 0)], 3, 2, 0),  # 3 would leave one without a place
        ([(2, 0)], 5, 1, 0),  # some wait
        ([(0, 0)], 2, 1, 0),  # nodes may come
        ([(16, 2)], 3, 5, 0.5),  # two of three parts of 2/3 have no room on two GPUs
        ([(8, 1), (8, 4)], 2, 8, 1),
        ([(4, 1), (64, 0)], 2, 2, 0.5),  # the many processors are beside no GPU
        ([(1, 1), (64, 0)], 1, 1, 1),
        ([(4, 4), (60, 1)], 5, 1, 1),
        ([(12, 1)], 6, 2, 0.1666),  # six times 1/6 is more than one GPU, as Ray rounds
        ([], 1, 1, 0),
    ],
)
def test_what_a_worker_asks_for_is_on_some_node(
    nodes: list[tuple[int, int]], count: int, cpus: int, gpus: float
) -> None:
    asked = room([{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes], count)
    assert asked == {"num_cpus": cpus, "num_gpus": gpus}


@given(nodes=st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)), max_size=5), count=st.integers(1, 40))
def test_all_workers_have_a_place_or_ask_for_as_little_as_there_is(nodes: list[tuple[int, int]], count: int) -> None:
    asked = room([{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes], count)
    parts = round(asked["num_gpus"] * 10_000)  # as Ray counts
    has_gpus = any(gpu for _, gpu in nodes)
    assert (parts > 0) == has_gpus
    places = sum(
        min(int(cpu // asked["num_cpus"]), gpu * (10_000 // parts) if has_gpus else count) for cpu, gpu in nodes
    )
    assert places >= count or asked["num_cpus"] == 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_health_check_period_ms="500")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    yield made
    made.shutdown()


@pytest.mark.slow
def test_workers_on_several_nodes_and_one_that_is_killed(
    cluster: Any, postgres: Postgres, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    storage = postgres.database("cluster_sweep")
    experiment = fake_experiment(
        runs, trials=10, workers=2, storage=storage, engine="ray", address=cluster.address, heartbeat=0.5
    )
    study, folder = Study(plan_of(experiment, "cluster-study")), runs / "sweep"
    folder.mkdir(parents=True)
    look = Study.retire

    def retire(self: Study) -> list[int]:
        workers = {record.worker for record in self.records()}
        if nodes[0] in cluster.list_all_nodes() and len(workers) == 2 and self is study:
            cluster.remove_node(nodes[0], allow_graceful=False)
        return look(self)

    monkeypatch.setattr(Study, "retire", retire)
    with study_run(experiment, study) as run, Mirror(experiment, run) as mirror:
        search(experiment, study, folder, COMMAND, mirror)
    records = study.records()
    assert sum(record.finished for record in records) == 10
    assert len({record.worker for record in records}) >= 2
    assert nodes[0] not in cluster.list_all_nodes()
    cluster.remove_node(nodes[1], allow_graceful=False)


@pytest.mark.slow
def test_a_worker_asks_for_less_where_the_node_that_it_waits_for_dies(
    cluster: Any, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setattr(sweep_cluster, "PATIENCE", 0.0)
    told: list[str] = []
    monkeypatch.setattr(sweep_cluster.console, "say", told.append)
    large, small = (cluster.add_node(num_cpus=cpus, **SMALL) for cpus in (2, 1))
    runs.mkdir(exist_ok=True)
    ray.init(cluster.address, log_to_driver=False)
    try:
        holds = ray.remote(Holder).options(num_cpus=2).remote()
        ray.get(holds.is_there.remote())
        job = Job(experiment=fake_experiment(runs), study="study")
        with ClusterWorkers(1, job, runs, COMMAND, address=cluster.address) as workers:
            workers.broken()
            assert told == ["1 worker of 1 without a place (2 processors, 0 GPUs each); waiting"]
            assert not workers.identities
            cluster.remove_node(large, allow_graceful=False)
            until(lambda: workers.broken() or workers.identities)
            assert len(workers.identities) == 1
            assert len(told) == 1
    finally:
        ray.shutdown()
        cluster.remove_node(small, allow_graceful=False)


@pytest.mark.slow
def test_a_sweep_without_a_place_for_any_worker_ends(cluster: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_cluster, "PATIENCE", 0.0)
    monkeypatch.setattr(sweep_cluster, "START_SECONDS", 0.5)
    runs.mkdir(exist_ok=True)
    job = Job(experiment=fake_experiment(runs), study="study")
    with (
        ClusterWorkers(1, job, runs, COMMAND, address=cluster.address) as workers,
        pytest.raises(EmonetError, match=r"(?s)no worker of the sweep was placed.*1 processors, 0 GPUs.*--workers"),
    ):
        until(lambda: bool(workers.broken()))


class Holder:
    """Keeps its place."""

    def is_there(self) -> bool:
        return True


@pytest.mark.slow
def test_a_node_of_another_version_ends_the_sweep_with_its_reason(
    cluster: Any, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.add_node(num_cpus=1, **SMALL)
    monkeypatch.setattr(sweep_cluster, "versions", lambda: {"emonet": "0.0.1"})
    job = Job(experiment=fake_experiment(runs), study="study")
    runs.mkdir(exist_ok=True)
    with (
        ClusterWorkers(1, job, runs, COMMAND, address=cluster.address) as workers,
        pytest.raises(RequestError, match=r"(?s)other versions than the driver.*driver 0\.0\.1"),
    ):
        until(lambda: bool(workers.broken()))
    cluster.remove_node(node, allow_graceful=False)


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.2)
