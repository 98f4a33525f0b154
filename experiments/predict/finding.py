"""Audio that is named, and audio below folders that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emonet.audio import AUDIO, READ
from emonet.corpora import path_exists, unspelled
from emonet.errors import RequestError
from emonet.runtime import Walk, count_suffixes, walk


@dataclass(frozen=True)
class FoundAudio:
    """What the named files and folders hold.

    Args:
        files: to be scored, in order.
        passed_over: suffix -> other files of the folders (count), most frequent first.
        closed: folders that cannot be listed, with the reason.
    """

    files: tuple[Path, ...]
    passed_over: dict[str, int]
    closed: tuple[tuple[Path, str], ...] = ()


def find_audio(paths: Sequence[Path]) -> FoundAudio:
    """The named files, whatever their suffix, and all audio files below the named folders, sorted.

    Audio that nothing here decodes is among them: it is reported file by file.

    Raises:
        RequestError: if a path does not exist, or a folder holds no audio, or none is named.
    """
    if not paths:
        raise RequestError("no file was named", hint="name audio files, or folders that are searched for them")
    files: list[Path] = []
    others: list[Path] = []
    closed: list[tuple[Path, str]] = []
    for path in map(unspelled, paths):
        if path.is_dir():
            found = walk(path)
            audio = found.ending_in(AUDIO)
            if not audio and not found.closed:
                raise _no_audio(path, found)
            files += audio
            others += (file for file in found.files if file.suffix.lower() not in AUDIO)
            closed += found.closed
        elif path_exists(path):
            files.append(path)
        else:
            hint = "emonet listen - hears standard input" if str(path) == "-" else None
            raise RequestError("there is no such file or folder", where=path, hint=hint)
    return FoundAudio(tuple(files), count_suffixes(others), tuple(closed))


def _no_audio(folder: Path, found: Walk) -> RequestError:
    others = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over(AUDIO).items())
    return RequestError(
        "the folder holds no audio",
        where=folder,
        expected=f"files that end in {', '.join(sorted(READ))}",
        found=f"other files ({others})" if others else "no files",
    )
