"""Stores on a disk and on an object store: throughput of writing, reading and copying, with moto's S3 server here.

On the disk the peer is the same codec with plain files, by hand: what the seam between both kinds of places may cost
is the difference. Figures of the object store are informative: moto's server is Python, and takes the same processors.

    python -m benchmarks.scale_objects
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np

from benchmarks.rows import Row, interleaved_seconds, publish, seconds_of
from benchmarks.surroundings import free_port
from cache.maintenance import copy_store
from cache.store import THREADS, TIERS, ExtractionRecord, FeatureStore, Place, place
from cache.writing import StoreWriter, clip_digest
from emonet.clips import Clip, Corpus
from emonet.windows import Window

FRAMES, WIDTH, SHARD, BATCH = 500, 384, 32, 64  # states of Whisper tiny with a window of 10 s
_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}


def measure(out: Path, *, quick: bool = False) -> list[Row]:
    """Rows for `runs/bench/scale.json`.

    Args:
        out: folder for what is written meanwhile.
        quick: a quarter of the clips.
    """
    clips, repeats = (64, 3) if quick else (256, 5)
    states = np.random.default_rng(0).normal(0, 1, (clips, FRAMES, WIDTH)).astype(np.float16).cumsum(1) / 8
    states = states.astype(np.float16)
    corpus = Corpus("noise", tuple(Clip(f"n/{row}", b"", "n/s", "train") for row in range(clips)))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name, _server(Path(name)) as bucket:
        folder = Path(name)
        return [*_local(folder, corpus, states, repeats), *_remote(folder, bucket, corpus, states)]


def _local(folder: Path, corpus: Corpus, states: np.ndarray, repeats: int) -> Iterator[Row]:
    plain, path = _Plain(folder / "plain", states), folder / "local.zarr"
    taken = interleaved_seconds({"plain": plain.write, "store": lambda: _write(path, corpus, states)}, repeats=repeats)
    yield _row("object stores: writing a store to this disk", taken, states.nbytes)
    store, batches = FeatureStore.open(path), _batches(len(states))
    taken = interleaved_seconds(
        {"plain": lambda: plain.read(batches), "store": lambda: _read(store, batches)}, repeats=repeats
    )
    yield _row("object stores: reading it, shuffled", taken, states.nbytes)


def _row(name: str, taken: Mapping[str, list[float]], size: int) -> Row:
    ratio = median(plain / ours for plain, ours in zip(taken["plain"], taken["store"], strict=True))
    figure = size / 1e6 / median(taken["store"])
    return Row(name, figure, "MB/s of states", "the same codec and digests, plain files by hand", ratio, 0.9)


def _remote(folder: Path, bucket: str, corpus: Corpus, states: np.ndarray) -> Iterator[Row]:
    url, size, batches = place(f"{bucket}/s.zarr"), states.nbytes / 1e6, _batches(len(states))
    yield Row("object stores: writing to S3 (moto)", size / seconds_of(lambda: _write(url, corpus, states)), "MB/s")
    store = FeatureStore.open(url)
    yield Row("object stores: reading from S3, shuffled", size / seconds_of(lambda: _read(store, batches)), "MB/s")
    for name, target in (
        ("from S3 to this disk", folder / "copy.zarr"),
        ("from this disk to S3", place(f"{bucket}/t.zarr")),
    ):
        source = url if isinstance(target, Path) else folder / "copy.zarr"
        report = copy_store(source, target)
        yield Row(f"object stores: store copy {name}, checked", report.megabytes_per_second, "MB/s stored")


def _batches(clips: int) -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(clips)
    return [order[first : first + BATCH] for first in range(0, clips, BATCH)]


def _write(path: Place, corpus: Corpus, states: np.ndarray) -> None:
    record = ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=len(states),
        encoder="noise",
        encoder_digest="0" * 64,
        window_seconds=Window.of_frames(FRAMES).seconds,
        frames=FRAMES,
        width=WIDTH,
        mels=80,
        precision="float32",
        batch_size=1,
        shard_clips=SHARD,
    )
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
    with StoreWriter(path, record, corpus, threads=THREADS) as writer:
        for shard in writer.claims():
            sink = writer.begin(shard)
            for position, row in enumerate(sink.rows):
                sink.put(position, states[row], 10.0)
            sink.commit()
        writer.finish()


def _read(store: FeatureStore, batches: list[np.ndarray]) -> None:
    for rows in batches:
        store.read(rows)


class _Plain:
    """The same codec, a file for each shard, synced; read by threads that know where each clip lies."""

    def __init__(self, folder: Path, states: np.ndarray) -> None:
        self._folder, self._states, self._tier = folder, states, TIERS["lossless"]
        self._places: dict[int, tuple[int, int]] = {}
        self._pool = ThreadPoolExecutor(THREADS)

    def write(self) -> None:
        self._folder.mkdir(exist_ok=True)
        for first in range(0, len(self._states), SHARD):
            rows = range(first, min(first + SHARD, len(self._states)))
            chunks = list(self._pool.map(self._encode, rows))
            at = 0
            with (self._folder / str(first // SHARD)).open("wb") as file:
                for row, chunk in zip(rows, chunks, strict=True):
                    self._places[row], at = (at, len(chunk)), at + len(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())

    def _encode(self, row: int) -> bytes:
        clip_digest(self._states[row])  # which a store keeps, too
        return self._tier.encode(self._states[row]).chunk

    def read(self, batches: list[np.ndarray]) -> None:
        for rows in batches:
            out = np.empty((len(rows), FRAMES, WIDTH), np.float16)
            size = max(1, -(-len(rows) // THREADS))
            parts = [range(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
            list(self._pool.map(partial(self._fill, rows, out), parts))

    def _fill(self, rows: np.ndarray, out: np.ndarray, part: range) -> None:
        for position in part:
            row = int(rows[position])
            start, size = self._places[row]
            with (self._folder / str(row // SHARD)).open("rb") as file:
                self._tier.decode(os.pread(file.fileno(), size, start), None, out[position])


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """moto's S3 server in a process of its own, and in it an empty bucket, which the environment leads to."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with ExitStack() as stack, (folder / "server.log").open("wb") as log:
        server = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(server.terminate)
        before = {name: os.environ.get(name) for name in (*_KEYS, "AWS_ENDPOINT_URL")}
        stack.callback(_restore, before)
        os.environ.update(_KEYS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
        _until(lambda: urlopen(Request(f"http://127.0.0.1:{port}/bench", method="PUT"), timeout=10).close())
        yield "s3://bench"


def _until(ready: Callable[[], None], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            return ready()
        except (URLError, ConnectionError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


def _restore(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if __name__ == "__main__":
    runs = Path("runs/bench")
    about = {"frames": FRAMES, "width": WIDTH, "codec": "lossless", "shard_clips": SHARD}
    publish(measure(runs), runs / "scale_objects.json", title="Stores on a disk and on S3", about=about)
