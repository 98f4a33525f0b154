"""Leases on who may write a store of an object store, which has no locks: small objects beside it that are kept fresh.

A lease is made by creating an object that is not there yet; of several that try, one succeeds. Its holder writes it
again every few seconds. Whoever waits for it and sees it unchanged for long enough, by its own clock alone, takes over
by creating the next object of that name, which again succeeds for one. So clocks that differ do no harm, and a holder
that died, on whatever machine, costs a minute at the end of the work.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import final

from cache.store import RemotePath
from emonet.errors import EmonetError
from emonet.runtime import ignore, is_dead, stamp

RENEW = 10.0  # seconds between two writes of a lease by its holder
LEASE = 60.0  # seconds for which a lease counts that is not written again
WAIT = 1.0  # seconds between two looks at a lease that somebody else holds
_PARTS = "parts"  # leases on all shards of a part at once


@final
class StoreLeases:
    """The leases of one store, held by one writer; a context manager. The counterpart of `StoreLocks`.

    Args:
        path: URL of the store; the leases are objects of `.NAME.zarr.leases` beside it.
    """

    def __init__(self, path: RemotePath) -> None:
        self._objects = (path.parent / f".{path.name}.leases").objects
        self._me, self._beat = {"holder": stamp(), "token": uuid.uuid4().hex}, 0
        self._held: dict[str, str] = {}  # name -> key
        self._seen: dict[str, tuple[bytes, float]] = {}  # key -> content, and when it was first seen like that
        self._guard, self._ended = threading.Lock(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)

    def __enter__(self) -> StoreLeases:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join()
        with suppress(EmonetError):  # a service that is away: they run out
            for name in list(self._held):
                self._give_back(name)

    @contextmanager
    def preparing(self, waiting: Callable[[], None] = ignore) -> Iterator[None]:
        """While one process makes, checks or finishes the store the others wait.

        Args:
            waiting: called if another process prepares it, before this one waits for it.
        """
        if not self._take("preparing"):
            waiting()
            while not self._take("preparing"):
                time.sleep(WAIT)
        try:
            yield
        finally:
            self._give_back("preparing")

    def join(self) -> bool:
        """Become one of the store's writers.

        Returns:
            Whether there is no other.
        """
        alone = self.alone()
        self._take(f"writers/{self._me['token']}")
        return alone

    def alone(self, *, sure: bool = False) -> bool:
        """Whether no other process is known to write the store.

        Args:
            sure: see it through, up to a minute, whether one of another machine lives or was killed; without, it counts
                as alive at the first look.
        """
        mine = f"writers/{self._me['token']}/"
        others = [key for key, _ in self._objects.list("writers") if not key.startswith(mine)]
        gone = others if sure and not self._is_kept(others) else [key for key in others if self._has_run_out(key)]
        self._objects.delete(gone)
        return len(gone) == len(others)

    def claim(self, shard: int) -> bool:
        """Take a shard, unless another process has it."""
        name = f"shards/{shard:05d}"
        if not self._take(name):
            return False
        if self._handed_out([shard]):  # looked at last, as by whoever hands out: one of both sees the other
            self._give_back(name)
            return False
        return True

    def claim_all(self, count: int, index: int, shards: Sequence[int]) -> list[int]:
        """Take all shards of a part with one lease, as each of many would have to be written again and again.

        Args:
            count: parts in all.
            index: this one.
            shards: of it.

        Returns:
            Those that no other process has.
        """
        name = f"{_PARTS}/{count}-{index}"
        if self._is_kept([key for key, _ in self._objects.list(name)]) or not self._take(name):
            return []
        single = {key: int(key.split("/")[1]) for key, _ in self._objects.list("shards")}
        wanted = set(shards)
        if self._is_kept([key for key, shard in single.items() if shard in wanted]):
            wanted.difference_update(shard for key, shard in single.items() if not self._has_run_out(key))
        wanted -= self._handed_out(shards)
        return [shard for shard in shards if shard in wanted]

    def release(self, shard: int) -> None:
        """Give a shard back."""
        self._give_back(f"shards/{shard:05d}")

    def _handed_out(self, shards: Sequence[int]) -> set[int]:
        """Those that are of a part of which another process has all shards."""
        found: set[int] = set()
        for key, _ in self._objects.list(_PARTS):
            name, _, _ = key.rpartition("/")
            count, _, index = name.removeprefix(f"{_PARTS}/").partition("-")
            theirs = {shard for shard in shards if shard % int(count) == int(index)}
            if theirs and name not in self._held and not self._has_run_out(key):
                found |= theirs
        return found

    def _is_kept(self, keys: Sequence[str]) -> bool:
        """Whether somebody writes one of these leases again; else by then all have run out or were given back."""
        left = [key for key in keys if not self._has_run_out(key)]
        first = {key: self._seen.get(key) for key in left}
        while left:
            time.sleep(WAIT)
            left = [key for key in left if not self._has_run_out(key) and self._objects.size(key) is not None]
            if any(self._seen.get(key) != first[key] for key in left):
                return True
        return False

    def _take(self, name: str) -> bool:
        there = sorted((int(key.rpartition("/")[2]), key) for key, _ in self._objects.list(name))
        if there and not self._has_run_out(there[-1][1]):
            return False
        key = f"{name}/{there[-1][0] + 1 if there else 0}"
        content = self._content()
        try:
            self._objects.write(key, content, create=True)
        except FileExistsError:
            # Its first answer may have been lost on the way, and the request made again.
            with suppress(FileNotFoundError):
                if self._objects.read(key) == content:
                    return self._hold(name, key)
            return False
        return self._hold(name, key)

    def _hold(self, name: str, key: str) -> bool:
        with self._guard:
            self._held[name] = key
        return True

    def _give_back(self, name: str) -> None:
        with self._guard:
            key = self._held.pop(name, None)
        if key is not None:  # and what it was taken over from
            self._objects.delete([f"{name}/{number}" for number in range(int(key.rpartition("/")[2]) + 1)])

    def _has_run_out(self, key: str) -> bool:
        try:
            content = self._objects.read(key)
        except FileNotFoundError:
            return False  # just given back: to be looked at again
        if is_dead(str(json.loads(content)["holder"])):
            return True
        before, since = self._seen.get(key, (b"", 0.0))
        if content != before:
            self._seen[key] = content, time.monotonic()
            return False
        return time.monotonic() - since >= LEASE

    def _content(self) -> bytes:
        return json.dumps({**self._me, "beat": self._beat}).encode()

    def _keep(self) -> None:
        while not self._ended.wait(RENEW):
            self._beat += 1
            with self._guard:
                held = list(self._held.items())
            for name, key in held:
                with self._guard:
                    if self._held.get(name) == key:  # under the guard, so that none is written after it was given back
                        with suppress(EmonetError):  # a service that is away for a moment
                            self._objects.write(key, self._content())
