"""Sound of a corpus: what listening to its clips tells, and which of them are copies of each other."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from emonet.audio import Decoded, Notice, NoticeKind, shared_decoders
from emonet.clips import Clip, Corpus, Rejection, Split
from emonet.errors import raise_collected
from emonet.runtime import Progress, ignore
from emonet.schema import Schema
from emonet.windows import Window

SHOWN = 3  # ids of an example
_Group = list[tuple[str, Split]]  # ids of clips, with their splits


class SoundNotices(Schema):
    """Clips of which the same kind of thing is to be said."""

    kind: NoticeKind
    """What kind."""
    clips: int = Field(ge=1)
    """Such clips (count)."""
    example: str
    """What is said of the first one."""
    ids: tuple[str, ...]
    """The first ones."""


class SoundReport(Schema):
    """What was heard of a corpus."""

    listened: int = Field(ge=0)
    """Clips that were decoded (count)."""
    hours: float = Field(ge=0)
    """Their length, where it is known (hours)."""
    hours_heard: float = Field(ge=0)
    """Of this, what the window leaves (hours)."""
    notices: tuple[SoundNotices, ...] = ()
    """What is odd about them."""
    unreadable: tuple[Rejection, ...] = ()
    """Clips whose header is right and whose sound cannot be used, with their reasons."""
    copies: tuple[tuple[str, ...], ...] = ()
    """Ids of clips of one split with the same samples, each with the others'."""
    leaks: tuple[tuple[str, ...], ...] = ()
    """The same where they are in several splits, which stand behind the ids."""


NOTHING_HEARD = SoundReport(listened=0, hours=0.0, hours_heard=0.0)


@dataclass
class Sounds:
    """Gathers what was heard of clips, in 24 bytes for each.

    Args:
        name: of the corpus, for messages.
        clips: all that may be heard.
    """

    name: str
    clips: Sequence[Clip]
    _listened: int = 0
    _total: float = 0.0
    _heard: float = 0.0
    _odd: dict[NoticeKind, _Odd] = field(default_factory=dict)
    _rows: array[int] = field(default_factory=lambda: array("q"))  # whose content is known
    _contents: bytearray = field(default_factory=bytearray)  # of these, `packed_content` one after the other
    _unreadable: list[Rejection] = field(default_factory=list)

    def add(self, row: int, clip: Clip, *, content: str | None, seconds: float, notices: Iterable[Notice]) -> None:
        """Take note of a clip that was decoded.

        Args:
            row: its place among the clips.
            clip: the one there.
            content: the same for clips of the same samples (`Decoded.content`); None where it is not known.
            seconds: how much of it was heard, in seconds.
            notices: what is odd about it.
        """
        self._listened += 1
        self._heard += seconds
        self._total += seconds if math.isnan(clip.seconds) else max(seconds, clip.seconds)
        for notice in notices:
            self._odd.setdefault(notice.kind, _Odd(notice.text)).count(clip.id)
        if content is not None:
            self._rows.append(row)
            self._contents += packed_content(content)

    def refuse(self, clip: Clip, reason: str) -> None:
        """Take note of a clip that cannot be used."""
        self._unreadable.append(Rejection(clip.id, reason))

    def require_apart(self) -> None:
        """Check that no sound is in two splits.

        Raises:
            RequestError: if one is; names the clips.
        """
        refuse_copies(self.name, self._copies()[1])

    def report(self) -> SoundReport:
        """All that was gathered."""
        copies, leaks = self._copies()
        return SoundReport(
            listened=self._listened,
            hours=round(self._total / 3600, 4),
            hours_heard=round(self._heard / 3600, 4),
            notices=tuple(
                SoundNotices(kind=kind, clips=odd.clips, example=odd.example, ids=tuple(odd.ids))
                for kind, odd in self._odd.items()
            ),
            unreadable=tuple(self._unreadable),
            copies=tuple(tuple(name for name, _ in clips) for clips in copies),
            leaks=tuple(tuple(map(_with_split, clips)) for clips in leaks),
        )

    def _copies(self) -> tuple[list[_Group], list[_Group]]:
        """Clips of the same content: those of one split, and those of several."""
        found: tuple[list[_Group], list[_Group]] = [], []
        for rows in self._alike():
            clips = [(clip.id, clip.split) for clip in map(self.clips.__getitem__, rows)]
            found[len({split for _, split in clips}) > 1].append(clips)
        return found

    def _alike(self) -> list[list[int]]:
        """Rows of the same content, in order, where there are several."""
        words = np.frombuffer(bytes(self._contents), np.uint64).reshape(-1, 2)
        order = np.lexsort(words.T)  # stable
        is_again = np.zeros(len(order) + 1, bool)
        is_again[1:-1] = (words[order[1:]] == words[order[:-1]]).all(axis=1)
        after, before = is_again[:-1], is_again[1:]
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for group, place in zip(np.cumsum(~after)[after | before], order[after | before], strict=True):
            groups[group].append(self._rows[place])
        return sorted(groups.values())


@dataclass
class _Odd:
    """Clips with a notice of one kind, of which few are shown, however many there are."""

    example: str
    clips: int = 0
    ids: list[str] = field(default_factory=list)

    def count(self, clip_id: str) -> None:
        self.clips += 1
        if len(self.ids) < SHOWN:
            self.ids.append(clip_id)


def _with_split(clip: tuple[str, Split]) -> str:
    return f"{clip[0]} ({clip[1]})"


def packed_content(content: str) -> bytes:
    """16 bytes for `Decoded.content`, whatever its form; an extraction remembers millions."""
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def refuse_copies(name: str, copies: Sequence[Sequence[tuple[str, Split]]]) -> None:
    """Refuse a corpus for clips of the same sound in several splits; nothing happens where there are none.

    Args:
        name: of the corpus.
        copies: the clips of each sound, by id and split.

    Raises:
        RequestError: if there are any.
    """
    raise_collected(
        f"the same sound is in two splits of the corpus {name!r}",
        [" = ".join(map(_with_split, clips[: SHOWN + 1])) for clips in copies],
        hint="leave copies out, or put them into one split (emonet corpus lists all); or --extraction.copies note",
    )


def contents(clips: Sequence[Clip], window: Window, progress: Progress = ignore) -> list[str | None]:
    """What is the same for clips of the same samples (`Decoded.content`); None for those that cannot be used.

    Args:
        clips: to decode.
        window: how much of each is heard.
        progress: told about clips.
    """
    found: list[str | None] = []
    progress(0, len(clips))
    for sound in shared_decoders().decode(clips, seconds=window.seconds):
        found.append(sound.content if isinstance(sound, Decoded) else None)
        progress(len(found), len(clips))
    return found


def listen(corpus: Corpus, most: int, window: Window, progress: Progress = ignore) -> SoundReport:
    """Decode clips, spread evenly over a corpus, for what is odd about their sound.

    Args:
        corpus: to listen to.
        most: clips to decode (count).
        window: how much of each is heard.
        progress: told about clips.
    """
    rows = np.unique(np.linspace(0, len(corpus) - 1, min(most, len(corpus))).round().astype(int))
    clips, sounds = [corpus.clips[row] for row in rows], Sounds(corpus.name, corpus.clips)
    progress(0, len(clips))
    heard = shared_decoders().decode(clips, seconds=window.seconds)
    for done, (row, clip, sound) in enumerate(zip(rows.tolist(), clips, heard, strict=True), 1):
        if isinstance(sound, Decoded):
            sounds.add(row, clip, content=sound.content, seconds=sound.seconds, notices=sound.notices)
        else:
            sounds.refuse(clip, sound.reason)
        progress(done, len(clips))
    return sounds.report()
