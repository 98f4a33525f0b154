"""Manifests, or your own corpus: a table of clips in Parquet, CSV or JSONL, with one column per rated target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emonet.clips import Clip, Corpus
from emonet.corpora.manifest.caption_check import CaptionCheck
from emonet.corpora.manifest.columns import FIELDS, LABEL, OTHER, UnknownColumnError, meaning
from emonet.corpora.manifest.finding import Finder
from emonet.corpora.manifest.probing import probed, require_clips
from emonet.corpora.manifest.problems import Problems
from emonet.corpora.manifest.rows import Cells, Limits
from emonet.corpora.manifest.splits import split_speakers
from emonet.corpora.manifest.tables import Row, read_rows
from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.names import as_text
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS, TargetSpec, spelling

__all__ = ["ANONYMOUS", "FIELDS", "open_manifest"]
ANONYMOUS = "The manifest names no speakers, so whether its splits share some is not known."
_COLUMNS = 12  # that a message names
_SEVERAL = "one row for each clip: average the scores of several raters, or give each row an `id` of its own"
_SAME_PATH = "two recordings have the same path: give each an `id` of its own"


def open_manifest(
    path: Path, *, targets: TargetSpec = EMOTIONS, label: str | None = None, progress: Progress = ignore
) -> Corpus:
    """Open a manifest; `docs/corpora.md` describes its columns.

    Without a column `split` the speakers are dealt out by `split_speakers`. Without a column `speaker` the splits
    must be given: each clip then counts as a speaker of its own, and the corpus' note says so.

    Args:
        path: a `.csv`, `.jsonl` or `.parquet` file; its `audio` paths are relative to its folder. A Parquet file may
            also hold the audio itself, as data sets of Hugging Face do; it then stays in memory.
        targets: what its score columns may name; with `CLASSES` scores are passed over.
        label: the column that holds the clips' classes, if it is not called `label`.
        progress: told about clips.

    Raises:
        RequestError: if the file cannot be read, or anything in it is wrong; all problems with their lines.
    """
    reading = _Reading(path, targets, label)
    for row in read_rows(path):
        reading.read(row)
    reading.require_columns()
    reading.check_columns()
    reading.check_labels()
    raise_collected(
        f"the manifest has {len(reading.problems)} problem{'s' * (len(reading.problems) != 1)}",
        reading.problems.lines(),
        where=as_text(path),
        hint="correct these lines; docs/corpora.md describes the columns",
    )
    clips, rejected = probed(reading.with_splits(), progress=progress)
    require_clips(clips, rejected, as_text(path))
    return Corpus(
        f"manifest:{as_text(path)}" + ("" if label is None else f"#{label}"),
        clips,
        rejected,
        targets=targets,
        note="" if "speaker" in reading.fields else ANONYMOUS,
        remarks=(*reading.finder.remarks(), *reading.captions.lines(), *reading.unrated()),
    )


@dataclass
class _Reading:
    """What one pass over a manifest has found."""

    path: Path
    targets: TargetSpec
    label: str | None
    columns: dict[str, str] = field(default_factory=dict)  # column -> field, target or weight
    clips: list[Clip] = field(default_factory=list)
    places: dict[str, tuple[str, Clip]] = field(default_factory=dict)  # clip id -> where it first stood
    problems: Problems = field(default_factory=Problems)
    captions: CaptionCheck = field(default_factory=CaptionCheck)
    without: dict[str, list[str]] = field(default_factory=dict)  # field -> rows of JSON that lack it

    @cached_property
    def finder(self) -> Finder:
        return Finder(self.path.parent)

    @cached_property
    def limits(self) -> Limits:
        return {target.id: (target.low, target.high) for target in self.targets}

    @property
    def fields(self) -> set[str]:
        """Fields and targets that have a column."""
        return set(self.columns.values())

    def read(self, row: Row) -> None:
        """Take a row as a clip; where something is wrong, it only serves to go on looking for more."""
        if row.damage is not None:
            self.problems.add(row.place, row.damage, ("row", row.damage))
            return
        cells = Cells(row.place, self._named(row), self.problems)
        for name in ("id", "speaker", "split"):
            if name not in cells.cells:
                self.without.setdefault(name, []).append(row.place)
        before = len(self.problems)
        clip = self._clip(cells)
        # A broken row's id, where it is made of the path and the part, may be repeated as a consequence.
        if len(self.problems) == before or "id" in cells.cells:
            clip = self._unique(clip, cells)
        self.clips.append(clip)

    def _clip(self, cells: Cells) -> Clip:
        name, content = cells.audio()
        audio = self.finder.locate(name, cells) if content is None else content
        start, end = cells.span()
        name = name or f"{self.path.stem}/{cells.place.replace(' ', '-')}"  # of audio in the table that has no path
        part = "" if start is None and end is None else f"#{start or 0:g}-{'' if end is None else format(end, 'g')}"
        clip_id = cells.text("id", required="id" in cells.cells) or as_text(name) + part
        caption = cells.text("caption") or None
        if caption is not None:
            self.captions.look_at(caption, cells.place)
        weight = cells.weight("weight")
        return Clip(
            id=clip_id,
            audio=audio,
            speaker=cells.text("speaker", required="speaker" in cells.cells) or clip_id,
            split=cells.split(),
            language=cells.text("language") or "und",
            scores=cells.scores(self.limits),
            caption=caption,
            start=start,
            end=end,
            weight=1.0 if weight is None else weight,
            weights=cells.weights(),
            label=cells.text(LABEL) or None,
        )

    def _unique(self, clip: Clip, cells: Cells) -> Clip:
        """The clip; two parts whose ids differ only beyond six digits get longer ones."""
        place, first = self.places.setdefault(clip.id, (cells.place, clip))
        if first is not clip and "id" not in cells.cells and (first.start, first.end) != (clip.start, clip.end):
            exact = f"{clip.id.rpartition('#')[0]}#{clip.start or 0!r}-{'' if clip.end is None else repr(clip.end)}"
            clip = replace(clip, id=exact, speaker=exact if clip.speaker == clip.id else clip.speaker)
            place, first = self.places.setdefault(exact, (cells.place, clip))
        if first is not clip:
            told = f"the id {brief(clip.id)} is already that of {place}; ids are unique"
            if first.audio == clip.audio:
                told += f" ({_SEVERAL})"
            elif isinstance(clip.audio, bytes):
                told += f" ({_SAME_PATH})"
            cells.complain(told, "id", "repeated")
        return clip

    def _named(self, row: Row) -> dict[str, Any]:
        """The row's cells by field, target or weight."""
        cells: dict[str, Any] = {}
        for column, value in row.cells.items():
            name = self.columns.get(column) or self._name(column, row)
            cause = ("second", column)
            if name in cells and not (row.header and cause in self.problems.found):  # a header is told once
                self.problems.add(row.header or row.place, f"{brief(column)} is a second column for {name}", cause)
            cells[name] = value
        return cells

    def _name(self, column: str, row: Row) -> str:
        """Find out what a column means; one that means nothing is a problem, once."""
        names_audio = any(other.strip().casefold() == "audio" for other in (*self.columns, *row.cells))
        try:
            name = meaning(column, self.targets, names_audio=names_audio, label=self.label)
        except UnknownColumnError as error:
            told = f"the column {brief(column)} is neither a field nor a target{error}"
            self.problems.add(row.header or row.place, told)
            name = f"?{column}"
        self.columns[column] = name
        return name

    def require_columns(self) -> None:
        """Without a column `audio`, or the one that was named, nothing else is worth saying: one problem for all rows.

        Raises:
            RequestError: if rows were read and none of them has it.
        """
        needed = {"audio": "audio"} if self.label is None else {"audio": "audio", LABEL: self.label}
        missing = [column for name, column in needed.items() if name not in self.fields]
        if not self.columns or not missing:
            return
        names = [brief(name)[1:-1] for name in list(self.columns)[:_COLUMNS]]
        more = f" and {len(self.columns) - _COLUMNS} more" if len(self.columns) > _COLUMNS else ""
        raise RequestError(
            f"there is no column `{missing[0]}`; found: {', '.join(names)}{more}",
            where=as_text(self.path),
            hint="docs/corpora.md describes the columns",
        )

    def check_columns(self) -> None:
        """What only the whole table shows: fields that some rows lack, no way to split, and nothing of the targets."""
        for name in sorted(self.fields & set(self.without)):
            for place in self.without[name]:
                self.problems.add(place, f"{name} is missing, other rows have it", (name, "lacking"))
        if self.clips and not self.fields & {"speaker", "split"}:
            self.problems.add(
                "",
                "there is neither a column `speaker` nor a column `split`: "
                "splits that share no speaker need one of them",
            )

        asked = self.targets != EMOTIONS or any(name.startswith(OTHER) for name in self.fields)
        if self.clips and asked and not self.fields & {"caption", LABEL, *self.targets.ids}:
            scores = [brief(column)[1:-1] for column, name in self.columns.items() if name not in FIELDS]
            wanted = f"column for any of the targets ({shortened(self.targets.ids)})"
            wanted = (
                wanted if len(self.targets) else "column `label` with the classes (manifest:FILE#COLUMN names another)"
            )
            self.problems.add(
                "",
                f"there is no {wanted} and no column `caption`; "
                f"beside its fields the table has {shortened(scores) or 'nothing'}; --targets names another set",
            )

    def unrated(self) -> list[str]:
        """What is told of targets without a column, and of columns of other targets."""
        lines = []
        absent = [name for name in self.targets.ids if name not in self.fields]
        if absent and self.targets != EMOTIONS:  # whoever rates emotions rates some of them
            lines.append(f"{len(absent)} of {len(self.targets)} targets have no column: {shortened(absent)}")
        others = [brief(column)[1:-1] for column, name in self.columns.items() if name.startswith(OTHER)]
        if others:
            lines.append(f"columns of other targets are passed over: {shortened(others)}; --targets names another set")
        return lines

    def check_labels(self) -> None:
        """Labels that only their spelling tells apart: `Angry` and `angry` are no two classes."""
        groups: dict[str, dict[str, None]] = {}
        for clip in self.clips:
            if clip.label is not None:
                groups.setdefault(spelling(clip.label), {})[clip.label] = None
        for key, labels in groups.items():
            named = " and ".join(map(brief, labels))
            if len(labels) > 1:
                self.problems.add("", f"the labels {named} differ in their spelling alone: write one of them")
            elif not key:
                self.problems.add("", f"the label {named} holds no letter or digit")

    def with_splits(self) -> list[Clip]:
        """The clips; where the table has no splits, their speakers are dealt out."""
        if not self.clips or "split" in self.fields:
            return self.clips
        splits = split_speakers((clip.speaker for clip in self.clips), where=as_text(self.path))
        return [replace(clip, split=splits[clip.speaker]) for clip in self.clips]
