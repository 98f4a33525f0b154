"""What happens to a store when the processes that fill it are killed, or several fill it at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pytest
import soundfile as sf

from cache.maintenance import verify
from cache.store import FeatureStore

pytestmark = pytest.mark.numeric

ROOT = Path(__file__).parents[2]
KILLS = 50
CLIPS = 36

# Imports once, then forks a process for each line on its stdin: a store and changes to the configuration. Prints its id;
# an empty line waits for all of them and prints what became of them: exit status, and what they reported.
SERVER = """
import json, os, sys, time
from pathlib import Path
import pandas  # which pyarrow imports when it is first used
from cache.extraction import extract
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders.whisper import FrozenEncoder

audio, weights = map(Path, sys.argv[1:])
corpus = Corpus("tones", tuple(Clip(path.stem, path, "someone", "train") for path in sorted(audio.glob("*.wav"))))
encoder = FrozenEncoder.load(str(weights), precision="float32", device="cpu")

def run(store, together, changes):
    met = []
    def meet(completed, total, note=""):
        if not met:  # nobody starts before all are there
            met.append(store.with_suffix(f".{os.getpid()}.ready"))
            met[0].touch()
            while len(list(store.parent.glob(f"{store.stem}.*.ready"))) < together:
                time.sleep(0.005)
    config = ExtractionConfig.model_validate(dict(batch_size=2, shard_clips=4, precision="float32", workers=1) | changes)
    report = extract(corpus, encoder, store, config, source="tiny", progress=meet)
    done = {"complete": report.complete, "fingerprint": report.fingerprint, "clips": report.extracted}
    store.with_suffix(f".{os.getpid()}.done").write_text(json.dumps(done))

children = []
for line in sys.stdin:
    if line.strip():
        order = json.loads(line)
        child = os.fork()
        if not child:
            run(Path(order["store"]), order["together"], order["changes"])
            os._exit(0)
        children.append((child, Path(order["store"])))
        print(child, flush=True)
    else:
        ended = []
        for child, store in children:
            status, report = os.waitpid(child, 0)[1], store.with_suffix(f".{child}.done")
            whole = status == 0 and report.exists()  # a killed one may have left half a report
            ended.append([status, json.loads(report.read_text()) if whole else None])
            for file in (report, store.with_suffix(f".{child}.ready")):
                file.unlink(missing_ok=True)
        children.clear()
        print(json.dumps(ended), flush=True)
"""


class Extractions:
    """Real extraction processes."""

    def __init__(self, audio: Path, weights: Path) -> None:
        self.mark = f"EMONET_TEST={uuid4()}"
        name, value = self.mark.split("=")
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(audio), str(weights)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", name: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.communicate()

    def start(self, store: Path, *, together: int = 1, **changes: Any) -> int:
        """Begin an extraction; returns its process' id, which is its own until `wait`."""
        self._say(json.dumps({"store": str(store), "together": together, "changes": changes}))
        return int(self._hear())

    def wait(self) -> list[tuple[int, dict[str, Any] | None]]:
        """Exit status and report of all that were started."""
        self._say("")
        return [(status, report) for status, report in json.loads(self._hear())]

    def run(self, store: Path, *, kill_after: float | None = None, **changes: Any) -> int:
        """The exit status of one extraction, which is killed after so many seconds."""
        process = self.start(store, **changes)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process, signal.SIGKILL)
        ((status, _),) = self.wait()
        return status

    def left(self) -> list[str]:
        """Processes below the server's that run still."""
        return [path for path in environments(self.mark) if path != str(self._server.pid)]

    def _say(self, line: str) -> None:
        assert self._server.stdin is not None
        print(line, file=self._server.stdin, flush=True)

    def _hear(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()


def environments(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:  # has ended meanwhile
            continue
    return found


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def extractions(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extractions]:
    audio = tmp_path_factory.mktemp("audio")
    for row in range(CLIPS):
        tone = np.sin(np.arange(4000 + 300 * row) * (0.05 + 0.01 * row))
        sf.write(audio / f"{row:03d}.wav", 0.3 * tone, 16_000)
    (audio / "007.wav").write_bytes(b"")
    with Extractions(audio, tiny_encoder) as started:
        assert started.run(audio / "warm-up.zarr") == 0
        yield started


@pytest.fixture
def folder(extractions: Extractions, tmp_path: Path) -> Iterator[Path]:
    """A folder for stores, which has nothing half-written at the end; nor is a process left."""
    yield tmp_path
    end = time.monotonic() + 20
    while extractions.left():
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.02)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def timed(extractions: Extractions, store: Path, **changes: Any) -> float:
    """How long an undisturbed extraction takes, in seconds."""
    started = time.monotonic()
    assert extractions.run(store, **changes) == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_killed_extractions_go_on_and_end_bit_for_bit_the_same(
    extractions: Extractions, folder: Path, chance: random.Random
) -> None:
    undisturbed, killed = folder / "undisturbed.zarr", folder / "killed.zarr"
    duration = min(timed(extractions, folder / name) for name in ("a.zarr", "b.zarr", undisturbed.name))
    kills = stores = 0
    finished = [0]
    while kills < KILLS or killed.exists():  # the last one that was killed is brought to its end, too
        wanted = chance.uniform(0, duration) if kills < KILLS else None
        status = extractions.run(killed, kill_after=wanted)
        finished.append(len(list(killed.glob("shards/*.json"))))
        assert finished == sorted(finished)  # nothing finished was lost
        if status == signal.SIGKILL:
            kills += 1
            continue
        assert status == 0
        assert content(killed) == content(undisturbed)
        assert verify(killed, deep=True).problems == ()
        killed.rename(folder / f"done-{stores}.zarr")
        stores += 1
        finished = [0]
    assert kills == KILLS


@pytest.mark.slow
def test_extractions_at_once_share_the_work(extractions: Extractions, folder: Path) -> None:
    alone, shared = folder / "alone.zarr", folder / "shared.zarr"
    assert extractions.run(alone) == 0
    for _ in range(2):
        extractions.start(shared, together=2)
    ended = extractions.wait()
    assert [status for status, _ in ended] == [0, 0]
    reports = [report for _, report in ended if report]
    assert all(report["complete"] for report in reports)
    assert {report["fingerprint"] for report in reports} == {FeatureStore.open(alone).fingerprint}
    assert sum(report["clips"] for report in reports) == CLIPS  # each clip once
    assert min(report["clips"] for report in reports) > 0
    assert content(shared) == content(alone)


@pytest.mark.slow
def test_parts_of_a_job_array_make_the_same_store(extractions: Extractions, folder: Path) -> None:
    alone, shared = folder / "alone.zarr", folder / "shared.zarr"
    assert extractions.run(alone, frames="speech", codec="int8") == 0
    for index in range(3):
        extractions.start(shared, together=3, num_shards=3, shard_index=index, frames="speech", codec="int8")
    ended = extractions.wait()
    assert [status for status, _ in ended] == [0, 0, 0]
    assert [report["clips"] for _, report in ended if report] == [CLIPS // 3] * 3
    assert any(report["complete"] for _, report in ended if report)
    assert content(shared) == content(alone)


@pytest.mark.slow
def test_the_survivor_takes_over_what_a_killed_one_held(
    extractions: Extractions, folder: Path, chance: random.Random
) -> None:
    alone, shared = folder / "alone.zarr", folder / "shared.zarr"
    duration = timed(extractions, alone)
    victim = extractions.start(shared, together=2)
    extractions.start(shared, together=2)
    time.sleep(duration * chance.uniform(0.5, 1))
    os.kill(victim, signal.SIGKILL)
    (_, (status, report)) = extractions.wait()
    assert status == 0
    assert report is not None
    assert report["complete"]
    assert content(shared) == content(alone)
