"""Probe the headers of all audio files: how long each clip is, and which cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emonet.audio import SHORTEST, AudioInfo, Excerpt, shared_decoders, too_short
from emonet.clips import Clip, Rejection
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore

OVERRUN = 0.1  # seconds that a part may end after its audio: times in tables are rounded


def probed(clips: Sequence[Clip], *, progress: Progress = ignore) -> tuple[tuple[Clip, ...], tuple[Rejection, ...]]:
    """Fill in `seconds` from the headers; clips whose audio cannot be used come back as rejections.

    Args:
        clips: clips whose `seconds` are not known yet.
        progress: told about clips.

    Returns:
        The usable clips, in order, and the others with their reasons.
    """
    files = list(dict.fromkeys(clip.audio for clip in clips))
    lengths: dict[Path | bytes, float | str] = {}
    progress(0, len(files))
    for audio, info in zip(files, shared_decoders().probe(map(Excerpt, files)), strict=True):
        lengths[audio] = info.seconds if isinstance(info, AudioInfo) else info.reason
        progress(len(lengths), len(files))
    usable, rejected = [], []
    for clip in clips:
        length = lengths[clip.audio]
        seconds = length if isinstance(length, str) else _part(clip, length)
        if isinstance(seconds, str):
            rejected.append(Rejection(clip.id, seconds))
        else:
            usable.append(replace(clip, seconds=seconds))
    return tuple(usable), tuple(rejected)


def require_clips(clips: Sequence[Clip], rejected: Sequence[Rejection], where: object, hint: str | None = None) -> None:
    """Refuse a corpus of which nothing is left.

    Raises:
        RequestError: if `clips` is empty; it shows the first reasons.
    """
    if not clips:
        shown = "; ".join(f"{rejection.id}: {rejection.reason}" for rejection in rejected[:3])
        raise RequestError(
            "the corpus holds no usable clip",
            where=where,
            expected="at least one",
            found=f"{len(rejected)} rejected ({shown})" if rejected else "none",
            hint=hint,
        )


def _part(clip: Clip, length: float) -> float | str:
    """Seconds of the part of a recording that the clip is, or the reason why there is no such part."""
    start, end = clip.start or 0.0, length if clip.end is None else clip.end
    if start >= length:
        return f"starts at {start:g} s, but the audio has {length:.2f} s"
    if end > length + OVERRUN:
        return f"ends at {end:g} s, but the audio has {length:.2f} s"
    seconds = min(end, length) - start
    return too_short(seconds) if seconds < SHORTEST else seconds
