"""Report of an extraction; light to import, for those that only read it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cache.extraction.throughput import Speed
from emonet.clips import Rejection
from emonet.configs import CodecTier, EncoderPrecision, Pool
from emonet.corpora import NOTHING_HEARD, SoundReport
from emonet.schema import Schema


class NodeShare(Schema):
    """What a node of a cluster did in an extraction."""

    workers: int
    """That have finished shards there (count)."""
    clips: int
    """Extracted there, readable or not (count)."""
    clips_per_second: float = Field(ge=0)
    """Of them, while its workers were there."""


class ExtractionReport(Schema):
    """What an extraction made."""

    complete: bool
    """Whether every shard of the store is there; False after one part of several."""
    clips: int
    """Clips of the corpus, readable or not (count)."""
    failed: int
    """Clips of the finished shards that could not be read (count)."""
    failures: tuple[Rejection, ...]
    """Which, and why."""
    shape: tuple[int, int, int]
    """Clips, what is kept of each (states, or the four statistics of a pooled store), width."""
    bytes_raw: int
    """Size of the states in the finished shards before compression (bytes)."""
    bytes_stored: int
    """Size of the finished shards on disk (bytes)."""
    codec: CodecTier
    """How states are stored."""
    pool: Pool = "none"
    """What is kept of the states: all (none), or statistics over those that hear the clip."""
    kept: Literal["all", "speech"] = "all"
    """Which states are stored: all, or those that hear the clip."""
    largest_error: float = Field(ge=0)
    """Largest difference between a state as computed and as it reads; 0 where nothing is lost."""
    rms_error: float = Field(ge=0)
    """Root mean square of these differences as a share of that of the states; 0 where nothing is lost."""
    seconds: float = Field(ge=0)
    """How long this run took (seconds)."""
    clips_per_second: float = Field(ge=0)
    """Clips that this run extracted, per second; 0 if they were all there."""
    encoder_tflops: float = Field(ge=0)
    """Of this run's encoder while it ran (TFLOP/s)."""
    encoder_share: float = Field(ge=0, le=1)
    """Of the time from the first clip to the last, that in which the encoder computed (0 to 1)."""
    megabytes_per_second: float = Field(ge=0)
    """Written by this run in that time (MB/s)."""
    extracted: int = 0
    """Clips that this run extracted, readable or not (count)."""
    batch_size: int
    """Clips per pass of the encoder (count)."""
    precision: EncoderPrecision
    """Arithmetic of the encoder."""
    workers: int
    """Processes that decoded audio (count)."""
    fingerprint: str
    """SHA-256 over what the store was made from and what it holds; empty while it is not complete."""
    sounds: SoundReport = NOTHING_HEARD
    """What was heard of the clips in the finished shards."""
    lost: tuple[str, ...] = ()
    """Workers that ended early and nodes that were left out, and why; the others did their work."""
    nodes: dict[str, NodeShare] = Field(default_factory=dict)
    """Of a Ray cluster: node -> what it did."""


def speed_fields(speed: Speed, seconds: float) -> dict[str, Any]:
    """The fields of a report that say how fast a run of so many seconds was."""
    return {
        "extracted": speed.clips,
        "seconds": round(seconds, 3),
        "clips_per_second": round(speed.clips / seconds, 3),
        "encoder_tflops": float(f"{speed.tflops:.4g}"),
        "encoder_share": round(speed.share, 4),
        "megabytes_per_second": round(speed.megabytes_per_second, 3),
    }
