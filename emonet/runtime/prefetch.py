"""Prefetch: the next batches are prepared in a thread while the model works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds between looks at whether the reader has gone


@dataclass(frozen=True)
class _End:
    """The last thing in the queue: all went well, or what went wrong."""

    error: BaseException | None = None


class _Producer(threading.Thread, Generic[T]):
    def __init__(self, make: Callable[[], Iterator[T]], ahead: int) -> None:
        super().__init__(name="prefetch", daemon=True)
        self.waiting: queue.Queue[T | _End] = queue.Queue(maxsize=ahead)
        self.unwanted = threading.Event()
        self._make = make

    def run(self) -> None:
        try:
            for item in self._make():
                self._put(item)
                if self.unwanted.is_set():
                    return
            self._put(_End())
        except BaseException as error:  # noqa: BLE001 - raised again in the reader's thread
            self._put(_End(error))

    def _put(self, item: T | _End) -> None:
        while not self.unwanted.is_set():
            try:
                self.waiting.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return


def prefetched(make: Callable[[], Iterator[T]], ahead: int = 2) -> Generator[T, None, None]:
    """Iterate over `make()` in a thread that stays up to `ahead` items in front; its errors are raised here.

    Args:
        make: called in the thread; what it iterates over.
        ahead: items that may wait (count).
    """
    producer = _Producer(make, ahead)
    producer.start()
    try:
        while not isinstance(item := producer.waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        producer.unwanted.set()
        if threading.current_thread() is not producer:  # the garbage collector may run this in any thread
            producer.join()
