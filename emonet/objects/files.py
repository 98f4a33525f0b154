"""An object as a file that is read here and there, for libraries that want one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from emonet.objects.folder import Objects
from emonet.objects.ranges import SlicedFile


@final
class ObjectFile(SlicedFile):
    """Reads the very ranges of an object that are asked for: who asks, such as Arrow, knows best how much at once.

    Args:
        objects: the folder that it lies in.
        key: its name there.

    Raises:
        FileNotFoundError: if there is no such object.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        size = objects.size(key)
        if size is None:
            raise FileNotFoundError(f"there is no object {objects.url}/{key}")
        super().__init__(_Content(objects, key, size))


@dataclass(frozen=True)
class _Content:
    objects: Objects
    key: str
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        first, last, _ = part.indices(self.size)
        return self.objects.read_ranges(self.key, [first], [last - first])[0] if first < last else b""
