"""The ledger of an extraction: clips that cannot be read and sounds that are alike, whoever heard them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from cache.store import ExtractionRecord, ShardMarker
from emonet.audio import Decoded, Notice
from emonet.clips import Corpus, Rejection
from emonet.configs import ExtractionConfig
from emonet.corpora import Sounds, packed_content, refuse_copies
from emonet.errors import AudioError, EmonetError


@final
class Ledger:
    """What is known of the corpus' clips so far.

    Args:
        corpus: its clips are the rows.
        config: says how many may fail, and whether the same sound may be in two splits.
    """

    def __init__(self, corpus: Corpus, config: ExtractionConfig) -> None:
        self._corpus = corpus
        self._most_failed = config.max_failed * len(corpus)
        self._failures: list[Rejection] = []
        self._of_sound: dict[bytes, int] | None = None if config.copies == "note" else {}  # content -> the first row

    def hear(self, rows: Sequence[int], clips: Sequence[Decoded | AudioError]) -> None:
        """Note clips that this process has heard.

        Raises:
            RequestError: if the same sound is in two splits.
            EmonetError: if too many clips cannot be read.
        """
        for row, heard in zip(rows, clips, strict=True):
            if isinstance(heard, AudioError):
                self._failures.append(Rejection(self._corpus.clips[row].id, heard.reason))
            else:
                self._require_apart(row, heard.content)
        self.check()

    def read(self, record: ExtractionRecord, marker: ShardMarker) -> None:
        """Note what another process has found in a shard.

        Raises:
            RequestError: if the same sound is in two splits.
        """
        self._failures += rejections(self._corpus, [marker])
        for row, content in zip(record.rows(marker.shard), marker.contents, strict=False):
            self._require_apart(row, content)

    def check(self) -> None:
        """Stop where too many clips cannot be read, though not where none can: that is told at the end.

        Raises:
            EmonetError: if they cannot.
        """
        if not self._most_failed < len(self._failures) < len(self._corpus):
            return
        raise failed(
            f"{len(self._failures)} of {len(self._corpus)} clips could not be read, and the run has stopped",
            self._corpus,
            self._failures,
            hint=(
                "mend the recordings and run the same command with --force, or leave them out with a larger "
                "--extraction.max-failed (0 to 1); finished shards are kept"
            ),
        )

    def _require_apart(self, row: int, content: str | None) -> None:
        """Refuse the same sound in two splits at once: the corpus must change, and with it the store."""
        if self._of_sound is None or content is None:
            return
        first, splits = self._of_sound.setdefault(packed_content(content), row), self._corpus.columns.split.codes
        if first != row and splits[first] != splits[row]:
            both = (self._corpus.clips[first], self._corpus.clips[row])
            refuse_copies(self._corpus.name, [[(clip.id, clip.split) for clip in both]])


def rejections(corpus: Corpus, markers: Iterable[ShardMarker]) -> list[Rejection]:
    """The clips without states in the shards of these markers, in order."""
    reasons = {row: reason for marker in markers for row, reason in marker.failures.items()}
    return [Rejection(corpus.clips[row].id, reason) for row, reason in sorted(reasons.items())]


def sounds_of(corpus: Corpus, record: ExtractionRecord, markers: Iterable[ShardMarker]) -> Sounds:
    """What was heard of the clips in the shards of these markers."""
    sounds = Sounds(corpus.name, corpus.clips)
    for marker in markers:
        rows, contents = record.rows(marker.shard), marker.contents or [None] * len(marker.seconds)
        clips = corpus.clips[rows.start : rows.stop]  # at once: one by one takes eight times as long
        for row, clip, seconds, content in zip(rows, clips, marker.seconds, contents, strict=True):
            if seconds is not None:
                notices = [Notice(*notice) for notice in marker.notices.get(row, ())]
                sounds.add(row, clip, content=content, seconds=seconds, notices=notices)
    return sounds


def failed(what: str, corpus: Corpus, failures: list[Rejection], *, hint: str) -> EmonetError:
    """Says how many clips could not be read, with the first reasons."""
    shown = [f"    - {failure.id}: {failure.reason}" for failure in failures[:5]]
    return EmonetError("\n".join([what, *shown]), where=corpus.name, hint=hint)
