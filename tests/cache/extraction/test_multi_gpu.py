from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.extraction import ExtractionReport, choose, encoder_settings, extract, extract_on
from cache.extraction import multi_gpu as devices
from cache.maintenance import verify
from cache.store import FeatureStore
from cache.writing import Notices, StoreLocks
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import open_encoder
from emonet.errors import RequestError

Make = Callable[..., Any]
CONFIG = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32", workers=1)
ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow  # each process imports PyTorch


def run(
    corpus: Corpus,
    weights: Path,
    path: Path,
    on: tuple[str, ...] = ("cpu", "cpu"),
    config: ExtractionConfig = CONFIG,
    **options: Any,
) -> ExtractionReport:
    return extract_on(on, corpus, str(weights), path, config, source="tiny", **options)


def alone(corpus: Corpus, weights: Path, path: Path, config: ExtractionConfig = CONFIG) -> ExtractionReport:
    encoder = open_encoder(str(weights), device="cpu", **encoder_settings(config))
    return extract(corpus, encoder, path, config, source="tiny")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a process behind."""
    before = children()
    yield
    assert set(children()) <= set(before)


def children() -> list[int]:
    """Processes that this one has started and has not waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rsplit(")", 1)[1].split()[1]
        except OSError:  # has ended meanwhile
            continue
        if int(parent) == os.getpid():
            found.append(int(stat.parent.name))
    return sorted(found)


def test_the_devices_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(ExtractionConfig(devices=("cpu", "cpu"))) == ("cpu", "cpu")
    for gpus, expected in [(0, ()), (1, ()), (3, ("cuda:0", "cuda:1", "cuda:2"))]:
        monkeypatch.setattr(devices.torch.cuda, "is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(devices.torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert choose(ExtractionConfig()) == expected
    assert choose(ExtractionConfig(devices=("cuda:1",))) == ("cuda:1",)
    with pytest.raises(RequestError, match=r"(?s)no such device.*cuda:0, cuda:1, cuda:2.*found: +cuda:3") as refused:
        choose(ExtractionConfig(devices=("cuda:0", "cuda:3")))
    assert refused.value.exit_code == 2


def test_processes_share_the_work_and_make_the_same_store(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    alone(make_corpus(4), tiny_encoder, store)
    corpus = make_corpus(40, broken=(5,))
    calls: list[tuple[int, int]] = []
    notes: list[str] = []

    def progress(completed: int, total: int, note: str = "") -> None:
        calls.append((completed, total))
        notes.append(note)

    former: list[bool] = []
    notices = Notices(replacing=lambda: former.append((store / "clips.parquet").exists()))
    report = run(corpus, tiny_encoder, store, force=True, progress=progress, notices=notices)
    assert former == [True]  # told once, while the former store was there
    assert report.fingerprint == alone(corpus, tiny_encoder, tmp_path / "alone.zarr").fingerprint
    assert (report.complete, report.clips, report.failed, report.lost, report.workers) == (True, 40, 1, (), 2)
    assert report.clips_per_second == pytest.approx(40 / report.seconds, rel=0.01)
    assert report.encoder_tflops > 0
    assert calls[0] == (0, 40)
    assert calls[-1] == (40, 40)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert "TFLOP/s" in notes[-1]
    assert verify(store, deep=True).problems == ()


def test_processes_make_the_same_pooled_store_of_layers_and_a_shorter_window(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    changes = {"layers": (2, 1), "window_seconds": 0.6, "pool": "statistics"}
    config = ExtractionConfig.model_validate(CONFIG.model_dump() | changes)
    corpus = make_corpus(20, broken=(5,))
    report = run(corpus, tiny_encoder, tmp_path / "s.zarr", config=config)
    assert (report.complete, report.failed, report.lost, report.shape) == (True, 1, (), (20, 4, 64))
    one = alone(corpus, tiny_encoder, tmp_path / "alone.zarr", config)
    assert report.fingerprint == one.fingerprint
    stores = [FeatureStore.open(tmp_path / name) for name in ("s.zarr", "alone.zarr")]
    assert stores[0].record == stores[1].record
    assert (stores[0].record.layers, stores[0].record.window_seconds) == ((1, 2), 0.6)
    np.testing.assert_array_equal(*(store.read(store.rows()) for store in stores))


def test_a_process_that_dies_is_named_and_the_others_do_its_work(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    corpus, store = make_corpus(60), tmp_path / "s.zarr"
    first: list[int] = []
    before = children()

    def kill_one(completed: int, total: int, note: str = "") -> None:
        if completed and not first:
            first.append(next(child for child in children() if child not in before))
            os.kill(first[0], signal.SIGKILL)

    report = run(corpus, tiny_encoder, store, progress=kill_one)
    assert report.complete
    assert report.lost == ("cpu: the extraction process ended (signal 9, SIGKILL)",)
    assert report.fingerprint == alone(corpus, tiny_encoder, tmp_path / "alone.zarr").fingerprint


def test_what_all_processes_refuse_is_raised(make_corpus: Make, tiny_encoder: Path, tmp_path: Path) -> None:
    store, corpus = tmp_path / "s.zarr", make_corpus(5)
    alone(make_corpus(4), tiny_encoder, store)
    with StoreLocks(store) as locks, ExitStack() as held:
        held.enter_context(locks.preparing())
        notices = Notices(waiting=held.close)  # who waits for the store says so
        with pytest.raises(RequestError, match=r"(?s)clips: the store has 4, wanted 5.*--force") as refused:
            run(corpus, tiny_encoder, store, on=("cpu",), notices=notices)
    assert refused.value.exit_code == 2


def test_ctrl_c_keeps_what_is_finished_and_ends_every_process(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "GRACE", 3600.0)  # they end by themselves: for one that does not, this waits in vain
    corpus, store = make_corpus(60), tmp_path / "s.zarr"

    def interrupt(completed: int, total: int, note: str = "") -> None:
        if completed >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, tiny_encoder, store, on=("cpu",), progress=interrupt)
    assert len(list((store / "shards").iterdir())) >= 2
    assert not list(tmp_path.rglob("*partial*"))
    assert alone(corpus, tiny_encoder, store).complete


def test_a_second_request_to_end_does_not_cut_the_first_one_short() -> None:
    before = signal.signal(signal.SIGTERM, devices._stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


PARENT = """
import sys
from pathlib import Path
from cache.extraction.multi_gpu import extract_on
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig

audio, weights, store = map(Path, sys.argv[1:])
clips = tuple(Clip(path.stem, path, "someone", "train") for path in sorted(audio.glob("*.wav")))
config = ExtractionConfig(batch_size=1, shard_clips=1, precision="float32", workers=1)
extract_on(("cpu",), Corpus("tones", clips), str(weights), store, config, source="tiny",
           progress=lambda completed, total, note="": print(completed, flush=True))
"""


def test_they_end_when_their_parent_is_killed(make_corpus: Make, tiny_encoder: Path, tmp_path: Path) -> None:
    make_corpus(100)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "audio"), str(tiny_encoder), str(tmp_path / "s.zarr")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EMONET_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    while int(parent.stdout.readline()) < 3:
        pass
    assert len(marked(str(tmp_path))) >= 3
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 30
    while marked(str(tmp_path)):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.02)
    assert not list(tmp_path.rglob("*partial*"))


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
