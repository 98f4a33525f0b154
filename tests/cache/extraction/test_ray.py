"""On real clusters of several nodes, all on this machine."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.extraction import ExtractionReport, choose, encoder_settings, extract, extract_on_ray
from cache.extraction import ray as driving
from cache.extraction.crew import DEATHS, DEPTH, Crew
from cache.extraction.worker import Job, LostError, Ready, Receipt, Refusal, ShardWorker, different_clock
from cache.store import FeatureStore, marked_shards, marker_file, place, read_marker
from cache.writing import Notices
from emonet.clips import AudioRange, Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import open_encoder
from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects
from emonet.runtime import versions

Make = Callable[..., Any]
CONFIG = ExtractionConfig(
    batch_size=2, shard_clips=3, precision="float32", workers=1, engine="ray", processors_per_worker=1
)
ROOT = Path(__file__).parents[3]
# Of the processes that a cluster has started on its nodes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),  # on a busy machine a worker takes half a minute to import PyTorch
]


def configured(**changes: Any) -> ExtractionConfig:
    return ExtractionConfig.model_validate(CONFIG.model_dump() | changes)


def alone(corpus: Corpus, weights: Path, path: Path, config: ExtractionConfig = CONFIG) -> ExtractionReport:
    encoder = open_encoder(str(weights), device="cpu", **encoder_settings(config))
    return extract(corpus, encoder, path, config, source="tiny")


def assert_same(store: Path, other: Path) -> None:
    """Bit for bit: every file of both, and no other one."""
    names = [sorted(str(file.relative_to(one)) for file in one.rglob("*") if file.is_file()) for one in (store, other)]
    assert names[0] == names[1]
    assert filecmp.cmpfiles(store, other, names[0], shallow=False)[1:] == ([], [])


# Without a cluster


def test_the_devices_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def local(**changes: Any) -> ExtractionConfig:
        return configured(engine="local", **changes)

    assert choose(local(devices=("cpu", "cpu"))) == ("cpu", "cpu")
    for gpus, expected in [(0, ()), (1, ()), (3, ("cuda:0", "cuda:1", "cuda:2"))]:
        monkeypatch.setattr(driving.torch.cuda, "is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(driving.torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert choose(local()) == expected
    assert choose(local(devices=("cuda:1",))) == ("cuda:1",)
    with pytest.raises(RequestError, match=r"(?s)no such device.*cuda:0, cuda:1, cuda:2.*found: +cuda:3"):
        choose(local(devices=("cuda:0", "cuda:3")))
    with pytest.raises(RequestError, match=r"(?s)Ray that places workers.*CUDA_VISIBLE_DEVICES"):
        choose(configured(devices=("cuda:0",)))
    with pytest.raises(RequestError, match="address is for"):
        choose(local(address="auto"))
    monkeypatch.setattr(driving, "has_ray", lambda: False)
    with pytest.raises(RequestError, match=r"(?s)Ray is not installed.*pip install 'emonet\[ray\]'.*share the work"):
        choose(local(devices=("cuda:0", "cuda:1")))


def test_gpus_of_devices_are_those_that_ray_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    with driving._visible(("cuda:0", "cuda:2")) as gpus:
        assert (gpus, os.environ["CUDA_VISIBLE_DEVICES"]) == (2, "4,7")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,7"
    with driving._visible(("cpu", "cpu")) as gpus:
        assert gpus == 0
    with pytest.raises(RequestError, match="of one kind"), driving._visible(("cuda:0", "cpu")):
        pass


def test_what_cannot_go_onto_a_cluster_is_refused_before_one_is_asked_for(
    make_corpus: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**changes: Any) -> None:
        config = configured(address="127.0.0.1:1", **changes)
        extract_on_ray(make_corpus(4), "nowhere", tmp_path / "s.zarr", config, source="tiny")

    with pytest.raises(RequestError, match=r"(?s)no Ray cluster answers.*127\.0\.0\.1:1.*refused"):
        run()
    monkeypatch.setattr("emonet.runtime.cluster.has_ray", lambda: False)
    with pytest.raises(RequestError, match=r"(?s)Ray is not installed.*pip install 'emonet\[ray\]'"):
        run()


def test_clocks_that_differ_are_told_apart_from_slow_answers() -> None:
    assert different_clock((99.0, 100.0), 90.0, 110.0) == 0.0  # somewhere between
    assert different_clock((91.0, 112.0), 90.0, 110.0) == 0.0
    assert different_clock((151.0, 170.0), 90.0, 110.0) == 60.0
    assert different_clock((30.0, 49.0), 90.0, 110.0) == -60.0


def test_what_a_worker_lacks_costs_the_worker_and_what_an_extraction_refuses_ends_it(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, corpus, config = tmp_path / "probe", make_corpus(6), configured()
    probe.write_text("here")
    store = tmp_path / "s.zarr"
    job = Job(
        corpus, str(tiny_encoder), store, config, "tiny", "cpu", 1, Path.cwd(), None, (probe, "here"), versions()
    )  # fmt: skip
    alone(corpus, tiny_encoder, store)
    marker_file(store, 1).unlink()
    for error, kind in [(MemoryError("too much"), LostError), (EmonetError("the disk is full"), Refusal)]:
        worker = ShardWorker()
        ready = worker.begin(job)
        assert isinstance(ready, Ready)
        assert worker.join(ready.record) is None

        def fails(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(worker._encoder, "stream", fails)
        if kind is Refusal:
            assert isinstance(worker.fill(1), Refusal)
        else:
            with pytest.raises(LostError, match="MemoryError: too much"):
                worker.fill(1)
        worker.end()
    worker = ShardWorker()
    monkeypatch.setattr("cache.extraction.worker.SEEN", 0.0)
    assert isinstance(worker.begin(replace(job, probe=(probe, "elsewhere"))), Refusal)
    worker.begin(job)
    assert worker.join(ready.record) is None
    receipt = worker.fill(1)
    assert isinstance(receipt, Receipt)
    assert receipt.marker == read_marker(store, ready.record, 1)
    worker._receipts[1] = Future()
    worker._receipts[1].set_exception(MemoryError())  # it failed while another thread wrote the shard
    worker._written(receipt.marker)
    worker.end()


def test_a_worker_that_comes_late_leaves_the_table_of_a_finished_store(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, corpus, store = tmp_path / "probe", make_corpus(3), tmp_path / "s.zarr"
    probe.write_text("here")
    job = Job(
        corpus, str(tiny_encoder), store, configured(), "tiny", "cpu", 1, Path.cwd(), None, (probe, "here"), versions()
    )  # fmt: skip
    alone(corpus, tiny_encoder, store)
    worker = ShardWorker()
    ready = worker.begin(job)
    assert isinstance(ready, Ready)
    # A network drive that does not show the last marker yet.
    monkeypatch.setattr("cache.writing.writer.marked_shards", lambda path: set())
    assert worker.join(ready.record) is None
    worker.end()
    assert len(FeatureStore.open(store)) == 3
    shutil.rmtree(store)
    worker = ShardWorker()
    worker.begin(job)
    assert isinstance(worker.join(ready.record), Refusal)
    assert not store.exists()  # only the driver makes one


def test_a_node_that_does_not_see_what_holds_the_audio_is_left_out(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    tar, probe = tmp_path / "a.tar", tmp_path / "probe"
    tar.write_bytes(b"audio")
    probe.write_text("here")
    inside = Corpus("inside", (Clip("a", AudioRange(str(tar), 0, 5), "s", "train"),))
    assert driving._audio(inside) == str(tar)
    assert driving._audio(make_corpus(1)) == str(tmp_path / "audio/000.wav")
    assert driving._audio(Corpus("held", (Clip("a", b"audio", "s", "train"),))) is None
    assert driving._audio(Corpus("away", (Clip("a", AudioRange(f"{tar}.no", 0, 5), "s", "train"),))) is None
    job = Job(
        inside, str(tiny_encoder), tmp_path / "s.zarr", configured(), "tiny", "cpu", 1, Path.cwd(), str(tar),
        (probe, "here"), versions(),
    )  # fmt: skip
    assert isinstance(ShardWorker().begin(job), Ready)
    tar.unlink()
    refusal = ShardWorker().begin(job)
    assert isinstance(refusal, Refusal)
    assert b"does not see the corpus' audio" in refusal.error


# With one


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head does no work."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_health_check_period_ms="500")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    yield made
    made.shutdown()


SMALL = {"object_store_memory": 80 * 2**20}


@pytest.fixture
def add(cluster: Any) -> Iterator[Callable[[], Any]]:
    """Adds a node with one processor."""
    added = []

    def one() -> Any:
        added.append(cluster.add_node(num_cpus=1, **SMALL))
        return added[-1]

    yield one
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def run(cluster: Any, tiny_encoder: Path, tmp_path: Path) -> Callable[..., ExtractionReport]:
    def on_cluster(corpus: Corpus, config: ExtractionConfig = CONFIG, **options: Any) -> ExtractionReport:
        config = config.model_copy(update={"address": cluster.address})
        return extract_on_ray(corpus, str(tiny_encoder), tmp_path / "s.zarr", config, source="tiny", **options)

    return on_cluster


@pytest.mark.slow
def test_several_nodes_make_the_store_of_one_process(
    run: Callable[..., ExtractionReport], add: Callable[[], Any], make_corpus: Make, tiny_encoder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    add(), add()
    corpus = make_corpus(40, broken=(5,))
    config = configured(frames="speech", codec="bfloat")
    calls: list[tuple[int, int, str]] = []
    held: list[Held] = []

    def watch(completed: int, total: int, note: str = "") -> None:
        calls.append((completed, total, note))
        if held:
            held[0].stays(until=len(nodes_of(note)) == 2)
        elif len(nodes_of(note)) == 1:  # on a busy machine the other one begins late
            held.append(Held(worker_on(nodes_of(note)[0])))

    monkeypatch.setattr(driving, "_NOTE", 0.0)
    report = run(corpus, config, progress=watch)
    one = alone(corpus, tiny_encoder, tmp_path / "alone.zarr", config)
    assert_same(tmp_path / "s.zarr", tmp_path / "alone.zarr")
    assert (report.fingerprint, report.sounds, report.failures) == (one.fingerprint, one.sounds, one.failures)
    assert (report.complete, report.clips, report.failed, report.lost, report.extracted) == (True, 40, 1, (), 40)
    assert sum(share.clips for share in report.nodes.values()) == 40
    assert len(report.nodes) == 2
    assert calls[0][:2] == (0, 40)
    assert calls[-1][:2] == (40, 40)
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert re.search(r"TFLOP/s.*MB/s; .+/s, .+/s", calls[-1][2])
    assert not list(tmp_path.glob(".*probe"))
    with pytest.raises(RequestError, match=r"(?s)clips: the store has 40, wanted 41.*--force"):
        run(make_corpus(41), config)


@pytest.mark.slow
def test_a_store_among_objects_is_that_of_a_disk(
    bucket: str, make_corpus: Make, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where none is: devices are of this machine
    corpus, objects = make_corpus(13), Objects.open(bucket)
    report = extract_on_ray(
        corpus, str(tiny_encoder), place(f"{bucket}/s.zarr"), configured(engine="local"), source="tiny",
        devices=("cpu", "cpu"),
    )  # fmt: skip
    assert report.complete
    alone(corpus, tiny_encoder, tmp_path / "s.zarr")
    files = (file for file in (tmp_path / "s.zarr").rglob("*") if file.is_file())
    assert {key: objects.read(key) for key, _ in objects.list()} == {
        file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in files
    }  # no lease and no probe is left


@pytest.mark.slow
def test_a_node_that_is_killed_in_mid_shard(
    cluster: Any, run: Callable[..., ExtractionReport], add: Callable[[], Any], make_corpus: Make, tiny_encoder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    nodes = [add(), add()]
    corpus = make_corpus(90)
    killed: list[Any] = []

    def kill(completed: int, total: int, note: str = "") -> None:
        if not killed and completed >= 12 and nodes_of(note):  # one that has done shards, and has others
            killed.extend(node for node in nodes if node.node_id.startswith(nodes_of(note)[0]))
            worker = worker_on(nodes_of(note)[0])
            os.kill(worker, signal.SIGSTOP)  # all of the machine is gone at once: it would do more without its raylet
            cluster.remove_node(killed[0], allow_graceful=False)
            os.kill(worker, signal.SIGKILL)

    monkeypatch.setattr(driving, "_NOTE", 0.0)
    report = run(corpus, progress=kill)
    assert report.complete
    assert len(report.lost) == len(killed) == 1
    assert_same_as_alone(corpus, tiny_encoder, tmp_path)


@pytest.mark.slow
def test_a_worker_out_of_memory_and_a_node_that_joins_late(
    run: Callable[..., ExtractionReport], add: Callable[[], Any], make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    add()
    corpus, ends = make_corpus(150), ["kill", "join"]
    killed: list[int] = []
    held: list[Held] = []
    until = 0  # clips

    def disturb(completed: int, total: int, note: str = "") -> None:
        nonlocal until
        if held and held[0].stays(until=completed > until):
            return
        if not ends or completed < 12 * (3 - len(ends)):
            return
        worker = next((worker for worker, _ in running() if worker not in killed), None)
        if worker is None:  # the next one is not there yet
            return
        if ends.pop(0) == "kill":  # as the kernel does where memory is short
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)
        else:  # nothing more is done than what is on its way, until the node that joins has done some
            held.append(Held(worker))
            until = completed + DEPTH * CONFIG.shard_clips
            add()

    said: list[str] = []
    report = run(corpus, progress=disturb, say=said.append)
    assert report.complete
    assert (len(report.lost), len(report.nodes)) == (1, 2), report
    assert re.search(
        r": its process ended \(.*connection", report.lost[0]
    )  # not a guess: Ray names memory among causes
    assert "lost a worker" in said[0]
    assert_same_as_alone(corpus, tiny_encoder, tmp_path)


@pytest.mark.slow
def test_a_worker_that_never_ran_is_asked_for_again_and_is_not_lost(
    run: Callable[..., ExtractionReport], add: Callable[[], Any], make_corpus: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    add()
    crews: list[Crew] = []
    real = Crew.fill
    monkeypatch.setattr(Crew, "fill", lambda crew, *given: (crews.append(crew), real(crew, *given)))
    cancelled: list[Any] = []
    held: list[Held] = []
    added: list[Any] = []

    def cancel(completed: int, total: int, note: str = "") -> None:
        if not crews or (held and not held[0].stays(until=len(cancelled) == 2 * DEATHS - 1)):
            return
        placed = sum(bool(worker.node) for worker in crews[0]._all)
        waiting = [worker for worker in crews[0]._all if not worker.node and not worker.is_gone]
        if not held:  # so that shards are left until all of this has happened
            held.extend(Held(worker) for worker, _ in running())
        if waiting and waiting[0] not in cancelled and len(cancelled) < placed * DEATHS - 1:
            cancelled.append(waiting[0])
            crews[0]._ray.kill(waiting[0].actor)
        elif waiting and waiting[0] not in cancelled and not added:
            added.append(add())  # it gets its place, and as many and one more die

    said: list[str] = []
    report = run(make_corpus(60), progress=cancel, say=said.append)
    assert report.complete
    assert report.lost == ()
    assert len(cancelled) == 2 * DEATHS - 1  # after the last of them nobody is asked for
    assert all("could not be started" in line for line in said)


@pytest.mark.slow
def test_nodes_that_cannot_do_it_are_left_out_and_the_last_one_tells_why(
    run: Callable[..., ExtractionReport], add: Callable[[], Any], make_corpus: Make, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    add(), add()
    monkeypatch.setattr("cache.extraction.crew.SETTLE", 3.0)
    real = driving.versions
    monkeypatch.setattr(driving, "versions", lambda: real() | {"emonet": "0.0.1"})
    said: list[str] = []
    with pytest.raises(RequestError, match=r"(?s)no node.*other versions than the driver.*driver 0\.0\.1"):
        run(make_corpus(9), say=said.append)
    assert "is left out" in said[0]
    monkeypatch.setattr(driving, "versions", real)

    class Unseen:
        def __enter__(self) -> tuple[Path, str]:
            return tmp_path / "elsewhere" / "probe", "content"

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(driving, "_probe", lambda path: Unseen())
    with pytest.raises(RequestError, match=r"(?s)does not see the store's folder.*elsewhere.*all nodes share"):
        run(make_corpus(9))
    assert not (tmp_path / "s.zarr").exists()


DRIVER = """
import sys
from pathlib import Path
from cache.extraction import extract_on_ray
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig

audio, weights, store, address = sys.argv[1:]
splits = ("train", "validation", "test")
clips = tuple(Clip(path.stem, path, splits[n % 3], splits[n % 3]) for n, path in enumerate(sorted(Path(audio).glob("*.wav"))))
config = ExtractionConfig(
    batch_size=2, shard_clips=3, precision="float32", workers=1, engine="ray", processors_per_worker=1,
    address=None if address == "-" else address,
)
extract_on_ray(Corpus("tones", clips), weights, Path(store), config, source="tiny", say=print,
               progress=lambda completed, total, note="": print(completed, flush=True))
"""


def corpus_of(audio: Path) -> Corpus:
    """As the driver opens it."""
    from emonet.clips import Clip

    splits = ("train", "validation", "test")
    files = enumerate(sorted(audio.glob("*.wav")))
    return Corpus("tones", tuple(Clip(file.stem, file, splits[n % 3], splits[n % 3]) for n, file in files))


def driver(audio: Path, weights: Path, store: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(audio), str(weights), str(store), address],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EMONET_TEST": str(store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], clips: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= clips:
            return
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
def test_a_driver_that_is_killed_and_started_again(
    cluster: Any, add: Callable[[], Any], make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    add(), add()
    make_corpus(90)
    audio, store = tmp_path / "audio", tmp_path / "s.zarr"
    first = driver(audio, tiny_encoder, store, cluster.address)
    read_until(first, 12)
    os.kill(first.pid, signal.SIGSTOP)  # so that it does not end meanwhile
    second = driver(audio, tiny_encoder, store, cluster.address)
    assert re.search(r"another process is writing this store", second.communicate()[1])
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    third = driver(audio, tiny_encoder, store, cluster.address)
    out, error = third.communicate()
    assert third.returncode == 0, error
    assert 12 <= int(next(line for line in out.split() if line.isdigit() and line != "0")) < 90
    alone(corpus_of(audio), tiny_encoder, tmp_path / "alone.zarr")
    assert_same(store, tmp_path / "alone.zarr")


@pytest.mark.slow
def test_ctrl_c_on_a_cluster_of_this_machine_leaves_whole_shards_and_no_process(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_corpus(90)
    audio, store = tmp_path / "audio", tmp_path / "s.zarr"
    stopped = driver(audio, tiny_encoder, store, "-")
    read_until(stopped, 1)
    while len(marked_shards(store)) < 4:  # clips that the driver tells of may be of unfinished ones
        assert stopped.poll() is None
        time.sleep(0.02)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: to every process of it
    _, error = stopped.communicate()
    assert error.rstrip().endswith("KeyboardInterrupt")
    await_no_process(store)
    assert len(marked_shards(store)) >= 4
    assert not list(tmp_path.rglob("*partial*"))
    alone(corpus_of(audio), tiny_encoder, store)
    alone(corpus_of(audio), tiny_encoder, tmp_path / "alone.zarr")
    assert_same(store, tmp_path / "alone.zarr")


@pytest.mark.slow
def test_a_killed_driver_of_this_machine_leaves_no_process(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_corpus(90)
    store = tmp_path / "s.zarr"
    killed = driver(tmp_path / "audio", tiny_encoder, store, "-")
    read_until(killed, 6)
    assert len(marked(str(store))) >= 4  # itself, and of Ray's at least one of each kind
    killed.kill()
    killed.communicate()
    await_no_process(store)
    assert alone(corpus_of(tmp_path / "audio"), tiny_encoder, store).complete
    assert not list(tmp_path.rglob("*partial*"))


@pytest.mark.slow
def test_devices_of_this_machine_start_anew_with_layers_and_statistics(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    store, corpus = tmp_path / "s.zarr", make_corpus(20, broken=(5,))
    alone(make_corpus(4), tiny_encoder, store)
    config = configured(engine="local", layers=(2, 1), window_seconds=0.6, pool="statistics")
    former: list[bool] = []
    notices = Notices(replacing=lambda: former.append((store / "clips.parquet").exists()))
    report = extract_on_ray(
        corpus, str(tiny_encoder), store, config, source="tiny", devices=("cpu", "cpu"), force=True, notices=notices
    )
    assert former == [True]  # told once, while the former store was there
    assert (report.complete, report.failed, report.lost, report.shape) == (True, 1, (), (20, 4, 64))
    one = alone(corpus, tiny_encoder, tmp_path / "alone.zarr", config)
    assert report.fingerprint == one.fingerprint
    assert_same(store, tmp_path / "alone.zarr")
    record = FeatureStore.open(store).record
    assert (record.layers, record.window_seconds) == ((1, 2), 0.6)


def await_no_process(store: Path) -> None:
    """Until all processes of `driver` have ended."""
    end = time.monotonic() + 120
    while marked(str(store)):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.1)


def assert_same_as_alone(corpus: Corpus, weights: Path, folder: Path) -> None:
    alone(corpus, weights, folder / "alone.zarr")
    assert_same(folder / "s.zarr", folder / "alone.zarr")
    assert len(FeatureStore.open(folder / "s.zarr").rows()) == len(corpus)


class Held:
    """A worker that stands still until something has happened."""

    def __init__(self, worker: int) -> None:
        self._worker, self._end = worker, time.monotonic() + 600
        os.kill(worker, signal.SIGSTOP)
        self._stays = True

    def stays(self, *, until: bool) -> bool:
        if self._stays and until:
            os.kill(self._worker, signal.SIGCONT)
            self._stays = False
        elif self._stays and time.monotonic() > self._end:
            os.kill(self._worker, signal.SIGKILL)
            raise AssertionError("what the others were to do has not come")
        return self._stays


def running() -> list[tuple[int, str]]:
    """Workers of the cluster that this process is connected to, none that is only being started: process, node's id."""
    from ray._private import state

    return [
        (actor["Pid"], actor["Address"]["NodeID"]) for actor in state.actors().values() if actor["State"] == "ALIVE"
    ]


def worker_on(node: str) -> int:
    """The process of the only worker of a node; of its id this is the beginning."""
    (worker,) = (worker for worker, there in running() if there.startswith(node))
    return worker


def nodes_of(note: str) -> list[str]:
    """Beginnings of the ids of nodes that have done shards, as the line of progress tells them."""
    return re.findall(r"/([0-9a-f]{6}) [0-9.]+/s", note)


def marked(mark: str) -> list[str]:
    """Processes that have this text in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"EMONET_TEST={mark}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:  # has ended meanwhile
            continue
    return found
