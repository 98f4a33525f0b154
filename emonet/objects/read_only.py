"""Objects that are only read: what is the same for the Hugging Face hub and for web servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from emonet.errors import RequestError
from emonet.objects.folder import Objects


class ReadOnlyObjects(Objects):
    """A folder of objects that nothing can be written to.

    Args:
        url: of the folder, without a slash at its end.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadOnlyObjects) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    @property
    def url(self) -> str:
        """Where they lie."""
        return self._url

    def child(self, name: str) -> Self:
        """The folder `name` in this one."""
        return type(self)(self._address(name))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes (bytes) of all objects."""
        raise RequestError("what is there cannot be listed", where=self._address(prefix), hint="name each file")

    def write(self, key: str, data: bytes | Path | Sequence[bytes], *, create: bool = False) -> None:  # noqa: ARG002 as the others
        """Refused."""
        raise self._refused(key)

    def delete(self, keys: Sequence[str]) -> None:
        """Refused."""
        raise self._refused(keys[0] if keys else "")

    def _refused(self, key: str) -> RequestError:
        where = self._address(key)
        return RequestError("nothing can be written here", where=where, expected="a path, or s3://, gs:// or az://")

    def _address(self, key: str) -> str:
        return f"{self._url}/{key}" if key else self._url
