"""Acted corpora: one emotion per clip, written in the file's name.

A label becomes scores for the prototype emotions of that corpus only: the acted one gets its intensity, the
prototypes of the other classes get 0, and every emotion that nobody acted stays unrated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from emonet.audio import READ
from emonet.clips import Clip, Corpus, Rejection, Sources, Split
from emonet.corpora.acted.copies import refuse_copies
from emonet.corpora.manifest import probed, require_clips
from emonet.errors import RequestError
from emonet.names import as_text
from emonet.runtime import Progress, Walk, ignore, walk
from emonet.targets import EMOTIONS, TargetSpec

Known = TypeVar("Known")


class UnknownNameError(ValueError):
    """A file name is not one of the corpus; its message is the reason."""


def known(what: str, value: str, table: Mapping[str, Known]) -> Known:
    """What a part of a file's name stands for.

    Args:
        what: it names, e.g. `speaker`.
        value: as the name has it.
        table: all that there are.

    Raises:
        UnknownNameError: if it is none of them.
    """
    if value not in table:
        raise UnknownNameError(f"{what} {value} is none of {', '.join(table)}")
    return table[value]


@dataclass(frozen=True, slots=True)
class Label:
    """What a file name says.

    Args:
        speaker: e.g. `actor-01`; the corpus' kind is put before it.
        split: the speaker's split.
        label: the acted class, one of the format's.
        score: of its prototype, 0 to 4.
    """

    speaker: str
    split: Split
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class ActedFormat:
    """How one acted corpus names its files.

    Args:
        kind: the word in the spec, e.g. `ravdess`, and the prefix of ids and speakers.
        language: ISO 639-1 code.
        classes: label of each acted class -> id of its prototype; None for neutral.
        read_name: file name without suffix -> label; raises `UnknownNameError` with the reason.
        note: what every report of this corpus shows.
        source: how a user gets it.
    """

    kind: str
    language: str
    classes: Mapping[str, str | None]
    read_name: Callable[[str], Label]
    note: str
    source: str

    @property
    def prototypes(self) -> tuple[str, ...]:
        """Ids of the emotions that were acted."""
        return tuple(emotion for emotion in self.classes.values() if emotion is not None)


def open_acted(
    layout: ActedFormat,
    folder: Path,
    *,
    targets: TargetSpec = EMOTIONS,
    sources: Sources | None = None,
    progress: Progress = ignore,
) -> Corpus:
    """Open a folder of audio files, at any depth, by any suffix that is read, in any case.

    Args:
        layout: how the files are named.
        folder: where they are.
        targets: what the corpus is for; a prototype that is none of them is left out.
        sources: hears of the files that the corpus is made of.
        progress: told about clips.

    Raises:
        RequestError: if the folder is missing, holds no audio or no usable clip, or holds a clip twice.
    """
    if not folder.is_dir():
        raise RequestError(
            f"the folder of the corpus {layout.kind!r} does not exist",
            where=folder.absolute(),
            expected="a folder with .wav or .flac files",
            found="a file" if folder.exists() else "no such path",
            hint=layout.source,
        )
    if sources is not None:
        sources.add_folder(folder)
    found = walk(folder)
    files = _audio_files(layout, folder, found)
    refuse_copies(files, folder)
    drafts: list[Clip] = []
    rated = EMOTIONS.also_in(targets)
    strangers = [Rejection(as_text(place.relative_to(folder)), reason) for place, reason in found.closed]
    for file in files:
        try:
            drafts.append(_draft(layout, file, rated))
        except UnknownNameError as error:
            strangers.append(Rejection(as_text(file.relative_to(folder)), str(error)))
    clips, unreadable = probed(drafts, sources=sources, progress=progress)
    rejected = (*strangers, *unreadable)
    require_clips(clips, rejected, folder, hint=layout.source)
    name = f"{layout.kind}:{as_text(folder)}"
    return Corpus(
        name,
        clips,
        rejected,
        targets=targets,
        note=layout.note,
        passed_over=found.passed_over(READ),
        classes={label: emotion for label, emotion in layout.classes.items() if emotion is None or emotion in rated},
    )


def _audio_files(layout: ActedFormat, folder: Path, found: Walk) -> tuple[Path, ...]:
    files = found.ending_in(READ)
    if not files:
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over(READ).items())
        raise RequestError(
            f"the folder of the corpus {layout.kind!r} holds no audio",
            where=folder.absolute(),
            expected="files named *.wav or *.flac, say, at any depth",
            found=f"{len(found.files)} other files, such as {as_text(found.files[0].name)} ({others})"
            if found.files
            else "an empty folder",
            hint=layout.source,
        )
    return files


def _draft(layout: ActedFormat, file: Path, rated: Collection[str]) -> Clip:
    label = layout.read_name(file.stem)
    acted = layout.classes[label.label]
    return Clip(
        id=f"{layout.kind}/{file.stem}",
        audio=file,
        speaker=f"{layout.kind}/{label.speaker}",
        split=label.split,
        language=layout.language,
        scores={name: label.score if name == acted else 0.0 for name in layout.prototypes if name in rated},
        label=label.label,
    )
