"""Objects in a bucket of S3, Google Cloud Storage or Azure."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from emonet.errors import EmonetError
from emonet.objects.clients import new_client
from emonet.objects.failures import explained, is_past_the_end
from emonet.objects.folder import AT_ONCE, PART, Objects

_lock = threading.Lock()
_started: int | None = None  # process that uses obstore, whose threads do not survive a fork


@final
class BucketObjects(Objects):
    """Objects of a bucket, through obstore.

    Args:
        bucket: URL of the bucket, as in `s3://BUCKET`.
        path: of the folder in it; empty for the whole bucket.
    """

    def __init__(self, bucket: str, path: str = "") -> None:
        self.bucket, self.path = bucket, path
        self._opened: Any = None

    def __getstate__(self) -> tuple[str, str]:
        return self.bucket, self.path

    def __setstate__(self, state: tuple[str, str]) -> None:
        self.bucket, self.path = state
        self._opened = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketObjects) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def url(self) -> str:
        """Where they lie."""
        return f"{self.bucket}/{self.path}" if self.path else self.bucket

    @property
    def client(self) -> Any:
        """The whole bucket, as obstore has it.

        Raises:
            RequestError: if obstore is not installed, or the environment says too little to open one.
            EmonetError: in a process that was forked from one that uses obstore: there it would wait forever.
        """
        global _started  # noqa: PLW0603  one runtime a process, whoever opens a client first
        with _lock:
            if _started not in (None, os.getpid()):
                raise EmonetError(
                    "object stores cannot be read in a process that was forked",
                    where=self.url,
                    hint="start it with spawn, as in DataLoader(..., multiprocessing_context='spawn')",
                )
            if self._opened is None:
                self._opened = new_client(self.bucket)
                _started = os.getpid()
            return self._opened

    def child(self, name: str) -> BucketObjects:
        """The folder `name` in this one."""
        return BucketObjects(self.bucket, self._name(name))

    def read(self, key: str) -> bytes:
        """A whole object."""
        with self._asking("read", key):
            found = self.client.get(self._name(key))
            size = int(found.meta["size"])
            if size <= 2 * PART:
                return bytes(found.bytes())
        return self.read_ranges(key, [0], [size])[0]

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on."""
        if size <= 0:
            return b""
        with self._asking("read", key):
            try:
                return bytes(self.client.get_range(self._name(key), start=start, end=start + size))
            except Exception as error:
                if is_past_the_end(error):
                    return b""
                raise

    def write(self, key: str, data: bytes | Path | Sequence[bytes], *, create: bool = False) -> None:
        """Write an object whole or not at all."""
        with self._asking("write", key):
            if not create:
                self.client.put(self._name(key), data, chunk_size=PART, max_concurrency=AT_ONCE)
            else:
                whole = data if isinstance(data, bytes | Path) else b"".join(data)
                self.client.put(self._name(key), whole, mode="create")

    def stamp(self, key: str) -> tuple[int, str] | None:
        """Bytes of an object, and its version or ETag; None where there is none."""
        try:
            with self._asking("read", key):
                found = self.client.head(self._name(key))
        except FileNotFoundError:
            return None
        return int(found["size"]), found["version"] or found["e_tag"] or ""

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes (bytes) of all objects in a folder, and below it."""
        start = len(self.path) + 1 if self.path else 0
        with self._asking("list", prefix):
            for page in self.client.list(self._name(prefix) or None, chunk_size=1000):
                yield from ((found["path"][start:], int(found["size"])) for found in page)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
        for first in range(0, len(keys), 1000):  # that S3 takes at once
            names = [self._name(key) for key in keys[first : first + 1000]]
            with self._asking("delete", keys[first]):
                try:
                    self.client.delete(names)
                except FileNotFoundError:  # not on S3: the others may still be there
                    for name in names:
                        with contextlib.suppress(FileNotFoundError):
                            self.client.delete(name)

    def _name(self, key: str) -> str:
        return "/".join(filter(None, (self.path, key.strip("/"))))

    @contextlib.contextmanager
    def _asking(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except EmonetError:
            raise
        except Exception as error:  # obstore's errors have no base of their own: some are Python's
            raise explained(error, doing, f"{self.url}/{key}".rstrip("/")) from error
