"""Parts of recordings, however long, scored as the mean over equal windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64

from emonet.audio import ALL_SILENT, AudioInfo, Decoded, Excerpt, shared_decoders, stream_blocks
from emonet.clips import Audio
from emonet.errors import AudioError
from emonet.runtime import Progress

if TYPE_CHECKING:
    from emonet.inference.processing import FileProcessing

BATCH = 8  # windows per pass through the encoder
SLACK = 0.05  # seconds beyond the window that are not worth another one
LONG = 60.0  # seconds; what is longer streams by


@dataclass(frozen=True, slots=True)
class _Part:
    """What a row is about.

    Args:
        row: from 0.
        excerpt: of the recording.
        count: windows that it is cut into.
        seconds: from one window to the next.
    """

    row: int
    excerpt: Excerpt
    count: int
    seconds: float

    @property
    def is_long(self) -> bool:
        """Whether it is streamed: held in memory it would be large, and decoded window by window slow."""
        return self.count > 1 and self.count * self.seconds > LONG


class PartScores:
    """Scores of excerpts: means over the windows of each.

    Args:
        scorer: scores sounds.
        excerpts: in the order of the rows.

    Attributes:
        errors: row -> why it cannot be used, once it is heard.
        lengths: recording -> its seconds, as far as that is known.
    """

    def __init__(self, scorer: FileProcessing, excerpts: Sequence[Excerpt]) -> None:
        self._scorer = scorer
        self._excerpts = excerpts
        self._window = scorer.encoder.window.seconds
        self._sums = np.zeros((len(excerpts), len(scorer.targets)))
        self._heard = np.zeros(len(excerpts))  # samples
        self.errors: dict[int, AudioError] = {}
        self.lengths: dict[Audio, float] = {}

    def means(self) -> Float64[np.ndarray, "rows targets"]:
        """Scores of each excerpt; NaN where it cannot be used."""
        heard = self._heard.copy()
        heard[list(self.errors)] = 0
        return np.divide(self._sums, heard[:, None], out=np.full_like(self._sums, np.nan), where=heard[:, None] > 0)

    def score(self, progress: Progress) -> None:
        """Hear all windows."""
        parts = list(self._parts())
        done, total = 0, sum(part.count for part in parts)
        progress(0, total)
        windows = self._windows(parts)
        while batch := list(islice(windows, BATCH)):
            scored = self._scorer.score_samples([samples for _, samples in batch])
            for (row, samples), one in zip(batch, scored, strict=True):
                self._sums[row] += len(samples) * np.array([one.scores[target] for target in self._scorer.targets])
                self._heard[row] += len(samples)
            done += len(batch)
            progress(min(done, total), total)
        for part in parts:
            if not self._heard[part.row] and part.row not in self.errors:
                self.errors[part.row] = self._named(part.row, AudioError(ALL_SILENT))
        self.errors = dict(sorted(self.errors.items()))
        if done != total:  # windows of silence, and recordings that cannot be used, have no scores
            progress(total, total)

    def _parts(self) -> Iterator[_Part]:
        """What there is to hear; what has no length is noted."""
        files = list(dict.fromkeys(one.audio for one in self._excerpts))
        infos = dict(zip(files, shared_decoders().probe(map(Excerpt, files)), strict=True))
        self.lengths = {file: info.seconds for file, info in infos.items() if isinstance(info, AudioInfo)}
        for row, one in enumerate(self._excerpts):
            info = infos[one.audio]
            if isinstance(info, AudioError):
                self.errors[row] = self._named(row, info)
                continue
            begin = one.start or 0.0
            stop = min(math.inf if one.end is None else one.end, math.inf if math.isnan(info.seconds) else info.seconds)
            if stop == math.inf:
                what = "how long the recording is, it does not say"
                self.errors[row] = self._named(row, AudioError(what, hint="give an end"))
                continue
            count = max(1, math.ceil((stop - begin - SLACK) / self._window))
            yield _Part(row, one, count, (stop - begin) / count)

    def _windows(self, parts: Sequence[_Part]) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
        """Row and samples of each window that sounds; what cannot be used is noted."""
        short = (part.excerpt for part in parts if not part.is_long)
        heard = shared_decoders().decode(short, seconds=LONG, ahead=2 * BATCH)
        for part in parts:
            try:
                sounds = _streamed(part) if part.is_long else _cut(next(heard), part.count)
                yield from ((part.row, samples) for samples in sounds if samples.min() < samples.max())
            except AudioError as error:
                self.errors[part.row] = self._named(part.row, error)

    def _named(self, row: int, error: AudioError) -> AudioError:
        return AudioError(error.what, where=self._excerpts[row].audio, hint=error.hint)


def _cut(sound: Decoded | AudioError, count: int) -> list[Float32[np.ndarray, " samples"]]:
    """So many equal windows.

    Raises:
        AudioError: if there is no sound.
    """
    if isinstance(sound, AudioError):
        raise sound
    return np.array_split(sound.samples, count)


def _streamed(part: _Part) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Equal windows of a long part, while the recording streams by once.

    Raises:
        AudioError: if it cannot be used; windows before the place are given out.
    """
    start = part.excerpt.start or 0.0
    with closing(stream_blocks(part.excerpt.audio, seconds=part.seconds, start=start)) as blocks:
        yield from (block.samples for block in islice(blocks, part.count))
