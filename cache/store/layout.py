"""Layout of a store on disk: a Zarr group with its arrays, shards, and the table of clips.

The only module that imports zarr.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from jaxtyping import Float16
from pydantic import ValidationError
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec

from cache.store.metadata import FORMAT, FORMAT_VERSION, MARKERS, ExtractionRecord
from cache.store.tiers import BLOCK, LEVEL, TIERS, Tier
from emonet.errors import EmonetError, RequestError
from emonet.targets import TargetSpec

STATES, SCALES, SILENCE = "states", "scales", "silence"  # arrays
TABLE = "clips.parquet"
TEXTS = ("failed", "sound_digest", "sound_notices")  # columns of the table that are None for most clips
LABEL = "label"  # a further one, where clips have class labels
_FINGERPRINT, _DIGEST = b"emonet.fingerprint", b"emonet.digest"  # keys in the table's metadata

# What Arrow and Pandas raise over bytes that are no table, or another one than was written.
_DAMAGED = (OSError, pa.ArrowException, ValueError, KeyError)
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


def open_array(path: Path, name: str = STATES, *, mode: str = "r") -> Any:
    """A Zarr array of the store; `mode` is Zarr's (`r`, `r+`)."""
    return zarr.open_array(path / name, mode=mode, zarr_format=3)  # type: ignore[arg-type]


def wrong_metadata(path: Path, record: ExtractionRecord) -> dict[str, str]:
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


def read_silence(path: Path) -> Float16[np.ndarray, "frames width"]:
    """What the states that are not kept read as.

    Raises:
        EmonetError: if it is damaged.
    """
    hint = f"emonet store repair {path}"
    try:
        silence = np.asarray(open_array(path, SILENCE)[:])
    except _UNREADABLE as error:
        raise EmonetError("the mean of silence cannot be read", where=path / SILENCE, found=error, hint=hint) from error
    if silence.dtype != np.float16 or not np.isfinite(silence).all():
        raise EmonetError("the mean of silence is missing", where=path / SILENCE, hint=hint)
    return silence


def shard_file(path: Path, shard: int, array: str = STATES) -> Path:
    """Where a shard of an array lies."""
    return path / f"{array}/c/{shard}/{'0' if array == SCALES else '0/0'}"


def read_attributes(path: Path) -> tuple[ExtractionRecord, TargetSpec, str]:
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
        where = path / "zarr.json"
        raise RequestError("the attributes of the store are damaged", where=where, found=error, hint=_ANEW) from error


def read_classes(path: Path) -> dict[str, str | None]:
    """What the class labels of a store's clips stand for; empty where they have none, and in older stores.

    Raises:
        RequestError: if there is no store at `path`, or its attributes are damaged.
    """
    classes = _attributes(path).get("classes", {})
    if not isinstance(classes, dict) or not all(isinstance(target, str | None) for target in classes.values()):
        raise RequestError(
            "the attributes of the store are damaged", where=path / "zarr.json", found=classes, hint=_ANEW
        )
    return classes


def require_store(path: Path) -> None:
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


def _attributes(path: Path) -> dict[str, Any]:
    try:
        attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
        ours = attributes.get("format") == FORMAT
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_store(path) from error
    if not ours:
        raise RequestError("this Zarr group is not a feature store of emonet", where=path)
    found: dict[str, Any] = attributes
    return found


def _no_store(path: Path) -> EmonetError:
    """What is there in place of a store; only what looks like one may be replaced."""
    if parts := _parts(path):
        return _damaged_store(path, parts)
    what, nearby = "there is no feature store", [place / "store.zarr" for place in (path, path.parent)]
    hint = next((f"did you mean {store}?" for store in nearby if store != path and store.is_dir()), None)
    if not path.exists():
        return RequestError(what, where=path, found="no such folder", hint=hint or "emonet extract, which makes one")
    if path.is_file():
        hint = hint or "name the folder of a store, as in runs/EXPERIMENT/store.zarr"
        return RequestError(what, where=path, expected="a folder", found="a file", hint=hint)
    if not any(path.iterdir()):
        return RequestError(what, where=path, found="an empty folder", hint=hint or _ANEW)
    return RequestError(what, where=path, found="a folder with no readable zarr.json", hint=hint or _ELSEWHERE)


def _damaged_store(path: Path, parts: list[str]) -> EmonetError:
    """Says that the attributes are lost; nothing else says what the store was made from."""
    state = "damaged" if (path / "zarr.json").exists() else "missing"
    anew = "emonet extract --force with the same flags, which makes it anew"
    return EmonetError(
        f"the store's zarr.json is {state}",
        where=path / "zarr.json",
        expected="what the store was made from",
        found=f"{', '.join(parts)} {'is' if len(parts) == 1 else 'are'} still there",
        hint=anew if _is_surely(path) else _ELSEWHERE,
    )


def _parts(path: Path) -> list[str]:
    """What makes a folder look like a store, besides its attributes; empty where nothing does."""
    found = [name for name in (STATES, MARKERS) if (path / name).is_dir()]
    return [*found, TABLE] if found and (path / TABLE).is_file() else found


def _is_surely(path: Path) -> bool:
    """Whether a folder without readable attributes is a store all the same, which --force may replace."""
    return (path / STATES / "zarr.json").is_file() and (path / MARKERS).is_dir()


def table_bytes(columns: Mapping[str, Any], targets: TargetSpec, fingerprint: str) -> bytes:
    """The table of clips as a Parquet file; docs/store.md has the columns and their types."""
    fields = [
        *(pa.field(name, pa.string()) for name in ("id", "split", "speaker", "language")),
        pa.field("seconds", pa.float64()),
        pa.field("speech_frames", pa.int64()),
        *(pa.field(name, pa.string()) for name in TEXTS),
        *([pa.field(LABEL, pa.string())] if LABEL in columns else []),
        *(pa.field(name, pa.float32()) for name in targets.ids),
    ]
    table = pa.table(dict(columns), schema=pa.schema(fields))
    marks = {_FINGERPRINT: fingerprint.encode(), _DIGEST: table_digest(table).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(marks), sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def table_digest(table: Any) -> str:
    """SHA-256 in hex over an Arrow table's column names and values."""
    state = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name)
        state.update(f"{name}\n".encode())
        if pa.types.is_string(column.type):
            state.update(json.dumps(column.to_pylist(), ensure_ascii=False).encode())
        else:  # a missing value is NaN here
            state.update(np.ascontiguousarray(column.to_numpy()).data)
    return state.hexdigest()


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """The table of clips, or some of its columns.

    Raises:
        EmonetError: if it is damaged; a whole table is compared with its digest, columns only with their checksums.
    """
    try:
        table = pq.read_table(path / TABLE, columns=columns, page_checksum_verification=True)
        if columns is None and (table.schema.metadata or {}).get(_DIGEST) != table_digest(table).encode():
            raise ValueError("it is not what was written")
        frame: pd.DataFrame = table.to_pandas()
        for name in {*TEXTS, LABEL} & set(frame):
            texts = frame[name].astype(object)
            frame[name] = texts.where(texts.notna(), None)
    except _DAMAGED as error:
        raise damaged_table(path, error) from error
    return frame


def read_summary(path: Path) -> tuple[int, str]:
    """Rows of the table of clips, and the store's fingerprint: out of the file's footer, however long it is.

    Raises:
        EmonetError: if it is damaged.
    """
    try:
        footer = pq.read_metadata(path / TABLE)
    except _DAMAGED as error:
        raise damaged_table(path, error) from error
    return footer.num_rows, (footer.metadata or {}).get(_FINGERPRINT, b"").decode()


def damaged_table(path: Path, reason: object) -> EmonetError:
    """Says that the table of clips is damaged."""
    hint = f"emonet store repair {path}"
    return EmonetError("the table of clips is damaged", where=path / TABLE, found=reason, hint=hint)


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


def read_group_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the Zarr group at `path`.

    Raises:
        OSError: if there is none.
        ValueError: if they are damaged, or it is no group.
    """
    metadata = json.loads((path / "zarr.json").read_text("utf-8"))
    if not isinstance(metadata, dict) or not isinstance(metadata.get("attributes"), dict):
        raise ValueError("it has no attributes")
    return dict(metadata["attributes"])
