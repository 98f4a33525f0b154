"""Index of a tar: where its members are, made once from their headers and kept as Parquet; texts beside recordings."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from emonet.audio import AUDIO
from emonet.clips import GONE, stamp_of
from emonet.errors import RequestError
from emonet.names import as_text
from emonet.objects import is_url, open_location, stamp_of_object
from emonet.runtime import durable

TEXTS: Final = frozenset({".json", ".txt", ".cls"})
"""Suffixes of members that are read into the index: columns, a caption, a class."""

_VERSION = 1
_LONGEST = 1 << 20  # bytes of such a member
_BLOCK = 1 << 14  # bytes that are read at once from an object store: a header, and the texts around it
_COMPRESSED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
_UNPACKERS = {".gz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Args:
        name: as the tar has it.
        start: of its content (bytes).
        size: of its content (bytes).
        text: its content, if it is one of `TEXTS`.
    """

    name: str
    start: int
    size: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TarIndex:
    """What is in a tar.

    Args:
        location: path or URL of the tar.
        members: that are there as a whole, in their order.
        cut: the member that the tar ends in, if it was cut short there.
        damage: what is wrong with its end; "" if nothing is.
    """

    location: str
    members: tuple[Member, ...]
    cut: str | None = None
    damage: str = ""


def index_tar(location: str, folder: Path) -> TarIndex:
    """The members of a tar; by its index, if it was read before and is as it was.

    Args:
        location: path or URL.
        folder: where indexes are kept.

    Raises:
        RequestError: if it is missing, compressed or no tar.
        EmonetError: if the store that it is in does not answer.
    """
    path = location if is_url(location) else str(Path(location).resolve())
    stamp = stamp_of_object(location) if is_url(location) else stamp_of(path)
    if stamp is None or stamp == GONE:
        raise RequestError(
            "the tar does not exist", where=as_text(location), hint="tars:shards/train-{000..099}.tar names several"
        )
    key = hashlib.sha256(json.dumps([_VERSION, path, *stamp]).encode("utf-8", "surrogatepass")).hexdigest()[:24]
    kept = folder / f"{PurePosixPath(as_text(location)).stem[:40]}-{key}.parquet"
    index = _kept(kept, location)
    if index is None:
        index = _read(location, stamp[0])
        _keep(index, kept)
    return index


def _read(location: str, size: int) -> TarIndex:
    try:
        with open_location(location, block=_BLOCK, whole=0, size=size) as file:
            _refuse_compressed(file.read(6), location)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as tar:
                return _members(tar, file, location, size)
    except tarfile.TarError as error:
        found = "an empty file" if size == 0 else str(error)
        raise RequestError("this is no tar that can be read", where=as_text(location), found=found) from error
    except OSError as error:
        raise RequestError(
            "the tar cannot be opened", where=as_text(location), found=error.strerror or error
        ) from error


def _members(tar: tarfile.TarFile, file: BinaryIO, location: str, size: int) -> TarIndex:
    members: list[Member] = []
    while True:
        try:
            entry = tar.next()
        except tarfile.ReadError as error:
            return TarIndex(location, tuple(members), damage=f"damaged or cut short: {error}")
        if entry is None:
            return TarIndex(location, tuple(members), damage=_at_the_end(tar, file))
        vars(tar)["members"] = []  # tarfile keeps all that it has seen
        if entry.offset_data + entry.size > size and entry.isreg():
            there = max(0, size - entry.offset_data)
            damage = f"cut short: {there:,} of the {entry.size:,} bytes of its member {as_text(entry.name)} are there"
            return TarIndex(location, tuple(members), entry.name, damage)
        if entry.isreg() and not entry.issparse():
            members.append(_member(entry, file))


def _member(entry: tarfile.TarInfo, file: BinaryIO) -> Member:
    text = None
    if PurePosixPath(entry.name).suffix.lower() in TEXTS and entry.size <= _LONGEST:
        file.seek(entry.offset_data)
        text = file.read(entry.size).decode("utf-8-sig", "replace")
    return Member(entry.name, entry.offset_data, entry.size, text)


def _at_the_end(tar: tarfile.TarFile, file: BinaryIO) -> str:
    """What is wrong with a tar where no further member is read; "" if it ends as it should, with a block of zeros."""
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return ""
    if not block:
        return "cut short: it has no end mark, so that members may be missing"
    return f"damaged: what stands at byte {tar.offset:,} is no member"


def _refuse_compressed(head: bytes, location: str) -> None:
    for magic, suffix in _COMPRESSED.items():
        if head.startswith(magic):
            raise RequestError(
                "the tar is compressed: nothing in it can be read by ranges",
                where=as_text(location),
                found=f"{suffix[1:]} compression",
                hint=f"{_UNPACKERS[suffix]} it; FLAC, MP3 and Opus in it are compressed themselves",
            )


def _kept(path: Path, location: str) -> TarIndex | None:
    """The index that is kept; None where there is none that can be read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        about: dict[str, Any] = json.loads(table.schema.metadata[b"emonet"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    columns = (table.column(name).to_pylist() for name in ("name", "start", "size", "text"))
    members = (Member(_decoded(name), *rest) for name, *rest in zip(*columns, strict=True))
    return TarIndex(location, tuple(members), about["cut"], about["damage"])


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _keep(index: TarIndex, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    content = BytesIO()
    schema = pa.schema(
        [("name", pa.binary()), ("start", pa.int64()), ("size", pa.int64()), ("text", pa.large_string())],
        {"emonet": json.dumps({"cut": index.cut, "damage": index.damage})},
    )
    columns = {
        "name": [one.name.encode("utf-8", "surrogateescape") for one in index.members],
        "start": [one.start for one in index.members],
        "size": [one.size for one in index.members],
        "text": [one.text for one in index.members],
    }
    parquet.write_table(pa.table(columns, schema=schema), content, compression="zstd")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, content.getvalue())
    except OSError:
        return  # it is only made again: a disk that is full is told by what has to be written


def indexed_groups(index: TarIndex) -> Iterator[tuple[str, list[tuple[str, Member]]]]:
    """Members that share their name up to the first dot, as WebDataset groups them, with what follows the dot.

    Members of a group stand together as a rule; those that do not are one group all the same.
    """
    groups: dict[str, list[tuple[str, Member]]] = {}
    for member in index.members:
        if found := _key_and_ending(member.name):
            groups.setdefault(found[0], []).append((found[1], member))
    yield from groups.items()


def broken_group(index: TarIndex) -> str | None:
    """The key of the group that a damaged tar ends in, if its end was cut off or it has less than the one before it."""
    if index.cut is not None and (found := _key_and_ending(index.cut)):
        return found[0]
    last = list(indexed_groups(index))[-2:] if index.damage else []
    kinds = [{"audio" if end in AUDIO else end for end, _ in members} for _, members in last]
    return last[1][0] if len(last) == 2 and kinds[0] - kinds[1] else None


def _key_and_ending(name: str) -> tuple[str, str] | None:
    """The key of a member's group, and what follows it; None where it is in no group."""
    path = PurePosixPath(name)
    base, dot, rest = path.name.partition(".")
    return (str(path.with_name(base)), f".{rest.lower()}") if base and dot and "__MACOSX" not in path.parts else None
