"""Where a store lies: a folder of this machine (`Path`), or objects under a URL, with what stores need of a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias, cast, final

from pydantic import PlainSerializer, PlainValidator

from emonet.errors import RequestError
from emonet.objects import BucketObjects, ObjectFile, Objects, is_url


@final
class RemotePath:
    """A path among objects: pathlib's names for what an object store can do.

    A folder is there if something lies in it. Objects are read whole (`read_bytes`) or by ranges (`open`).

    Args:
        root: a folder of objects, whose client all paths made from this one share.
        key: below it; empty for the folder itself.
    """

    def __init__(self, root: Objects, key: str = "") -> None:
        self.root, self.key = root, key

    def __str__(self) -> str:
        return f"{self.root.url}/{self.key}" if self.key else self.root.url

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.root, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part."""
        return str(self).rsplit("/", 1)[-1]

    @property
    def parent(self) -> RemotePath:
        """The folder around it; of a bucket, the bucket."""
        if self.key:
            return RemotePath(self.root, self.key.rpartition("/")[0])
        bucket, _, path = str(self).partition("://")
        return RemotePath(Objects.open(f"{bucket}://{path.rpartition('/')[0] or path}"))

    @property
    def objects(self) -> BucketObjects:
        """What lies in this folder."""
        return cast("BucketObjects", self.root.child(self.key) if self.key else self.root)

    def read_bytes(self) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: if there is none.
        """
        return self.root.read(self.key)

    def read_text(self, encoding: str) -> str:
        """The whole object as text.

        Raises:
            FileNotFoundError: if there is none.
        """
        return self.read_bytes().decode(encoding)

    def open(self) -> ObjectFile:
        """The object as a file of which ranges are read.

        Raises:
            FileNotFoundError: if there is none.
        """
        return ObjectFile(self.root, self.key)

    def size(self) -> int | None:
        """Bytes of the object; None where there is none."""
        return self.root.size(self.key) if self.key else None

    def is_file(self) -> bool:
        """Whether it is an object."""
        return self.size() is not None

    def is_dir(self) -> bool:
        """Whether something lies below it."""
        return next(self.root.list(self.key), None) is not None

    def exists(self) -> bool:
        """Whether it is an object, or a folder of some."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[RemotePath]:
        """All objects below it, however deep."""
        return (RemotePath(self.root, key) for key, _ in self.root.list(self.key))

    def resolve(self) -> RemotePath:
        """Itself: there are no links."""
        return self


Place: TypeAlias = Path | RemotePath


def file_size(path: Place) -> int:
    """Bytes of a file or object; 0 where there is none."""
    if isinstance(path, RemotePath):
        return path.size() or 0
    return path.stat().st_size if path.is_file() else 0


def cache_folder() -> Path:
    """Folder of this user for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emonet"


def place(location: str | os.PathLike[str] | RemotePath) -> Place:
    """The place that a path or URL names; nothing is asked of it yet.

    Raises:
        RequestError: if it is the URL of no store that is known here.
    """
    if isinstance(location, RemotePath):
        return location
    return RemotePath(Objects.open(location)) if is_url(location) else Path(location)


def how_to_repair(store: Place) -> str:
    """What to do about a damaged store; `emonet store copy` copies none that is."""
    if not isinstance(store, RemotePath):
        return f"emonet store repair {store}"
    return (
        "copy its objects to a folder NAME.zarr by the service's own tool, emonet store repair NAME.zarr, and back: "
        f"emonet store copy NAME.zarr {store} --force"
    )


def _named(value: object) -> Place:
    """What a result says; ValueError as pydantic wants it."""
    if not isinstance(value, str | Path | RemotePath):
        raise ValueError("neither a path nor a URL")
    try:
        return place(value)
    except RequestError as error:
        raise ValueError(error.what) from error


StorePlace: TypeAlias = Annotated[
    Path | RemotePath,
    PlainValidator(_named),
    PlainSerializer(lambda value: value if isinstance(value, Path) else str(value)),
]
"""The field of a result that says where a store lies: a path or URL in JSON."""
