"""Batching over requests: what comes within some milliseconds is computed in one pass, each item's answer its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar, final

from emonet.serving.guards import too_busy

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Item(Generic[T, R]):
    by: Any
    value: T
    answer: Future[R] = field(default_factory=Future)


@final
class Batcher(Generic[T, R]):
    """Computes items in a thread of its own, those that wait together in one pass.

    A pass waits for items that are announced (a request is being read or decoded), and no longer than `gather`; where
    none are, it begins at once, so that a single client never waits. While a pass runs the next one gathers.

    Args:
        run: computes items with what they are to be computed by; one answer for each, in order.
        size: items per pass, at most (count).
        gather: how long a pass waits for what is announced (seconds).
        most: items of all requests together (count); more are refused.
        observe: is told the size of each pass.
    """

    def __init__(
        self,
        run: Callable[[Any, Sequence[T]], Sequence[R]],
        *,
        size: int,
        gather: float,
        most: int,
        observe: Callable[[int], object],
    ) -> None:
        self._run_items, self._size, self._gather, self._most, self._observe = run, size, gather, most, observe
        self._changed = threading.Condition()
        self._waiting: deque[_Item[T, R]] = deque()
        self._announced = 0  # items that will be submitted (count)
        self._is_ended = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self.held = 0
        """Items that are announced, wait or are computed (count)."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Compute what waits, and end the thread."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
        self._thread.join()

    def announce(self, count: int) -> Ticket[T, R]:
        """Say that items will come; a context manager, which ends when their answers are there.

        Raises:
            Refusal: if there are more items than are taken on.
        """
        with self._changed:
            if self.held and self.held + count > self._most:
                raise too_busy(f"{self.held} recordings wait or are at work")
            self.held += count
            self._announced += count
        return Ticket(self, count)

    def submit(self, item: _Item[T, R] | None, *, released: int = 0, left_out: int = 0) -> None:
        """What tickets call.

        Args:
            item: to be computed, if any.
            released: items whose answers are there (count).
            left_out: announced items that will not come (count).
        """
        with self._changed:
            if item is not None:
                self._waiting.append(item)
            self._announced -= left_out + (item is not None)
            self.held -= released
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._next():
            by, alive = batch[0].by, [item for item in batch if item.answer.set_running_or_notify_cancel()]
            if alive:
                self._observe(len(alive))
                self._compute(by, alive)
            del batch, by, alive  # an idle thread keeps no model

    def _next(self) -> list[_Item[T, R]]:
        """The next items that are computed together; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ended)
            deadline = time.monotonic() + self._gather
            while self._announced > 0 and len(self._waiting) < self._size and not self._is_ended:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Item[T, R]] = []
            others = deque[_Item[T, R]]()  # of other models, or more than one pass takes
            for item in self._waiting:
                fits = len(batch) < self._size and (not batch or item.by is batch[0].by)
                (batch if fits else others).append(item)
            self._waiting = others
            return batch

    def _compute(self, by: Any, items: Sequence[_Item[T, R]]) -> None:
        """One pass; an item that makes it fail costs itself only."""
        try:
            answers = self._run_items(by, [item.value for item in items])
        except Exception as error:  # noqa: BLE001  # it is raised where the answer is awaited
            if len(items) > 1:
                for item in items:
                    self._compute(by, [item])
            else:
                items[0].answer.set_exception(error)
            return
        for item, answer in zip(items, answers, strict=True):
            item.answer.set_result(answer)


@final
class Ticket(Generic[T, R]):
    """Items that a request has announced; made by `Batcher.announce`."""

    def __init__(self, batcher: Batcher[T, R], count: int) -> None:
        self._batcher, self._count, self._left = batcher, count, count

    def __enter__(self) -> Ticket[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing more comes."""
        self._batcher.submit(None, released=self._count, left_out=self._left)
        self._count = self._left = 0

    def submit(self, by: Any, value: T) -> Future[R]:
        """Hand over an item; only those with the same `by` are computed together."""
        item: _Item[T, R] = _Item(by, value)
        self._left -= 1
        self._batcher.submit(item)
        return item.answer

    def leave_out(self) -> None:
        """An item cannot be used: nobody waits for it."""
        self._left -= 1
        self._batcher.submit(None, left_out=1)
