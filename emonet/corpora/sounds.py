"""Sound of a corpus: what listening to its clips tells, and which of them are copies of each other."""

from __future__ import annotations

import math
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
    """Gathers what was heard of clips, in the order of the corpus.

    Args:
        name: of the corpus, for messages.
    """

    name: str
    _listened: int = 0
    _total: float = 0.0
    _heard: float = 0.0
    _odd: dict[NoticeKind, list[tuple[str, str]]] = field(default_factory=dict)
    _first: dict[str, tuple[str, Split]] = field(default_factory=dict)
    _alike: dict[str, list[tuple[str, Split]]] = field(default_factory=dict)  # only those of which there are several
    _unreadable: list[Rejection] = field(default_factory=list)

    def add(self, clip: Clip, *, content: str | None, seconds: float, notices: Iterable[Notice]) -> None:
        """Take note of a clip.

        Args:
            clip: what was decoded.
            content: the same for clips of the same samples (`Decoded.content`); None where it is not known.
            seconds: how much of it was heard, in seconds.
            notices: what is odd about it.
        """
        self._listened += 1
        self._heard += seconds
        self._total += seconds if math.isnan(clip.seconds) else max(seconds, clip.seconds)
        for notice in notices:
            self._odd.setdefault(notice.kind, []).append((clip.id, notice.text))
        if content is not None:
            own = clip.id, clip.split
            first = self._first.setdefault(content, own)
            if first is not own:
                self._alike.setdefault(content, [first]).append(own)

    def refuse(self, clip: Clip, reason: str) -> None:
        """Take note of a clip that cannot be used."""
        self._unreadable.append(Rejection(clip.id, reason))

    def require_apart(self) -> None:
        """Check that no sound is in two splits.

        Raises:
            RequestError: if one is; names the clips.
        """
        refuse_copies(self.name, self._copies(leaking=True))

    def report(self) -> SoundReport:
        """All that was gathered."""
        return SoundReport(
            listened=self._listened,
            hours=round(self._total / 3600, 4),
            hours_heard=round(self._heard / 3600, 4),
            notices=tuple(
                SoundNotices(kind=kind, clips=len(found), example=found[0][1], ids=tuple(i for i, _ in found[:SHOWN]))
                for kind, found in self._odd.items()
            ),
            unreadable=tuple(self._unreadable),
            copies=tuple(tuple(name for name, _ in clips) for clips in self._copies(leaking=False)),
            leaks=tuple(tuple(map(_with_split, clips)) for clips in self._copies(leaking=True)),
        )

    def _copies(self, *, leaking: bool) -> list[list[tuple[str, Split]]]:
        return [clips for clips in self._alike.values() if (len({split for _, split in clips}) > 1) == leaking]


def _with_split(clip: tuple[str, Split]) -> str:
    return f"{clip[0]} ({clip[1]})"


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
    clips, sounds = [corpus.clips[row] for row in rows], Sounds(corpus.name)
    progress(0, len(clips))
    heard = shared_decoders().decode(clips, seconds=window.seconds)
    for done, (clip, sound) in enumerate(zip(clips, heard, strict=True), 1):
        if isinstance(sound, Decoded):
            sounds.add(clip, content=sound.content, seconds=sound.seconds, notices=sound.notices)
        else:
            sounds.refuse(clip, sound.reason)
        progress(done, len(clips))
    return sounds.report()
