"""Metadata of a store: the extraction record, which fixes its bytes, and the marker of each complete shard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, TypeVar, overload

from pydantic import Field

from cache.store.places import Place, RemotePath, how_to_repair
from emonet.audio import NoticeKind
from emonet.configs import CodecTier, EncoderPrecision, Pool
from emonet.errors import EmonetError, RequestError
from emonet.schema import Schema, digest
from emonet.targets import TargetSpec
from emonet.windows import Window

FORMAT = "emonet-feature-store"
FORMAT_VERSION = 2
MARKERS = "shards"
_REQUESTS = 16  # for markers at the same time
_MARKERS_AHEAD = 256  # that are held at once: each tells something of every clip of its shard
Found = TypeVar("Found")
STATISTICS = 4  # of a pooled store: mean, minimum, maximum and unbiased deviation of each value over time

_DESCRIPTIONS = {"corpus", "encoder", "layers"}


class ExtractionRecord(Schema):
    """Everything that fixes the bytes of a store; it stands in the attributes of the Zarr group."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"pool"})

    format_version: int = FORMAT_VERSION
    """Version of the layout described in docs/store.md."""
    corpus: str
    """The spec that opened the corpus; a description, not compared."""
    corpus_fingerprint: str
    """SHA-256 over the corpus' clips and targets."""
    clips: int = Field(ge=1)
    """Clips of the corpus, readable or not (count)."""
    encoder: str
    """Where the encoder was loaded from, or `plugin:NAME[:ARGUMENT]`; a description, not compared."""
    encoder_digest: str
    """SHA-256 over the encoder's weights and layers, or over a plug-in's name and what it says of itself."""
    layers: tuple[int, ...] | None = None
    """Which layers of the encoder stand side by side in the width, counted from 1; none: the last one, behind the final
    norm. A description, not compared: the digest covers it."""
    window_seconds: float = Field(gt=0)
    """Audio that the encoder hears of each clip (seconds)."""
    frames: int = Field(ge=1)
    """States per clip that the encoder gives, 20 ms each unless a plug-in's are others (count)."""
    width: int = Field(ge=1)
    """Values per state (count)."""
    pool: Pool = "none"
    """What is kept of the states: all (none), or statistics over those that hear the clip."""
    mels: int = Field(ge=0)
    """Mel bands of the encoder's input (count); 0 for a plug-in's, which has an input of its own."""
    precision: EncoderPrecision
    """Arithmetic of the encoder."""
    batch_size: int = Field(ge=1)
    """Clips per pass; the last bits of a state depend on it (count)."""
    shard_clips: int = Field(ge=1)
    """Clips per shard (count)."""
    codec: CodecTier = "lossless"
    """How states are stored: the tier of `cache.store.tiers`."""
    kept: Literal["all", "speech"] = "all"
    """Which states are stored: all, or those that hear the clip; the rest then reads as the mean of silence."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Clips, kept rows of each (its frames, or the statistics over them), width."""
        return self.clips, self.frames if self.pool == "none" else STATISTICS, self.width

    @property
    def shards(self) -> int:
        """How many shards the clips fill; the last may be shorter."""
        return -(-self.clips // self.shard_clips)

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip's states before compression."""
        return self.shape[1] * self.width * 2

    def speech_frames(self, seconds: float) -> int:
        """How many of a clip's states hear so many seconds of it: at least 1, at most all."""
        return Window(self.window_seconds).speech_frames(seconds, self.frames)

    def rows(self, shard: int) -> range:
        """The rows that a shard holds."""
        first = shard * self.shard_clips
        return range(first, min(first + self.shard_clips, self.clips))

    def identity(self) -> dict[str, object]:
        """What makes two stores different, by field; descriptions are left out."""
        return self.distinguishing(exclude=_DESCRIPTIONS)

    def require(
        self,
        wanted: ExtractionRecord | Mapping[str, object],
        *,
        where: object,
        hint: str,
        targets: tuple[TargetSpec, TargetSpec] | None = None,
    ) -> None:
        """Check that this record, the store's, is the wanted one.

        Args:
            wanted: all of it, or the fields that are known.
            where: the store.
            hint: what to do next.
            targets: the store's and the wanted ones, which the corpus' fingerprint covers.

        Raises:
            RequestError: listing each field that differs with both values.
        """
        mine = self.model_dump(exclude=_DESCRIPTIONS)
        theirs = (
            wanted.model_dump(exclude=_DESCRIPTIONS) if isinstance(wanted, ExtractionRecord) else {**mine, **wanted}
        )
        lines = [f"    - {name}: the store has {mine[name]}, wanted {theirs[name]}" for name in mine]
        differing = [line for line, name in zip(lines, mine, strict=True) if mine[name] != theirs[name]]
        if isinstance(wanted, ExtractionRecord) and self.layers != wanted.layers:  # which the digests stand for
            differing.append(f"    - layers: the store has {_named(self.layers)}, wanted {_named(wanted.layers)}")
        if targets is not None and targets[0].to_json() != targets[1].to_json():
            differing.append(f"    - targets: the store has {targets[0].summary}, wanted {targets[1].summary}")
        if differing:
            what = "\n".join(["the feature store was made from something else", *differing])
            raise RequestError(what, where=where, hint=hint)


def _named(layers: tuple[int, ...] | None) -> str:
    return "the last" if layers is None else " ".join(map(str, layers))


class ShardMarker(Schema):
    """Says that a shard is whole and on disk; a shard without its marker does not exist."""

    shard: int = Field(ge=0)
    """Position of the shard, from 0."""
    seconds: tuple[float | None, ...]
    """Audio heard of each clip (seconds); null where the clip could not be read."""
    failures: dict[int, str]
    """Row of the store -> why that clip has no states."""
    stored_bytes: int = Field(ge=0)
    """Size of the shard's file; 0 if every clip failed, since then there is no file (bytes)."""
    digest: str
    """SHA-256 over the SHA-256s of the readable clips' states, in order, as float16 and as they read."""
    largest_error: float = Field(0.0, ge=0)
    """Largest difference between a state as computed and as it reads; 0 where nothing is lost."""
    squared_error: float = Field(0.0, ge=0)
    """Sum of the squares of these differences."""
    squared_states: float = Field(0.0, ge=0)
    """Sum of the squares of the states as computed; 0 where nothing is lost."""
    contents: tuple[str | None, ...] = ()
    """Digest of each clip's samples, the same for copies; empty in stores made before it was kept."""
    notices: dict[int, tuple[tuple[NoticeKind, str], ...]] = Field(default_factory=dict)
    """Row of the store -> what is odd about that clip's sound: kind and text."""

    def summary(self) -> ShardMarker:
        """Without what it says of each clip but failures: a million clips' markers take little memory."""
        return ShardMarker.model_validate({**dict(self), "seconds": (), "contents": (), "notices": {}})


def fingerprint(record: ExtractionRecord, markers: list[ShardMarker]) -> str:
    """SHA-256 over what a store was made from and holds, the same however often it was interrupted."""
    content = [[marker.digest, sorted(marker.failures.items())] for marker in markers]
    return digest([record.identity(), content])


@overload
def marker_file(path: Path, shard: int) -> Path: ...
@overload
def marker_file(path: RemotePath, shard: int) -> RemotePath: ...
def marker_file(path: Place, shard: int) -> Place:
    """Where the marker of a shard lies."""
    return path / MARKERS / f"{shard:05d}.json"


def read_marker(path: Place, record: ExtractionRecord, shard: int) -> ShardMarker:
    """The marker of a shard.

    Raises:
        EmonetError: if it is missing, damaged, or that of another shard.
    """
    file = marker_file(path, shard)
    try:
        marker = ShardMarker.model_validate_json(file.read_bytes())
        if (marker.shard, len(marker.seconds)) != (shard, len(record.rows(shard))):
            raise ValueError(f"it is of shard {marker.shard} with {len(marker.seconds)} clips")
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise EmonetError(
            f"the marker of shard {shard} cannot be read",
            where=file,
            found=error,
            hint=how_to_repair(path),
        ) from error
    return marker


def read_markers(path: Place, record: ExtractionRecord, shards: Iterable[int]) -> Iterator[ShardMarker]:
    """The markers of several shards, in order; of an object store some are asked for at the same time.

    Raises:
        EmonetError: if one is missing, damaged, or that of another shard.
    """
    yield from look_at_shards(path, shards, lambda shard: read_marker(path, record, shard))


def readable_markers(path: Place, record: ExtractionRecord) -> Iterator[ShardMarker]:
    """The markers that are there and readable, in order; a shard without one does not count."""

    def look(shard: int) -> ShardMarker | None:
        try:
            return read_marker(path, record, shard)
        except EmonetError:  # not there any more, or damaged: `verify` tells which
            return None

    there = sorted(marked_shards(path).intersection(range(record.shards)))
    return (marker for marker in look_at_shards(path, there, look) if marker is not None)


def look_at_shards(path: Place, shards: Iterable[int], look: Callable[[int], Found]) -> Iterator[Found]:
    """What is found of each shard, in order; of an object store many are asked for at the same time."""
    if isinstance(path, Path):
        yield from map(look, shards)
        return
    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="markers") as pool:
        waiting = iter(shards)
        while some := list(islice(waiting, _MARKERS_AHEAD)):
            yield from pool.map(look, some)


def marked_shards(path: Place) -> set[int]:
    """Shards that have a marker."""
    folder = path / MARKERS
    files = folder.glob("*.json") if isinstance(folder, Path) else folder.iterdir()
    names = (file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))
    return {int(name) for name in names if name.isdecimal()}  # not what else a program may put there


def errors_of(markers: list[ShardMarker]) -> tuple[float, float]:
    """The largest error of a lossy codec, and the root mean square as a share of that of the states; 0 if lossless."""
    error, states = (sum(getattr(marker, name) for marker in markers) for name in ("squared_error", "squared_states"))
    largest = max((marker.largest_error for marker in markers), default=0.0)
    return largest, math.sqrt(error / states) if states else 0.0
