"""Members of a training: the processes of this machine that the first one here starts, watches and ends."""

from __future__ import annotations

import math
import os
import pickle
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import final

from emonet.errors import EmonetError
from emonet.runtime import Child, ChildDiedError, Parent, packed, unpacked
from lightningmodules.ranks import Place

DONE, FAILED = 1, 2  # kinds of messages: the last one of each member
START = 300.0  # seconds that a member may take to import what it needs
GRACE = 10.0  # seconds after a member's failure within which this process should notice by itself
Work = Callable[[Place], None]


@final
class Members:
    """The processes beside this one; a context manager that ends them at once when it is left.

    Args:
        place: of this process.
        port: where all meet.
        work: what each of them does; picklable.
        threads: of each (count).
        abandon: called where a member has failed, and this process has not noticed: it waits for it, perhaps for ever.
    """

    def __init__(self, place: Place, port: int, work: Work, threads: int, abandon: Callable[[], None]) -> None:
        self._failure: EmonetError | None = None
        self._known, self._closed = threading.Event(), threading.Event()
        self._abandon = abandon
        self._environment = {"OMP_NUM_THREADS": str(threads), "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        self._work, self._places = work, [place.beside(local, port) for local in range(1, place.devices)]
        self._children, self._watches = dict[int, Child](), list[threading.Thread]()
        self._stack = ExitStack()

    def __enter__(self) -> Members:
        with ExitStack() as stack:  # whatever comes between, a signal say, none is left behind
            for member in self._places:
                child = stack.enter_context(Child("lightningmodules.members:main", environment=self._environment))
                self._children[member.rank] = child
            for member in self._places:
                with suppress(BrokenPipeError, TimeoutError):  # it has ended, or stands still: its watch tells
                    self._children[member.rank].send(pickle.dumps((self._work, member)), START)
            for rank, child in self._children.items():
                watch = threading.Thread(target=self._watch, args=(rank, child), name=f"member {rank}", daemon=True)
                watch.start()
                self._watches.append(watch)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for child in self._children.values():
            child.kill()
        for watch in self._watches:  # before the pipes that they read are closed, and their numbers others'
            watch.join()
        self._stack.close()

    def failure(self, patience: float = 0.0) -> EmonetError | None:
        """What became of the first member that failed; waits for it up to `patience` seconds."""
        return self._failure if self._known.wait(patience) else None

    def _watch(self, rank: int, child: Child) -> None:
        try:
            child.started(START)
            kind, content = child.receive(math.inf)
            error = None if kind == DONE else unpacked(content)
        except ChildDiedError as died:
            error = EmonetError(
                f"process {rank} of this training has ended",
                found=died,
                hint="the same command goes on from the last checkpoint; `signal 9` is often a lack of memory",
            )
        except EmonetError as other:
            error = other
        if error is None or self._closed.is_set() or self._known.is_set():
            return
        self._failure = error
        self._known.set()
        if not self._closed.wait(GRACE):
            self._abandon()


def main() -> None:
    """A member: does what it is sent, and tells how it ended."""
    parent = Parent(lambda: os._exit(1))
    work, place = pickle.loads(next(parent.requests()))  # noqa: S301 - from our own parent
    try:
        work(place)
    except EmonetError as error:
        parent.send(FAILED, packed(error))
    else:
        parent.send(DONE)
