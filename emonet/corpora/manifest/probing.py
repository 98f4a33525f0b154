"""Probe the headers of all audio files: how long each clip is, and which cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emonet.audio import OVERRUN, SHORTEST, AudioInfo, Excerpt, shared_decoders, too_short
from emonet.clips import Audio, Clip, ClipColumns, Clips, Rejection, Sources
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore


def probed(
    clips: Sequence[Clip], *, sources: Sources | None = None, progress: Progress = ignore
) -> tuple[Clips, tuple[Rejection, ...]]:
    """Fill in `seconds` from the headers; clips whose audio cannot be used come back as rejections.

    Args:
        clips: clips whose `seconds` are not known yet.
        sources: hears of the files.
        progress: told about files.

    Returns:
        The usable clips, in order, and the others with their reasons.
    """
    columns = clips.columns if isinstance(clips, Clips) else ClipColumns.of(clips)
    if sources is not None:
        sources.add_recordings(columns.audio.location.present())
    numbers: dict[Audio, int] = {}
    number = np.array([numbers.setdefault(one, len(numbers)) for one in columns.audio.values()], np.int64)
    lengths = np.full(len(numbers), np.nan)
    reasons: dict[int, str] = {}
    progress(0, len(numbers))
    for place, info in enumerate(shared_decoders().probe(map(Excerpt, numbers))):
        if isinstance(info, AudioInfo):
            lengths[place] = info.seconds
        else:
            reasons[place] = info.reason
        progress(place + 1, len(numbers))
    seconds, doubtful = _parts(columns, lengths[number])
    doubtful |= np.isin(number, np.array([*reasons], np.int64))
    rejected = _refused(columns, np.flatnonzero(doubtful), number, lengths, reasons)
    usable = columns.take(np.setdiff1d(np.arange(len(columns)), [*rejected])) if rejected else columns
    seconds = np.delete(seconds, [*rejected]) if rejected else seconds
    return Clips(replace(usable, seconds=seconds)), tuple(rejected.values())


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


def _parts(columns: ClipColumns, lengths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Seconds of the parts of recordings that the clips are, and where something may be wrong with them."""
    starts, ends = (np.asarray(times, np.float64) for times in (columns.start, columns.end))
    starts, ends = np.nan_to_num(starts), np.where(np.isnan(ends), lengths, ends)
    seconds = np.where(lengths < ends, lengths, ends) - starts
    return seconds, (starts >= lengths) | (ends > lengths + OVERRUN) | (seconds < SHORTEST)


def _refused(
    columns: ClipColumns,
    rows: NDArray[np.int64],
    number: NDArray[np.int64],
    lengths: NDArray[np.float64],
    reasons: dict[int, str],
) -> dict[int, Rejection]:
    """Row -> why its clip cannot be used, of those with which something is wrong."""
    found = {}
    for row, clip in zip(rows.tolist(), columns.clips(rows), strict=True):
        place = int(number[row])
        found[row] = Rejection(clip.id, reasons.get(place) or _why(clip, float(lengths[place])))
    return found


def _why(clip: Clip, length: float) -> str:
    """Why there is no such part of a recording."""
    start, end = clip.start or 0.0, length if clip.end is None else clip.end
    if start >= length:
        return f"starts at {start:g} s, but the audio has {length:.2f} s"
    if end > length + OVERRUN:
        return f"ends at {end:g} s, but the audio has {length:.2f} s"
    return too_short(min(end, length) - start)
