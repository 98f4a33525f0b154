"""EmoNet-Voice Bench as published: Parquet with embedded MP3s, and ratings as text in Python's notation.

A row is one clip with the ratings of one category: `[{'human-1': {'Shame': 1}}, {'human-4': {'Shame': 2}}]`. Names are
URL-encoded, some are short, and some recordings occur in several rows.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from emonet.clips import Clip
from emonet.errors import RequestError, brief, raise_collected
from emonet.protocols.ratings import Ratings
from emonet.tables import as_number, read_rows
from emonet.targets import ATTRIBUTES, EMOTIONS, TargetSpec

LEVELS = (0.0, 1.0, 2.0)
"""Not there, weak, strong."""
AUDIO, LABEL = "audioId", "label"

BENCH = TargetSpec(
    tuple(
        replace(
            target,
            low=LEVELS[0],
            high=LEVELS[-1],
            meaning=f"how strongly raters hear {target.name}: 0 not at all, 1 weakly, 2 strongly",
        )
        for target in (*EMOTIONS, ATTRIBUTES["authenticity"], ATTRIBUTES["arousal"])
    )
)
"""The 42 categories: the 40 emotions, authenticity and arousal, each rated 0, 1 or 2."""


@dataclass(frozen=True)
class Bench:
    """The benchmark's clips, with their audio, and what raters heard in them.

    Args:
        ratings: by clip id.
        clips: each with the encoded bytes of its recording; speakers are not known, so a clip names itself.
    """

    ratings: Ratings
    clips: tuple[Clip, ...]


def read_bench(path: Path) -> Bench:
    """Read the published Parquet; its recordings stay in memory (1.1 GB of the whole benchmark).

    A clip's id is its path. A recording that occurs again for another category is the same clip; one that occurs again
    for the same category, or another recording of the same path, is a clip of its own, `PATH#2`. Remarks count them.

    Args:
        path: a file, or a folder with all its parts.

    Raises:
        RequestError: if a file is missing or of another form, a label is no list of ratings, a category is unknown, a
            rating is none of 0, 1 and 2, a rater rated a clip twice, or a clip has no raters.
    """
    known = _Clips()
    judgements: list[tuple[str, str, str, float]] = []
    problems: list[str] = []
    for file in _files(path):
        for row in read_rows(file):
            place = f"{file.name}, {row.place}"
            try:
                name, recording = _audio(row.cells, file)
                given = list(_ratings(row.cells[LABEL]))
            except ValueError as error:
                problems.append(f"{place}: {error}")
                continue
            clip = known.clip(name, recording, {target for _, target, _ in given})
            judgements += [(clip, rater, target, level) for rater, target, level in given]
    raise_collected("the benchmark's ratings cannot be read", problems, where=path)
    ratings = Ratings.of(
        judgements, BENCH, name=str(path), clips=tuple(known.audio), levels=LEVELS, remarks=known.remarks()
    )
    clips = tuple(Clip(id=name, audio=audio, speaker=name, split="test") for name, audio in known.audio.items())
    return Bench(ratings, clips)


class _Clips:
    """Clips by id, and what paths occur again for."""

    def __init__(self) -> None:
        self.audio: dict[str, bytes] = {}
        self._rated: dict[str, set[str]] = {}
        self._ids: dict[tuple[str, str], list[str]] = {}  # path and digest of the recording -> clips of it
        self._times: dict[str, int] = {}  # path -> clips of it
        self._again: set[str] = set()
        self._shared = self._apart = 0

    def clip(self, path: str, recording: bytes, targets: set[str]) -> str:
        """The id of a row's clip: one that is there already and was not rated for these targets, or a new one."""
        key = path, hashlib.sha256(recording).hexdigest()
        for name in self._ids.get(key, []):
            if not self._rated[name] & targets:
                self._rated[name] |= targets
                self._again.add(path)
                self._shared += 1
                return name
        times = self._times[path] = self._times.get(path, 0) + 1
        name = path if times == 1 else f"{path}#{times}"
        if times > 1:
            self._again.add(path)
            self._apart += 1
        self._ids.setdefault(key, []).append(name)
        self.audio[name], self._rated[name] = recording, set(targets)
        return name

    def remarks(self) -> tuple[str, ...]:
        if not self._again:
            return ()
        return (
            f"{len(self._again):,} paths occur again: {self._shared:,} rows are further categories of a clip, "
            f"{self._apart:,} are clips of their own",
        )


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder, in the order of their names.

    Raises:
        RequestError: if a folder has no Parquet file.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise RequestError(
            "the folder holds no EmoNet-Voice Bench",
            where=path.absolute(),
            expected="Parquet files with the columns audioId and label",
            found="no .parquet file",
            hint="download t1a5anu-anon/emonet-voice-bench from Hugging Face",
        )
    return files


def _audio(cells: Any, file: Path) -> tuple[str, bytes]:
    """A row's path and recording.

    Raises:
        RequestError: if the file has other columns.
        ValueError: if there is no audio in it.
    """
    missing = [column for column in (AUDIO, LABEL) if column not in cells]
    if missing:
        raise RequestError(
            "this is no EmoNet-Voice Bench",
            where=file,
            expected=f"the columns {AUDIO} and {LABEL}",
            found=", ".join(cells),
        )
    audio = cells[AUDIO]
    name, recording = (audio.get("path"), audio.get("bytes")) if isinstance(audio, dict) else (None, None)
    if not name or not isinstance(name, str):
        raise ValueError(f"{AUDIO} names no path")
    if not recording:
        raise ValueError(f"{AUDIO} of {name!r} holds no audio")
    return name, recording


def _ratings(label: Any) -> Iterator[tuple[str, str, float]]:
    """Rater, target and level of each rating in a label.

    Raises:
        ValueError: if it is no list of ratings, or holds none.
    """
    try:
        entries = ast.literal_eval(label.strip())
    except (AttributeError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"the label is no list of ratings: {brief(label)}")
    if not entries:
        raise ValueError("a clip without raters: the label is an empty list")
    for entry in entries:
        for rater, given in entry.items():
            if not isinstance(rater, str) or not isinstance(given, dict) or not given:
                raise ValueError(f"{brief(rater)} gave no rating: {brief(given)}")
            for name, level in given.items():
                yield rater, _target(name), _level(level, rater)


def _target(name: Any) -> str:
    text = unquote(name) if isinstance(name, str) else ""
    if text not in BENCH:
        raise ValueError(f"there is no category called {brief(text or name)}")
    return BENCH[text].id


def _level(level: Any, rater: str) -> float:
    number = as_number(level)
    if number not in LEVELS:
        raise ValueError(f"{rater!r} gives {brief(level)}; 0, 1 or 2 is expected")
    return float(number or 0.0)
