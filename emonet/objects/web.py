"""Objects on web servers (http, https), read by ranges where the server knows them. The only importer of urllib3."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, final

from emonet.errors import EmonetError, RequestError
from emonet.objects.ranges import WHOLE
from emonet.objects.read_only import ReadOnlyObjects

if TYPE_CHECKING:
    from urllib3 import PoolManager

_TRIES = 5
_BACK_OFF = 0.5  # seconds before the second try; twice as long before each further one
_BUSY = (429, 500, 502, 503, 504)
_SURPLUS = 64  # times as much as is wanted may come from a server without ranges, beside what is always read whole
_SECONDS = 30.0  # without a byte, after which a request is tried again


@final
class WebObjects(ReadOnlyObjects):
    """What lies below an address of a web server; its query, if it has one, belongs to the key."""

    _part = sys.maxsize  # a server without ranges sends everything for each part

    def read(self, key: str) -> bytes:
        """A whole object."""
        answer = self._ask("GET", key, {})
        return answer.data  # type: ignore[no-any-return]

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on."""
        if size <= 0:
            return b""
        answer = self._ask("GET", key, {"Range": f"bytes={start}-{start + size - 1}"})
        if answer.status == 416:  # the range begins behind the end
            return b""
        content: bytes = answer.data
        if answer.status != 200:
            return content
        # A server that knows no ranges sends everything, each time that some of it is wanted.
        if len(content) > WHOLE + _SURPLUS * size:
            raise RequestError(
                "the server gives no ranges of this, and it is too large to be sent whole each time",
                where=self._address(key),
                expected=f"{size:,} bytes",
                found=f"{len(content):,} bytes",
                hint="download it first",
            )
        return content[start : start + size]

    def stamp(self, key: str) -> tuple[int, str] | None:
        """Bytes of an object, and its ETag or time; None where there is none."""
        answer, length = None, None
        try:
            with suppress(RequestError):  # addresses that are signed for reading refuse to be asked
                answer = self._ask("HEAD", key, {"Accept-Encoding": "identity"})
                length = answer.headers.get("Content-Length")
            if answer is None or length is None:
                answer = self._ask("GET", key, {"Range": "bytes=0-0"})
                length = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if answer.status == 200:  # no ranges: the whole was sent
                    length = str(len(answer.data))
        except FileNotFoundError:
            return None
        if not length.isdecimal():
            raise RequestError("the server does not say how large this is", where=self._address(key))
        return int(length), answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""

    def _ask(self, method: str, key: str, headers: dict[str, str]) -> Any:
        """What the server answers.

        Raises:
            FileNotFoundError: if there is nothing.
            RequestError: if it refuses to give it.
            EmonetError: if it does not answer.
        """
        from urllib3.exceptions import HTTPError

        where = self._address(key)
        try:
            answer = _pool(os.getpid()).request(method, where, headers=headers)
        except HTTPError as error:
            hint = "try again: what is there stays"
            raise EmonetError("the server does not answer", where=where, found=error, hint=hint) from error
        if answer.status in (404, 410):
            raise FileNotFoundError(f"there is nothing at {where}")
        if answer.status not in (200, 206, 416):
            raise RequestError("the server does not give this", where=where, found=f"status {answer.status}")
        return answer


@cache
def _pool(_: int) -> PoolManager:
    """Connections of a process: a fork must not use its parent's."""
    from urllib3 import PoolManager, Retry

    retries = Retry(_TRIES, status_forcelist=_BUSY, backoff_factor=_BACK_OFF, raise_on_status=False)
    return PoolManager(maxsize=32, retries=retries, timeout=_SECONDS)
