"""Batches of pieces: scored in one pass each, and journalled before the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Float32

from emonet.timelines.cutting import Piece
from emonet.timelines.journal import Entry, Journal
from emonet.timelines.speech import Span

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline

BATCH = 8  # segments per pass through the encoder; the first passes have fewer, so that something is there soon
DIGITS = 5  # of scores: what is behind them is noise of the arithmetic
Samples = Float32[np.ndarray, " samples"]
WriteCaptions = Callable[[Sequence[Samples]], Sequence[str]]
EmbedVoice = Callable[[Samples], np.ndarray]


@final
class Recent:
    """The last samples of a stream, as far back as they are needed."""

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)
        self._start = 0

    @property
    def end(self) -> int:
        """How many samples have streamed by."""
        return self._start + len(self._samples)

    def add(self, samples: Samples, needed_from: int) -> None:
        """Go on with these samples; those before `needed_from` are forgotten."""
        kept = self._samples[max(0, min(needed_from, self.end) - self._start) :]
        self._start = self.end - len(kept)
        self._samples = np.concatenate([kept, samples])

    def take(self, span: Span) -> Samples:
        """A copy of these samples."""
        assert self._start <= span.start < span.end <= self.end, (self._start, span, self.end)
        return self._samples[span.start - self._start : span.end - self._start].copy()


@final
class BatchScorer:
    """Scores pieces as they come; those that a journal has are not scored again.

    Args:
        pipeline: the model.
        journal: keeps what is scored.
        batch_size: pieces per pass (count).
        captions: writes captions of sounds, if they are wanted.
        embed_voice: makes embeddings of voices, if speakers are told apart by them.
        tell: called with each batch's entry, those of the journal as well.
    """

    def __init__(
        self,
        pipeline: EmotionPipeline,
        journal: Journal | None,
        *,
        batch_size: int,
        captions: WriteCaptions | None,
        embed_voice: EmbedVoice | None,
        tell: Callable[[Entry], None],
    ) -> None:
        self._pipeline, self._journal, self._captions, self._tell = pipeline, journal, captions, tell
        self._embed_voice = embed_voice
        self._batch_size, self._size = batch_size, 1
        self._known = list(journal.entries) if journal is not None else []
        self._waiting: list[tuple[list[Any], Samples]] = []
        self.entries: list[Entry] = []

    def add(self, piece: Piece, channel: int | None, samples: Samples) -> None:
        """Score a piece, with others or at once."""
        self._waiting.append(([piece.span.start, piece.span.end, piece.speaker, piece.text, channel], samples))
        while self._known and len(self._waiting) >= len(self._known[0]["pieces"]):
            self._recall()
        if not self._known and len(self._waiting) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Score what waits: there is no more to come soon."""
        if self._known and self._waiting:
            self._forget()
        while self._waiting:
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            entry = self._scored(batch)
            if self._journal is not None:
                self._journal.append(entry)
            self._keep(entry)

    def _recall(self) -> None:
        entry = self._known.pop(0)
        count = len(entry["pieces"])
        if [piece for piece, _ in self._waiting[:count]] != entry["pieces"]:
            self._known.insert(0, entry)
            self._forget()
            return
        self._waiting = self._waiting[count:]
        self._keep(entry)

    def _forget(self) -> None:
        """What the journal goes on with are no pieces of this recording as it is heard now."""
        self._known = []
        if self._journal is not None:
            self._journal.cut(self.entries)

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._size = min(2 * self._size, self._batch_size)
        self._tell(entry)

    def _scored(self, batch: Sequence[tuple[list[Any], Samples]]) -> Entry:
        sounds = [samples for _, samples in batch]
        found = self._pipeline.score_samples(sounds)
        entry: dict[str, Any] = {
            "pieces": [piece for piece, _ in batch],
            "scores": [[round(score, DIGITS) for score in one.scores.values()] for one in found],
        }
        if any(one.uncertainties for one in found):
            entry["uncertainties"] = [
                {name: round(width, DIGITS) for name, width in one.uncertainties.items()} for one in found
            ]
        distances = [one.unfamiliarity for one in found]
        if any(distance is not None for distance in distances):
            entry["unfamiliarity"] = [None if one is None else round(one, DIGITS) for one in distances]
        if self._embed_voice is not None:
            entry["voices"] = [[round(float(x), DIGITS) for x in self._embed_voice(sound)] for sound in sounds]
        if self._captions is not None:
            entry["captions"] = list(self._captions(sounds))
        return entry
