"""Layout of a store on disk: a Zarr group with its arrays, shards, and the table of clips.

The only module that imports zarr.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import zarr
from jaxtyping import Float16
from pydantic import ValidationError
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec
from zarr.storage import ObjectStore

from cache.store.metadata import FORMAT, FORMAT_VERSION, MARKERS, ExtractionRecord
from cache.store.places import Place, RemotePath, how_to_repair
from cache.store.table import TABLE
from cache.store.tiers import BLOCK, LEVEL, TIERS, Tier
from emonet.errors import EmonetError, RequestError
from emonet.targets import TargetSpec

STATES, SCALES, SILENCE = "states", "scales", "silence"  # arrays
METADATA = "zarr.json"  # of the group and of each array; without the group's there is no store

# What Zarr raises over metadata that are no JSON, or JSON of something else, and over damaged chunks.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_ANEW = "emonet extract --force, which makes the store anew"
_ELSEWHERE = "name the folder of a store; to extract into this one, move what it holds elsewhere"


def create(
    path: Path,
    record: ExtractionRecord,
    targets: TargetSpec,
    note: str,
    silence: Float16[np.ndarray, "frames width"] | None,
    classes: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Make an empty store at `path`, which must not exist: the group with its attributes, and the arrays.

    Args:
        path: the folder NAME.zarr.
        record: what it is to be made from.
        targets: what the scores mean.
        note: a sentence about the corpus.
        silence: what the states that are not kept read as; None where all are kept.
        classes: label -> id of the target that stands for it, as the corpus says.
    """
    group = zarr.create_group(
        path,
        zarr_format=3,
        attributes={
            "format": FORMAT,
            "record": record.model_dump(mode="json"),
            "targets": targets.to_json(),  # type: ignore[dict-item]
            "note": note,
            **({"classes": dict(classes)} if classes else {}),
        },
    )
    _create_states(group, record)
    if silence is not None:
        array = group.create_array(
            SILENCE,
            shape=silence.shape,
            dtype="float16",
            chunks=silence.shape,
            fill_value=float("nan"),
            compressors=[Crc32cCodec()],
            dimension_names=("frame", "feature"),
        )
        array[:] = silence


def _create_states(group: zarr.Group, record: ExtractionRecord) -> None:
    """The arrays that hold a chunk for each clip."""
    tier = TIERS[record.codec]
    group.create_array(
        STATES,
        shape=record.shape,
        dtype=tier.dtype,
        chunks=(1, *record.shape[1:]),
        shards=(record.shard_clips, *record.shape[1:]),
        fill_value=tier.fill_value,
        filters=[TransposeCodec(order=(0, 2, 1))] if tier.compressed else [],
        compressors=[*([_blosc(tier)] if tier.compressed else []), Crc32cCodec()],
        dimension_names=("clip", "frame", "feature"),
    )
    if tier.scaled:
        group.create_array(
            SCALES,
            shape=(record.clips, record.width),
            dtype="float32",
            chunks=(1, record.width),
            shards=(record.shard_clips, record.width),
            fill_value=float("nan"),
            compressors=[Crc32cCodec()],
            dimension_names=("clip", "feature"),
        )


def _blosc(tier: Tier) -> BloscCodec:
    """What undoes the compression of `cache.store.tiers`, as the array's metadata name it."""
    typesize = np.dtype(tier.dtype).itemsize
    return BloscCodec(
        typesize=typesize,
        cname="zstd",
        clevel=LEVEL,
        shuffle="shuffle" if typesize > 1 else "noshuffle",
        blocksize=BLOCK,
    )


def open_array(path: Place, name: str = STATES, *, mode: str = "r") -> Any:
    """A Zarr array of the store; `mode` is Zarr's (`r`, `r+`)."""
    if isinstance(path, RemotePath):
        (path / name / METADATA).read_bytes()  # tells in our words what is wrong with the service
        objects = (path / name).objects
        store = ObjectStore(objects.client, read_only=mode == "r")
        return zarr.open_array(store, path=objects.path, mode=mode, zarr_format=3)  # type: ignore[arg-type]
    return zarr.open_array(path / name, mode=mode, zarr_format=3)  # type: ignore[arg-type]


def wrong_metadata(path: Place, record: ExtractionRecord) -> dict[str, str]:
    """The arrays whose metadata cannot be read, or are another array's; name -> what is wrong."""
    tier, wrong = TIERS[record.codec], {}
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {STATES: (tier.dtype, record.shape)}
    if tier.scaled:
        arrays[SCALES] = ("float32", (record.clips, record.width))
    if record.kept == "speech":
        arrays[SILENCE] = ("float16", record.shape[1:])
    for name, expected in arrays.items():
        try:
            array = open_array(path, name)
            found = str(array.dtype), tuple(array.shape)
        except _UNREADABLE as error:
            wrong[name] = f"the metadata of the array {name} cannot be read: {error}"
            continue
        if found != expected:
            wrong[name] = f"the array {name} is {found[0]} {found[1]}, the record says {expected[0]} {expected[1]}"
    return wrong


def read_silence(path: Place) -> Float16[np.ndarray, "frames width"]:
    """What the states that are not kept read as.

    Raises:
        EmonetError: if it is damaged.
    """
    hint = how_to_repair(path)
    try:
        silence = np.asarray(open_array(path, SILENCE)[:])
    except _UNREADABLE as error:
        raise EmonetError("the mean of silence cannot be read", where=path / SILENCE, found=error, hint=hint) from error
    if silence.dtype != np.float16 or not np.isfinite(silence).all():
        raise EmonetError("the mean of silence is missing", where=path / SILENCE, hint=hint)
    return silence


@overload
def shard_file(path: Path, shard: int, array: str = STATES) -> Path: ...
@overload
def shard_file(path: RemotePath, shard: int, array: str = STATES) -> RemotePath: ...
def shard_file(path: Place, shard: int, array: str = STATES) -> Place:
    """Where a shard of an array lies."""
    return path / f"{array}/c/{shard}/{'0' if array == SCALES else '0/0'}"


def read_attributes(path: Place) -> tuple[ExtractionRecord, TargetSpec, str]:
    """What the attributes of a store say: record, targets, note; without opening the array.

    Raises:
        RequestError: if there is no store at `path`, or one that this version cannot read.
        EmonetError: if there is one without readable attributes.
    """
    attributes = _attributes(path)
    try:
        version = attributes["record"].get("format_version")
        if version != FORMAT_VERSION:
            what = "the store has another format version"
            raise RequestError(what, where=path, expected=FORMAT_VERSION, found=version, hint=_ANEW)
        record = ExtractionRecord.model_validate(attributes["record"])
        return record, TargetSpec.from_json(attributes["targets"]), str(attributes.get("note", ""))
    except (ValidationError, LookupError, TypeError, AttributeError) as error:
        where = path / METADATA
        raise RequestError("the attributes of the store are damaged", where=where, found=error, hint=_ANEW) from error


def read_classes(path: Place) -> dict[str, str | None]:
    """What the class labels of a store's clips stand for; empty where they have none, and in older stores.

    Raises:
        RequestError: if there is no store at `path`, or its attributes are damaged.
    """
    classes = _attributes(path).get("classes", {})
    if not isinstance(classes, dict) or not all(isinstance(target, str | None) for target in classes.values()):
        raise RequestError("the attributes of the store are damaged", where=path / METADATA, found=classes, hint=_ANEW)
    return classes


def require_store(path: Place) -> None:
    """Check that a folder is a store of emonet, of whatever version and state.

    Raises:
        RequestError: if it is not.
        EmonetError: if its attributes are lost, and more than these.
    """
    try:
        _attributes(path)
    except RequestError:
        raise
    except EmonetError:  # the attributes alone are lost
        if not _is_surely(path):
            raise


def _attributes(path: Place) -> dict[str, Any]:
    try:
        attributes = json.loads((path / METADATA).read_text("utf-8"))["attributes"]
        ours = attributes.get("format") == FORMAT
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_store(path) from error
    if not ours:
        raise RequestError("this Zarr group is not a feature store of emonet", where=path)
    found: dict[str, Any] = attributes
    return found


def _no_store(path: Place) -> EmonetError:
    """What is there in place of a store; only what looks like one may be replaced."""
    if parts := _parts(path):
        return _damaged_store(path, parts)
    what, nearby = "there is no feature store", [place / "store.zarr" for place in (path, path.parent)]
    hint = next((f"did you mean {store}?" for store in nearby if store != path and store.is_dir()), None)
    if not path.exists():
        found = "nothing at this address" if isinstance(path, RemotePath) else "no such folder"
        return RequestError(what, where=path, found=found, hint=hint or "emonet extract, which makes one")
    if path.is_file():
        hint = hint or "name the folder of a store, as in runs/EXPERIMENT/store.zarr"
        return RequestError(what, where=path, expected="a folder", found="a file", hint=hint)
    if next(iter(path.iterdir()), None) is None:
        return RequestError(what, where=path, found="an empty folder", hint=hint or _ANEW)
    return RequestError(what, where=path, found=f"a folder with no readable {METADATA}", hint=hint or _ELSEWHERE)


def _damaged_store(path: Place, parts: list[str]) -> EmonetError:
    """Says that the attributes are lost; nothing else says what the store was made from."""
    state = "damaged" if (path / METADATA).exists() else "missing"
    anew = "emonet extract --force with the same flags, which makes it anew"
    return EmonetError(
        f"the store's {METADATA} is {state}",
        where=path / METADATA,
        expected="what the store was made from",
        found=f"{', '.join(parts)} {'is' if len(parts) == 1 else 'are'} still there",
        hint=anew if _is_surely(path) else _ELSEWHERE,
    )


def _parts(path: Place) -> list[str]:
    """What makes a folder look like a store, besides its attributes; empty where nothing does."""
    found = [name for name in (STATES, MARKERS) if (path / name).is_dir()]
    return [*found, TABLE] if found and (path / TABLE).is_file() else found


def _is_surely(path: Place) -> bool:
    """Whether a folder without readable attributes is a store all the same, which --force may replace."""
    return (path / STATES / METADATA).is_file() and (path / MARKERS).is_dir()


def create_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Make an empty Zarr group of its own at `path`, which must not exist."""
    zarr.create_group(path, zarr_format=3, attributes=dict(attributes))


def create_values(path: Path, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> Any:
    """An array in the group at `path`: checksums, no compression; NaN or -1 where nothing was written."""
    return zarr.open_group(path, mode="r+", zarr_format=3).create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=tuple(min(chunk, size) for chunk, size in zip(chunks, shape, strict=True)),
        fill_value=float("nan") if dtype == "float32" else -1,
        compressors=[Crc32cCodec()],
    )


def read_group_attributes(path: Place) -> dict[str, Any]:
    """Attributes of the Zarr group at `path`.

    Raises:
        OSError: if there is none.
        ValueError: if they are damaged, or it is no group.
    """
    metadata = json.loads((path / METADATA).read_text("utf-8"))
    if not isinstance(metadata, dict) or not isinstance(metadata.get("attributes"), dict):
        raise ValueError("it has no attributes")
    return dict(metadata["attributes"])
