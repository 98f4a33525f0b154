"""Names of clips and speakers in other people's files: which rows of a corpus they mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import final

from emonet.audio import AUDIO
from emonet.clips import AudioRange, Clip, person


@final
class ClipNames:
    """Finds clips by their ids or files, speakers by theirs.

    A file is found by the end of its path, whatever its suffix: `downloads/x/Actor_01/03-01.wav` means the clip whose
    path, or id, agrees in most folders from the end.

    Args:
        clips: of a corpus, in its order.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        self._places: dict[str, set[tuple[int, tuple[str, ...]]]] = defaultdict(set)
        self._speakers: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, clip in enumerate(clips):
            files = [str(clip.audio)] if isinstance(clip.audio, Path) else []
            if isinstance(clip.audio, AudioRange) and not clip.audio.start:
                files = [clip.audio.location]
            for name in (clip.id, *files):
                parts = parts_of(name)
                self._places[parts[-1]].add((row, parts))
            known = person(clip.speaker)
            for spelling in {known, known.rpartition("/")[2]}:
                self._speakers[person(spelling)][known].append(row)

    def clips(self, name: str) -> list[int]:
        """Rows of the clips that a name means: several where it names a recording that was cut into clips.

        Returns:
            No rows where no clip is meant, or different recordings are.
        """
        wanted = parts_of(name)
        near: dict[int, list[int]] = defaultdict(list)
        for row, parts in self._places.get(wanted[-1], ()):
            near[_agreeing(wanted, parts)].append(row)
        rows = sorted(set(near[max(near)])) if near else []
        one = {self._clips[row].id if isinstance(clip := self._clips[row].audio, bytes) else str(clip) for row in rows}
        return rows if len(one) == 1 else []

    def speaker(self, name: str) -> list[int]:
        """Rows of the one speaker whom a name means, with or without the corpus before it; else none."""
        found = self._speakers.get(person(name), {})
        return next(iter(found.values())) if len(found) == 1 else []


def parts_of(name: str) -> tuple[str, ...]:
    """Folders and name of a clip or file, without a suffix of audio; one part at least."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = path.with_suffix("").parts if path.suffix.lower() in AUDIO else path.parts
    return parts or ("",)


def _agreeing(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts are the same, from the end."""
    count = 0
    for mine, its in zip(reversed(one), reversed(other), strict=False):
        if mine != its:
            break
        count += 1
    return count
