"""Your own corpus: a table of clips in Parquet, CSV or JSONL, with one column per rated target."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from emonet.clips import SPLITS, Clip, Corpus, Split
from emonet.corpora.probing import probed, require_clips
from emonet.corpora.splits import split_speakers
from emonet.corpora.tables import Row, read_rows
from emonet.errors import RequestError, raise_collected
from emonet.progress import Progress, silent
from emonet.targets import EMOTIONS, TargetSpec

FIELDS = ("audio", "id", "speaker", "split", "language", "caption", "start", "end", "weight")
WEIGHT = "weight."  # and a target: how much its score counts
_MISSING = {"", "nan", "null", "none", "<na>"}  # what programs write for a value that is not there
_AUDIO_NAMES = {  # what others call it
    *("path", "file", "filename", "file_name", "filepath", "file_path", "wav", "wav_path", "recording"),
    *("audio_path", "audio_file", "audio_filename", "audio_filepath"),
}
_SPLIT_NAMES = {
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "training": "train",
    "eval": "test",
}
ANONYMOUS = "The manifest names no speakers, so whether its splits share some is not known."


@dataclass
class _Reading:
    """What one pass over a manifest has found."""

    folder: Path
    targets: TargetSpec
    columns: dict[str, str] = field(default_factory=dict)  # column -> field or target id
    clips: list[Clip] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)  # clip id -> where it first stood
    problems: list[str] = field(default_factory=list)
    without: dict[str, list[str]] = field(default_factory=dict)  # field -> rows of JSON that lack it
    repeated: set[tuple[str, str]] = field(default_factory=set)  # where a column is the second one for its field

    def check_columns(self) -> None:
        """What only the whole table shows: fields that some rows lack, and no way to split."""
        fields = set(self.columns.values())
        for name in sorted(fields & set(self.without)):
            self.problems += [f"{place}: {name} is missing, other rows have it" for place in self.without[name]]
        if self.clips and not fields & {"speaker", "split"}:
            self.problems.append(
                "there is neither a column `speaker` nor a column `split`: "
                "splits that share no speaker need one of them"
            )


def open_manifest(path: Path, *, targets: TargetSpec = EMOTIONS, progress: Progress = silent) -> Corpus:
    """Open a manifest; `docs/corpora.md` describes its columns.

    Without a column `split` the speakers are dealt out by `split_speakers`. Without a column `speaker` the splits
    must be given: each clip then counts as a speaker of its own, and the corpus' note says so.

    Args:
        path: a `.csv`, `.jsonl` or `.parquet` file; its `audio` paths are relative to its folder.
        targets: what its score columns may name.
        progress: told about clips.

    Raises:
        RequestError: if the file cannot be read, or anything in it is wrong; all problems with their lines.
    """
    reading = _Reading(path.parent, targets)
    for row in read_rows(path):
        _read_row(row, reading)
    _require_audio(reading, path)
    reading.check_columns()
    fields = set(reading.columns.values())
    raise_collected(
        f"the manifest has {len(reading.problems)} problem{'s' * (len(reading.problems) != 1)}",
        reading.problems,
        where=path,
        hint="correct these lines; docs/corpora.md describes the columns",
    )
    drafts = reading.clips
    if drafts and "split" not in fields:
        splits = split_speakers((clip.speaker for clip in drafts), where=path)
        drafts = [replace(clip, split=splits[clip.speaker]) for clip in drafts]
    clips, rejected = probed(drafts, progress=progress)
    require_clips(clips, rejected, path)
    note = "" if "speaker" in fields else ANONYMOUS
    return Corpus(f"manifest:{path}", clips, rejected, targets=targets, note=note)


def _read_row(row: Row, reading: _Reading) -> None:
    if row.damage is not None:
        reading.problems.append(f"{row.place}: {row.damage}")
        return
    for column in row.cells:
        if column not in reading.columns:
            _name_column(column, row.header or row.place, reading)
    cells: dict[str, Any] = {}
    for column, value in row.cells.items():
        name = reading.columns[column]
        named = row.header or row.place
        if name in cells and (named, column) not in reading.repeated:
            reading.repeated.add((named, column))
            reading.problems.append(f"{named}: {column!r} is a second column for {name}")
        cells[name] = value
    for name in {"id", "speaker", "split"} - set(cells):
        reading.without.setdefault(name, []).append(row.place)
    clip = _Cells(row.place, cells, reading.problems).clip(reading)
    first = reading.places.setdefault(clip.id, row.place)
    if first != row.place:
        reading.problems.append(f"{row.place}: the id {clip.id!r} is already that of {first}; ids are unique")
    reading.clips.append(clip)


def _require_audio(reading: _Reading, path: Path) -> None:
    """Without a column `audio` nothing else is worth saying: one problem instead of one for each row.

    Raises:
        RequestError: if rows were read and none of them has it.
    """
    if not reading.columns or "audio" in reading.columns.values():
        return
    meant = next((column for column in reading.columns if column.strip().casefold() in _AUDIO_NAMES), None)
    raise RequestError(
        f"there is no column `audio`; found: {', '.join(reading.columns)}",
        where=path,
        hint=f"rename the column {meant} to audio" if meant else "docs/corpora.md describes the columns",
    )


def _name_column(column: str, place: str, reading: _Reading) -> None:
    """Find out what a column means; one that means nothing is a problem, once."""
    name = column.strip().casefold()
    if name not in FIELDS:
        weighs = WEIGHT if name.startswith(WEIGHT) else ""
        try:
            name = weighs + reading.targets.ids[reading.targets.index(column.strip()[len(weighs) :])]
        except RequestError:
            names = [*FIELDS, *reading.targets.ids]
            near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
            asked = f"; did you mean {' or '.join(near)}?" if near else ""
            reading.problems.append(f"{place}: the column {column!r} is neither a field nor a target{asked}")
            name = f"?{column}"
    reading.columns[column] = name


@dataclass(frozen=True)
class _Cells:
    """The cells of one row, by field or target; what is wrong with them goes to `problems`."""

    place: str
    cells: Mapping[str, Any]
    problems: list[str]

    def clip(self, reading: _Reading) -> Clip:
        """The row as a clip; where something is wrong, it only serves to go on looking for more."""
        audio = self.text("audio", required=True)
        file = reading.folder / audio
        if audio and not file.is_file():
            self.complain(f"audio {audio!r} {'is not a file' if file.exists() else 'does not exist'} ({file})")
        start, end = self.seconds("start"), self.seconds("end")
        if start is not None and end is not None and start >= end:
            self.complain(f"start {start:g} s is not before end {end:g} s")
        part = "" if start is None and end is None else f"#{start or 0:g}-{'' if end is None else format(end, 'g')}"
        clip_id = self.text("id", required="id" in self.cells) or audio + part
        return Clip(
            id=clip_id,
            audio=file,
            speaker=self.text("speaker", required="speaker" in self.cells) or clip_id,
            split=self.split(),
            language=self.text("language") or "und",
            scores=self.scores(reading.targets),
            caption=self.text("caption") or None,
            start=start,
            end=end,
            weight=1.0 if (weight := self.weight("weight")) is None else weight,
            weights=self.weights(reading.targets),
        )

    def complain(self, problem: str) -> None:
        self.problems.append(f"{self.place}: {problem}")

    def text(self, name: str, *, required: bool = False) -> str:
        """A cell as text, "" where it is missing; numbers count as text, since ids and speakers often are."""
        value = self.cells.get(name)
        if _is_missing(value):
            if required:
                self.complain(f"{name} is {'missing' if name not in self.cells else f'empty ({value!r})'}")
            return ""
        if isinstance(value, bool | list | dict):
            self.complain(f"{name} is {value!r}, which is not text")
            return ""
        return str(value).strip()

    def number(self, name: str) -> float | None:
        """A cell as a finite number; None where it is missing."""
        value: Any = self.cells.get(name)
        if _is_missing(value):
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            self.complain(f"{name} is {value!r}, which is not a finite number")
            return None
        return number

    def seconds(self, name: str) -> float | None:
        number = self.number(name)
        if number is not None and number < 0:
            self.complain(f"{name} is {number:g} s, before the audio begins")
        return number

    def weight(self, name: str) -> float | None:
        number = self.number(name)
        if number is not None and number < 0:
            self.complain(f"{name} is {number:g}; weights are 0 or more")
        return number

    def split(self) -> Split:
        """The row's split; `train` where there is no such column, to be replaced later."""
        name = self.text("split", required="split" in self.cells)
        for split in get_args(Split):
            if name == split:
                return split  # type: ignore[no-any-return]
        if name:
            meant = _SPLIT_NAMES.get(name.casefold(), name.casefold())
            asked = f"; did you mean {meant}?" if meant in SPLITS else ""
            self.complain(f"split {name!r} is none of {', '.join(SPLITS)}{asked}")
        return "train"

    def scores(self, targets: TargetSpec) -> dict[str, float]:
        scores = {}
        for target in targets:
            score = self.number(target.id)
            if score is not None and not target.low <= score <= target.high:
                self.complain(f"{target.id} is {score:g}; expected {target.low:g} to {target.high:g}")
            elif score is not None:
                scores[target.id] = score
        return scores

    def weights(self, targets: TargetSpec) -> dict[str, float]:
        found = {target: self.weight(f"{WEIGHT}{target}") for target in targets.ids}
        return {target: weight for target, weight in found.items() if weight is not None}


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))
