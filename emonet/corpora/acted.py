"""Acted corpora: one emotion per clip, written in the file's name.

A label becomes scores for the prototype emotions of that corpus only: the acted one gets its intensity, the
prototypes of the other classes get 0, and every emotion that nobody acted stays unrated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emonet.clips import Clip, Corpus, Rejection, Split
from emonet.corpora.probing import probed, require_clips
from emonet.errors import RequestError, raise_collected
from emonet.progress import Progress, silent

SUFFIXES = (".wav", ".flac")


class UnknownNameError(ValueError):
    """A file name is not one of the corpus; its message is the reason."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a file name says.

    Args:
        speaker: e.g. `actor-01`; the corpus' kind is put before it.
        split: the speaker's split.
        emotion: id of the acted prototype; None for neutral.
        score: its score, 0 to 4.
    """

    speaker: str
    split: Split
    emotion: str | None
    score: float


@dataclass(frozen=True, slots=True)
class ActedFormat:
    """How one acted corpus names its files.

    Args:
        kind: the word in the spec, e.g. `ravdess`, and the prefix of ids and speakers.
        language: ISO 639-1 code.
        prototypes: ids of the emotions that were acted.
        read_name: file name without suffix -> label; raises `UnknownNameError` with the reason.
        note: what every report of this corpus shows.
        source: how a user gets it.
    """

    kind: str
    language: str
    prototypes: tuple[str, ...]
    read_name: Callable[[str], Label]
    note: str
    source: str


def open_acted(layout: ActedFormat, folder: Path, *, progress: Progress = silent) -> Corpus:
    """Open a folder of `.wav` and `.flac` files, at any depth, in any case.

    Args:
        layout: how the files are named.
        folder: where they are.
        progress: told about clips.

    Raises:
        RequestError: if the folder is missing, holds no audio or no usable clip, or holds a clip twice.
    """
    files = _audio_files(layout, folder)
    _refuse_twins(files, folder)
    drafts: list[Clip] = []
    strangers: list[Rejection] = []
    for file in files:
        try:
            drafts.append(_draft(layout, file))
        except UnknownNameError as error:
            strangers.append(Rejection(file.relative_to(folder).as_posix(), str(error)))
    clips, unreadable = probed(drafts, progress=progress)
    rejected = (*strangers, *unreadable)
    require_clips(clips, rejected, folder, hint=layout.source)
    return Corpus(f"{layout.kind}:{folder}", clips, rejected, note=layout.note)


def _audio_files(layout: ActedFormat, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise RequestError(
            f"the folder of the corpus {layout.kind!r} does not exist",
            where=folder.absolute(),
            expected="a folder with .wav or .flac files",
            found="a file" if folder.exists() else "no such path",
            hint=layout.source,
        )
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    files = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not files:
        raise RequestError(
            f"the folder of the corpus {layout.kind!r} holds no audio",
            where=folder.absolute(),
            expected="files named *.wav or *.flac, at any depth",
            found=f"{len(paths)} other files, such as {paths[0].name}" if paths else "an empty folder",
            hint=layout.source,
        )
    return files


def _refuse_twins(files: list[Path], folder: Path) -> None:
    """The same clip twice, as .wav and .flac or in two folders, would count twice."""
    copies: dict[str, list[str]] = defaultdict(list)
    for file in files:
        copies[file.stem].append(file.relative_to(folder).as_posix())
    raise_collected(
        "clips are there more than once",
        [f"{stem}: {' and '.join(paths)}" for stem, paths in copies.items() if len(paths) > 1],
        where=folder,
        hint="keep one copy of each clip, for example only the .wav files",
    )


def _draft(layout: ActedFormat, file: Path) -> Clip:
    label = layout.read_name(file.stem)
    return Clip(
        id=f"{layout.kind}/{file.stem}",
        audio=file,
        speaker=f"{layout.kind}/{label.speaker}",
        split=label.split,
        language=layout.language,
        scores={name: label.score if name == label.emotion else 0.0 for name in layout.prototypes},
    )
