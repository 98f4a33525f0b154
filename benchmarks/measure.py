"""Times, sizes and memory of each format on one set of states; each format works in processes of its own (Linux)."""

from __future__ import annotations

import ctypes
import gc
import itertools
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

import numpy as np

from benchmarks.formats import BATCH, Decoded, Format, Reader
from emonet.errors import EmonetError
from emonet.runtime import Progress, durable, ignore

Mode = Literal["random", "cold", "one core", "sequential", "loader"]
MODES: tuple[Mode, ...] = ("random", "cold", "one core", "sequential", "loader")
_BLOCK = 1 << 24  # bytes read at a time to bring a file into memory


@dataclass(frozen=True)
class Pass:
    """One pass over all clips.

    Args:
        clips: how many came.
        seconds: that it took, opening aside.
        opening: seconds to open the files before.
        peak: memory that the process held at most beyond what it held before (bytes).
        mapped: how much of that were pages of mapped files, which the system can take back (bytes).
    """

    clips: int
    seconds: float
    opening: float
    peak: int
    mapped: int


@dataclass
class Measured:
    """What is known of one format on one set."""

    format: Format
    folder: Path
    stored: int = 0
    largest_error: float = 0.0
    rms_error: float = 0.0
    writing: list[Pass] = field(default_factory=list)
    first: list[Pass] = field(default_factory=list)
    reading: dict[Mode, list[Pass]] = field(default_factory=dict)

    def rate(self, mode: Mode) -> float:
        """Median of the passes of a mode (clips/s)."""
        return statistics.median(done.clips / done.seconds for done in self.reading[mode])

    def opening(self) -> float:
        """Median time to open what is in memory (seconds)."""
        return statistics.median(done.opening for done in self.reading["random"])

    def writes(self) -> float:
        """Median of the passes that wrote (clips/s)."""
        return statistics.median(done.clips / done.seconds for done in self.writing)


@final
class Bench:
    """Writes and reads the same states with every format, in turn, so that a machine's noise hits all alike.

    Args:
        formats: in the order of the tables.
        states: .npy of float16 (clips, frames, width).
        folder: an empty one for what the formats write: as many times the size of the states as there are formats.
        progress: told about passes.
    """

    def __init__(self, formats: Sequence[Format], states: Path, folder: Path, *, progress: Progress = ignore) -> None:
        self._measured = [Measured(one, folder / str(number)) for number, one in enumerate(formats)]
        self._states = states
        self._progress = progress
        self._done = self._total = 0

    def run(self, *, writes: int = 3, rounds: int = 5) -> list[Measured]:
        """Measure everything.

        Args:
            writes: times that each format writes (count).
            rounds: passes of each mode (count).

        Raises:
            EmonetError: if a format gives back other clips than it was given, or loses bits though it is exact.
        """
        modes = [(one, mode) for mode in MODES for one in self._measured if mode != "loader" or one.format.loader]
        self._total = len(self._measured) * (writes + 1) + rounds * len(modes)
        for _, one in itertools.product(range(writes), self._measured):
            self._write(one)
        with ExitStack() as running:
            workers = {one.format.name: running.enter_context(_process()) for one in self._measured}
            for one in self._measured:
                self._check(one, workers[one.format.name])
            for number, (one, mode) in itertools.product(range(rounds), modes):
                worker = workers[one.format.name]
                done = worker.submit(read_pass, one.format, one.folder, mode, number).result()
                one.reading.setdefault(mode, []).append(done)
                self._tick()
        return self._measured

    def _write(self, one: Measured) -> None:
        with _process() as worker:
            one.writing.append(worker.submit(write_pass, one.format, self._states, one.folder).result())
        one.stored = sum(file.stat().st_size for file in files(one.folder))
        self._tick()

    def _check(self, one: Measured, worker: ProcessPoolExecutor) -> None:
        one.first.append(worker.submit(first_pass, one.format, one.folder).result())
        one.largest_error, one.rms_error = worker.submit(losses, one.format, self._states, one.folder).result()
        self._tick()

    def _tick(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


@contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    """One process, not forked: it holds nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def write_pass(one: Format, states: Path, folder: Path) -> Pass:
    """Write all states into `folder`, which is emptied first, up to the moment when all is on disk."""
    content = np.load(states)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        one.write(Path(scratch), content[:2])  # imports what it needs
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    memory = Memory()
    started = time.perf_counter()
    one.write(folder, content)
    _sync(folder)
    return Pass(len(content), time.perf_counter() - started, 0.0, *memory.grown())


def first_pass(one: Format, folder: Path) -> Pass:
    """A process' first pass, after one clip that makes it import what it needs: its memory is what a reader takes."""
    reader = one.reader(folder)
    reader.read(np.arange(1))
    reader.close()
    if one.loader is not None:
        next(one.loader(folder, 0, BATCH))
    return read_pass(one, folder, "random", 0)


def read_pass(one: Format, folder: Path, mode: Mode, seed: int) -> Pass:
    """Read all clips, once.

    Args:
        one: the format.
        folder: where it was written to.
        mode: `random` batches with the files in the page cache; `cold` without; on `one core`; `sequential`; or
            through the format's own shuffled `loader`.
        seed: of the order.
    """
    if mode == "cold":
        forget(folder)
    else:
        _remember(folder)
    with _cores(1 if mode == "one core" else None):
        memory = Memory()
        started = time.perf_counter()
        reader = one.reader(folder)
        opened = time.perf_counter()
        clips = sum(len(batch) for batch in _batches(one, reader, folder, mode, seed))
        done = time.perf_counter()
        grown = memory.grown()
    reader.close()
    return Pass(clips, done - opened, opened - started, *grown)


def losses(one: Format, states: Path, folder: Path) -> tuple[float, float]:
    """Largest and root-mean-square difference between the states and what the format gives back.

    Raises:
        EmonetError: if it gives back other clips than it was given, or loses bits though it is exact.
    """
    given = np.load(states, mmap_mode="r")
    reader, row, largest, squares = one.reader(folder), 0, 0.0, 0.0
    for batch in reader.sequential():
        expected = given[row : row + len(batch)]
        if batch.shape != expected.shape:
            break
        if one.exact and not np.array_equal(np.asarray(batch).view(np.uint16), expected.view(np.uint16)):
            raise EmonetError("an exact format changed the states", where=one.name, found=f"rows {row} and on")
        difference = np.abs(batch.astype(np.float32) - expected.astype(np.float32))
        largest, squares = max(largest, float(difference.max())), squares + float(np.square(difference).sum())
        row += len(batch)
    reader.close()
    if row != len(given):
        raise EmonetError("a format lost clips", where=one.name, expected=len(given), found=row)
    return largest, float(np.sqrt(squares / given.size))


def files(folder: Path) -> list[Path]:
    """All files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _batches(one: Format, reader: Reader, folder: Path, mode: Mode, seed: int) -> Iterator[Decoded]:
    if mode == "loader":
        assert one.loader is not None
        return one.loader(folder, seed, BATCH)
    return reader.sequential() if mode == "sequential" else reader.shuffled(seed)


def _sync(folder: Path) -> None:
    for path in (*files(folder), *(path for path in folder.rglob("*") if path.is_dir()), folder):
        durable.sync(path)


def _remember(folder: Path) -> None:
    """Bring the files into the page cache."""
    buffer = bytearray(_BLOCK)
    for path in files(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def forget(folder: Path) -> None:
    """Drop the files from the page cache; what lies below this system (a host's cache) stays."""
    _sync(folder)
    gc.collect()  # a map that is still open would keep its pages
    for path in files(folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


@contextmanager
def _cores(count: int | None) -> Iterator[None]:
    """Keep every thread of this process, also those to come, on so many cores; None leaves them all."""
    allowed = os.sched_getaffinity(0)
    _pin(set(sorted(allowed)[:count]))
    try:
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it ended since
            os.sched_setaffinity(int(thread.name), cores)


@final
class Memory:
    """What this process takes from now on, by the kernel's high-water mark, which starts anew.

    getrusage would not do: what it calls the peak of a new process starts at that of the process that made it.
    """

    def __init__(self) -> None:
        gc.collect()
        with suppress(AttributeError):  # no glibc; it keeps freed memory, which would be used again unseen
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self._held, self._mapped = _status("VmRSS"), _status("RssFile")

    def grown(self) -> tuple[int, int]:
        """Peak beyond what was held before, and how much more of mapped files is held now (bytes)."""
        return _status("VmHWM") - self._held, max(0, _status("RssFile") - self._mapped)

    def held(self) -> int:
        """How much more is held now (bytes)."""
        return _status("VmRSS") - self._held

    def peak(self) -> int:
        """The most that was held since, with all that was held before (bytes)."""
        return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise EmonetError(
        "the system does not say how much memory a process takes", expected=f"{name} in /proc/self/status"
    )
