"""Synthesis of the sandbox's audio: once, by several processes, whole or not at all."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import soundfile
from filelock import FileLock

from emonet.corpora.sandbox.espeak import SAMPLE_RATE, Speech, speak
from emonet.corpora.sandbox.prosody import Prosody
from emonet.errors import EmonetError
from emonet.runtime import Progress, ignore, leave_to_parent

MANIFEST = "manifest.jsonl"
CHUNK = 8  # utterances that a worker takes at a time
MOST_WORKERS = 8  # more would spend longer starting than speaking


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip to synthesise: what is said, how, and what it scores.

    Args:
        path: of the audio, relative to the corpus' folder.
        speech: what espeak-ng is asked for.
        prosody: what is done with its samples.
        row: the clip's row in the manifest.
    """

    path: str
    speech: Speech
    prosody: Prosody
    row: Mapping[str, Any]


def synthesise(
    utterances: Sequence[Utterance], root: Path, *, workers: int | None = None, progress: Progress = ignore
) -> None:
    """Make sure that `root` holds all utterances as mono 16-bit FLAC, and a manifest of them.

    A folder that is complete is left alone. Otherwise everything is written beside it and renamed at the end, so
    that a kill leaves nothing half; a second process that wants the same folder waits for the first.

    Args:
        utterances: what to synthesise.
        root: the folder to fill.
        workers: processes; None is one per core, 8 at most.
        progress: told about clips.

    Raises:
        EmonetError: if espeak-ng is missing or fails, or the folder cannot be written.
    """
    if _is_complete(utterances, root):
        return
    with _writing(root), _pool(workers or min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        # A script without a main guard runs again in each worker, and would wait there for a lock held here.
        pool.submit(os.getpid).result()
        with FileLock(root.with_name(root.name + ".lock")):
            if not _is_complete(utterances, root):  # else by the process that held the lock
                _fill(root, utterances, pool, progress)


def _fill(root: Path, utterances: Sequence[Utterance], pool: ProcessPoolExecutor, progress: Progress) -> None:
    partial = root.with_name(root.name + ".partial")
    for leftover in (partial, root):
        if leftover.exists():
            shutil.rmtree(leftover)
    for folder in {(partial / utterance.path).parent for utterance in utterances}:
        folder.mkdir(parents=True)
    progress(0, len(utterances))
    done = pool.map(_write, utterances, repeat(partial), chunksize=CHUNK)
    for completed, _ in enumerate(done, start=1):
        progress(completed, len(utterances))
    lines = [json.dumps(utterance.row, ensure_ascii=False) + "\n" for utterance in utterances]
    (partial / MANIFEST).write_text("".join(lines), "utf-8")
    partial.rename(root)


def _is_complete(utterances: Sequence[Utterance], root: Path) -> bool:
    """Whether nobody has deleted anything since the folder was written."""
    return (root / MANIFEST).is_file() and all((root / utterance.path).is_file() for utterance in utterances)


def _write(utterance: Utterance, folder: Path) -> None:
    samples = utterance.prosody.shape(speak(utterance.speech), SAMPLE_RATE)
    flac = io.BytesIO()
    soundfile.write(flac, samples, SAMPLE_RATE, "PCM_16", format="FLAC")
    (folder / utterance.path).write_bytes(flac.getvalue())


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Make the folder above `root`, and turn what the operating system refuses into a message."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise EmonetError(
            "the sandbox corpus cannot be written",
            where=root.parent.absolute(),
            found=error.strerror or str(error),
            hint="make the folder writable, free space on its disk, or name another folder",
        ) from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that start afresh (a fork would copy torch's threads) and end at once on an error."""
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise EmonetError(
            "a process that synthesises the sandbox corpus died",
            hint="if your own script opened the corpus, put its code under: if __name__ == '__main__':",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    leave_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its pool; without this its workers would write on, or wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
