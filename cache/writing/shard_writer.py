"""One shard while its clips come in: compressed at once in other threads, written when it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float16

from cache.store import SCALES, STATES, TIERS, Encoded, ExtractionRecord, ShardMarker
from emonet.audio import Notice, NoticeKind
from emonet.errors import EmonetError


@dataclass(frozen=True, slots=True)
class StoredClip:
    """One clip, ready to be written.

    Args:
        chunk: of the array `states`.
        scales: of the array `scales`, for tiers that have one.
        digest: SHA-256 of the states as they read.
        largest_error: between the states as computed and as they read.
        squared_error: sum of the squares of these differences.
        squared_states: sum of the squares of the states as computed; both 0 where nothing is lost.
    """

    chunk: bytes
    scales: bytes | None
    digest: bytes
    largest_error: float = 0.0
    squared_error: float = 0.0
    squared_states: float = 0.0


@final
class ClipCodec:
    """Turns a clip's states into what a store keeps of them.

    Args:
        record: of the store; says the tier, and which states are kept.
        silence: what those that are not kept read as; None where all are kept.
    """

    def __init__(self, record: ExtractionRecord, silence: Float16[np.ndarray, "frames width"] | None) -> None:
        self._tier = TIERS[record.codec]
        self._record = record
        self._silence = silence

    def encode(self, states: Float16[np.ndarray, "frames width"], seconds: float) -> StoredClip:
        """Compress a clip, and measure what is lost.

        Args:
            states: as computed.
            seconds: audio heard of the clip, in seconds.
        """
        encoded = self._encode(states, seconds)
        digest = clip_digest(encoded.restored)
        if encoded.restored is states:
            return StoredClip(encoded.chunk, encoded.scales, digest)
        computed = states.astype(np.float64)
        difference = np.abs(encoded.restored - computed)
        return StoredClip(
            encoded.chunk,
            encoded.scales,
            digest,
            largest_error=float(difference.max()),
            squared_error=float(np.square(difference).sum()),
            squared_states=float(np.square(computed).sum()),
        )

    def _encode(self, states: Float16[np.ndarray, "frames width"], seconds: float) -> Encoded:
        if self._silence is None:
            return self._tier.encode(states)
        heard = self._record.speech_frames(seconds)
        kept = states.copy()
        kept[heard:] = 0  # takes next to no space; reading puts the silence there
        encoded = self._tier.encode(kept)
        restored = encoded.restored.copy()
        restored[heard:] = self._silence[heard:]
        return Encoded(encoded.chunk, encoded.scales, restored)


@final
class ShardSink:
    """Takes the clips of one shard as they come; made by `StoreWriter.begin`.

    Holds them compressed until they are written: at most the shard's own size before compression.

    Args:
        shard: its position, from 0.
        record: of the store.
        codec: compresses a clip.
        pool: the threads that do so.
        commit: called with this sink when it is whole.
    """

    def __init__(
        self,
        shard: int,
        record: ExtractionRecord,
        codec: ClipCodec,
        pool: Executor,
        commit: Callable[[ShardSink], None],
    ) -> None:
        self.shard = shard
        self.rows = record.rows(shard)
        self._record = record
        self._codec = codec
        self._pool = pool
        self._commit = commit
        self._clips: dict[int, Future[StoredClip]] = {}
        self._seconds: dict[int, float] = {}
        self._contents: dict[int, str] = {}
        self._notices: dict[int, tuple[tuple[NoticeKind, str], ...]] = {}
        self._failures: dict[int, str] = {}

    def put(
        self,
        position: int,
        states: Float16[np.ndarray, "frames width"],
        seconds: float,
        *,
        content: str | None = None,
        notices: Sequence[Notice] = (),
    ) -> None:
        """Compress a clip's states in the background; they must not be changed afterwards.

        Args:
            position: in the shard, from 0.
            states: float16 (frames, width).
            seconds: audio heard, in seconds.
            content: digest of the clip's samples.
            notices: what is odd about its sound.

        Raises:
            EmonetError: if the states do not fit the store; that some are not finite, the commit will tell.
        """
        expected = self._record.shape[1:]
        if states.shape != expected or states.dtype != np.float16 or position not in range(len(self.rows)):
            found = f"{states.dtype} {states.shape} at position {position}"
            raise EmonetError("the states do not fit the shard", expected=f"float16 {expected}", found=found)
        self._seconds[position] = seconds
        if content is not None:
            self._contents[position] = content
        if notices:
            self._notices[self.rows[position]] = tuple((notice.kind, notice.text) for notice in notices)
        self._clips[position] = self._pool.submit(self._encode, self.rows[position], states, seconds)

    def fail(self, position: int, reason: str) -> None:
        """Note that a clip has no states, and why."""
        self._failures[self.rows[position]] = reason

    def commit(self) -> None:
        """Write the shard in the background; waits while two others are being written.

        Raises:
            EmonetError: if clips are missing, or an earlier shard could not be written.
        """
        known = len(self._clips) + len(self._failures)
        if known != len(self.rows):
            raise EmonetError("the shard is not complete", expected=f"{len(self.rows)} clips", found=known)
        self._commit(self)

    def _encode(self, row: int, states: Float16[np.ndarray, "frames width"], seconds: float) -> StoredClip:
        if _has_infinite(states):
            raise EmonetError("states that are to be stored are not finite", where=f"row {row}")
        return self._codec.encode(states, seconds)

    def store(self, put: Callable[[int, str, Sequence[bytes | None]], int]) -> ShardMarker:
        """Write the shard of each array.

        Args:
            put: writes the chunks of a shard of an array whole; gives its size in bytes.

        Returns:
            The marker that makes them count.

        Raises:
            EmonetError: if a state is not finite.
        """
        stored = {position: clip.result() for position, clip in self._clips.items()}
        room = range(self._record.shard_clips)
        size = 0
        for array in (STATES, SCALES) if TIERS[self._record.codec].scaled else (STATES,):
            size += put(self.shard, array, [_part(stored.get(position), array) for position in room])
        clips = [stored[position] for position in sorted(stored)]
        return ShardMarker(
            shard=self.shard,
            seconds=tuple(self._seconds.get(position) for position in range(len(self.rows))),
            failures=dict(sorted(self._failures.items())),
            stored_bytes=size,
            digest=joined_digest([clip.digest for clip in clips]),
            largest_error=max((clip.largest_error for clip in clips), default=0.0),
            squared_error=sum(clip.squared_error for clip in clips),
            squared_states=sum(clip.squared_states for clip in clips),
            contents=tuple(self._contents.get(position) for position in range(len(self.rows))),
            notices=dict(sorted(self._notices.items())),
        )


def clip_digest(states: Float16[np.ndarray, "frames width"]) -> bytes:
    """SHA-256 over a clip's states as float16, little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(states, "<f2").data).digest()


def joined_digest(digests: list[bytes]) -> str:
    """SHA-256 in hex over the clips' own, in order: what a marker keeps."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _has_infinite(states: Float16[np.ndarray, "frames width"]) -> bool:
    """Whether an exponent is full, as of infinities and NaN: four times as fast as `np.isfinite`."""
    return bool(((states.view(np.uint16) & 0x7C00) == 0x7C00).any())


def _part(clip: StoredClip | None, array: str) -> bytes | None:
    if clip is None:
        return None
    return clip.chunk if array == STATES else clip.scales
