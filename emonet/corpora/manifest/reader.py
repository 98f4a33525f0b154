"""Manifests, or your own corpus: a table of clips in Parquet, CSV, JSONL or tars, with one column per rated target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from emonet.clips import AudioCell, Clip, ClipColumns, Clips, Coded, Corpus, GatheredClips, Sources, Split
from emonet.corpora.manifest.caption_check import CaptionCheck
from emonet.corpora.manifest.columns import FIELDS, LABEL, OTHER, UnknownColumnError, meaning
from emonet.corpora.manifest.finding import Finder, folder_of
from emonet.corpora.manifest.probing import probed, require_clips
from emonet.corpora.manifest.rows import Cells, Limits, holds_audio
from emonet.corpora.manifest.shards import in_file, is_several, shards, split_of
from emonet.corpora.manifest.splits import split_speakers
from emonet.corpora.manifest.tars import Tars
from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.names import as_text
from emonet.objects import without_query
from emonet.runtime import Progress, ignore
from emonet.tables import Problems, Row, read_rows
from emonet.targets import EMOTIONS, TargetSpec, spelling

__all__ = ["ANONYMOUS", "FIELDS", "open_manifest", "open_tars"]
ANONYMOUS = "The manifest names no speakers, so whether its splits share some is not known."
_COLUMNS = 12  # that a message names
_SEVERAL = "one row for each clip: average the scores of several raters, or give each row an `id` of its own"
_SAME_PATH = "two recordings have the same path: give each an `id` of its own"


def open_manifest(
    path: Path | str,
    *,
    targets: TargetSpec = EMOTIONS,
    label: str | None = None,
    sources: Sources | None = None,
    progress: Progress = ignore,
) -> Corpus:
    """Open a manifest; `docs/corpora.md` describes its columns.

    Without a column `split` the speakers are dealt out by `split_speakers`, unless the table comes in several files
    whose names tell the splits. Without a column `speaker` the splits must be given: each clip then counts as a speaker
    of its own, and the corpus' note says so.

    Args:
        path: a `.csv`, `.jsonl` or `.parquet` file, or its URL; its `audio` paths are relative to its folder. Braces,
            wildcards or a folder name several that are one table. A Parquet file may also hold the audio itself, as
            data sets of Hugging Face do; it stays there until it is heard.
        targets: what its score columns may name; with `CLASSES` scores are passed over.
        label: the column that holds the clips' classes, if it is not called `label`.
        sources: hears of the files that the corpus is made of.
        progress: told about files.

    Raises:
        RequestError: if the file cannot be read, or anything in it is wrong; all problems with their lines.
    """
    location = str(path)
    files = shards(location, (".parquet",))
    if sources is not None:
        sources.add_tables(files, location, (".parquet",) if is_several(location) else ())
    reading = _Reading(location, targets, label, is_several=is_several(location))
    for file in files:
        for row in read_rows(file, held=AudioCell):
            reading.read(row if len(files) == 1 else in_file(row, file), file)
    return _corpus("manifest", reading, sources, progress)


def open_tars(
    location: str,
    folder: Path,
    *,
    targets: TargetSpec = EMOTIONS,
    label: str | None = None,
    sources: Sources | None = None,
    progress: Progress = ignore,
) -> Corpus:
    """Open tars as WebDataset writes them: `KEY.json` holds columns, `KEY.txt` a caption, `KEY.cls` a class.

    Nothing is unpacked: clips are read by ranges. A tar that was cut short gives the clips before the cut, with a
    warning.

    Args:
        location: path or URL of a tar; braces, wildcards or a folder name several.
        folder: where indexes of the tars are kept.
        targets: what columns may name scores of; with `CLASSES` scores are passed over.
        label: the column that holds the clips' classes, if it is not called `label`.
        sources: hears of the files that the corpus is made of.
        progress: told about tars, then anew about their recordings.

    Raises:
        RequestError: if a tar is missing, compressed or none, or anything in it is wrong.
    """
    files = shards(location, (".tar",))
    if sources is not None:
        sources.add_tables(files, location, (".tar",) if is_several(location) else ())
    tars = Tars(files, folder, progress, has_labels=label is None)
    reading = _Reading(location, targets, label, is_several=is_several(location))
    for file, row in tars.rows():
        reading.read(row, file)
    if not reading.columns and not len(reading.problems):
        found = ", ".join(f"{count} {suffix}" for suffix, count in tars.passed_over.most_common(5))
        raise RequestError(
            "the tars hold no recording", where=as_text(location), expected="members KEY.wav or KEY.flac, say",
            found=found or "; ".join(tars.remarks) or "no members",
        )  # fmt: skip
    corpus = _corpus("tars", reading, sources, progress)
    return replace(
        corpus,
        rejected=(*tars.rejected, *corpus.rejected),
        remarks=(*tars.remarks, *corpus.remarks),
        passed_over=dict(tars.passed_over),
    )


def _corpus(kind: str, reading: _Reading, sources: Sources | None, progress: Progress) -> Corpus:
    """The corpus of what was read.

    Raises:
        RequestError: if anything in it is wrong.
    """
    reading.require_columns()
    reading.require_objects()
    reading.check_columns()
    reading.check_labels()
    where = as_text(reading.path)
    raise_collected(
        f"the manifest has {len(reading.problems)} problem{'s' * (len(reading.problems) != 1)}",
        reading.problems.lines(),
        where=where,
        hint="correct these lines; docs/corpora.md describes the columns",
    )
    clips, rejected = probed(reading.with_splits(), sources=sources, progress=progress)
    require_clips(clips, rejected, where)
    return Corpus(
        f"{kind}:{where}" + ("" if reading.label is None else f"#{reading.label}"),
        clips,
        rejected,
        targets=reading.targets,
        note="" if "speaker" in reading.fields else ANONYMOUS,
        remarks=(*reading.spelled(), *reading.captions.lines(), *reading.unrated()),
    )


@dataclass
class _Reading:
    """What one pass over a manifest has found."""

    path: str
    targets: TargetSpec
    label: str | None
    is_several: bool = False  # files, whose names may tell splits
    columns: dict[str, str] = field(default_factory=dict)  # column -> field, target or weight
    clips: GatheredClips = field(default_factory=GatheredClips)
    places: list[str] = field(default_factory=list)  # of the clips
    rows: dict[str, int] = field(default_factory=dict)  # clip id -> which clip had it first
    problems: Problems = field(default_factory=Problems)
    captions: CaptionCheck = field(default_factory=CaptionCheck)
    header: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # columns of the last row, and what they mean
    without: dict[str, list[str]] = field(default_factory=dict)  # field -> rows of JSON that lack it
    strange: list[str] = field(default_factory=list)  # columns that mean nothing, of tables that others wrote
    sizes: dict[str, int | None] = field(default_factory=dict)  # of recordings in object stores, by address
    told_splits: list[Split | None] = field(default_factory=list)  # of the clips, by their files' names
    finders: dict[Path | str, Finder] = field(default_factory=dict)  # by the folders that the tables are in
    finder: Finder = field(init=False)  # of the file that is being read
    file: str = ""  # that is being read, with what its name tells
    split: Split | None = None
    stem: str = ""

    def begin(self, file: str) -> None:
        """Go on to a file, unless it is being read already."""
        if file != self.file:
            self.file, self.stem = file, PurePosixPath(without_query(file)).stem
            self.split = split_of(file) if self.is_several else None
            folder = folder_of(file)
            self.finder = self.finders.setdefault(folder, Finder(folder))

    @cached_property
    def limits(self) -> Limits:
        return {target.id: (target.low, target.high) for target in self.targets}

    @property
    def fields(self) -> set[str]:
        """Fields and targets that have a column."""
        return set(self.columns.values())

    def read(self, row: Row, file: str) -> None:
        """Take a row of a file as a clip; where something is wrong, it only serves to go on looking for more."""
        self.begin(file)
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
        self.clips.add(clip)
        self.places.append(row.place)
        self.told_splits.append(self.split)

    def _clip(self, cells: Cells) -> Clip:
        name, content = cells.audio()
        audio = self.finder.locate(name, cells) if content is None else content
        start, end = cells.span()
        # Audio in the table may have no path.
        name = name or f"{self.stem}/{cells.place.rpartition(', ')[2].replace(' ', '-')}"
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
        own = len(self.clips)
        row = self.rows.setdefault(clip.id, own)
        if row != own and "id" not in cells.cells and not self._same_part(row, clip):
            exact = f"{clip.id.rpartition('#')[0]}#{clip.start or 0!r}-{'' if clip.end is None else repr(clip.end)}"
            clip = replace(clip, id=exact, speaker=exact if clip.speaker == clip.id else clip.speaker)
            row = self.rows.setdefault(exact, own)
        if row != own:
            told = f"the id {brief(clip.id)} is already that of {self.places[row]}; ids are unique"
            first = self.clips.at(row)
            if first.audio == clip.audio:
                told += f" ({_SEVERAL})"
            elif "id" not in cells.cells:
                told += f" ({_SAME_PATH})"
            cells.complain(told, "id", "repeated")
        return clip

    def _same_part(self, row: int, clip: Clip) -> bool:
        first = self.clips.at(row)
        return (first.start, first.end) == (clip.start, clip.end)

    def _named(self, row: Row) -> dict[str, Any]:
        """The row's cells by field, target or weight."""
        columns = tuple(row.cells)
        if columns != self.header[0]:
            cells = self._meant(row)
            if len(cells) == len(columns):
                self.header = columns, tuple(cells)
            return cells
        return dict(zip(self.header[1], row.cells.values(), strict=True))

    def _meant(self, row: Row) -> dict[str, Any]:
        """What the columns of a row mean, with what stands in them."""
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
            advice = str(error)
            if holds_audio(row.cells):
                self.strange.append(brief(column)[1:-1] + (f" ({advice})" if advice else ""))
            else:
                told = f"the column {brief(column)} is neither a field nor a target" + (f"; {advice}" if advice else "")
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

    def require_objects(self) -> None:
        """Fill in the sizes of recordings in object stores; those that do not exist are problems of their rows."""
        for finder in self.finders.values():
            self.sizes |= finder.object_sizes()

    def check_columns(self) -> None:
        """What only the whole table shows: fields that some rows lack, no way to split, and nothing of the targets."""
        for name in sorted(self.fields & set(self.without)):
            for place in self.without[name]:
                self.problems.add(place, f"{name} is missing, other rows have it", (name, "lacking"))
        if self.clips and not self.fields & {"speaker", "split"} and None in self.told_splits:
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

    def spelled(self) -> list[str]:
        """What is told of recordings that were found under other spellings."""
        return [line for finder in self.finders.values() for line in finder.remarks()]

    def unrated(self) -> list[str]:
        """What is told of targets without a column, and of columns of other targets."""
        lines = []
        absent = [name for name in self.targets.ids if name not in self.fields]
        if absent and self.targets != EMOTIONS:  # whoever rates emotions rates some of them
            lines.append(f"{len(absent)} of {len(self.targets)} targets have no column: {shortened(absent)}")
        others = [brief(column)[1:-1] for column, name in self.columns.items() if name.startswith(OTHER)]
        if others:
            lines.append(f"columns of other targets are passed over: {shortened(others)}; --targets names another set")
        if self.strange:
            lines.append(f"columns that mean nothing here are passed over: {shortened(self.strange)}")
        return lines

    def check_labels(self) -> None:
        """Labels that only their spelling tells apart: `Angry` and `angry` are no two classes."""
        groups: dict[str, list[str]] = {}
        for label in self.gathered.label.present():
            groups.setdefault(spelling(label), []).append(label)
        for key, labels in groups.items():
            named = " and ".join(map(brief, labels))
            if len(labels) > 1:
                self.problems.add("", f"the labels {named} differ in their spelling alone: write one of them")
            elif not key:
                self.problems.add("", f"the label {named} holds no letter or digit")

    @cached_property
    def gathered(self) -> ClipColumns:
        """The clips, when all have been read."""
        columns, order = self.clips.taken(), [*self.columns.values()]
        scores = columns.scores.ordered(order)  # as the table has them: captions depend on it
        return replace(columns, scores=scores, audio=columns.audio.sized(self.sizes))

    def with_splits(self) -> Clips:
        """The clips; where the table has no splits, their speakers are dealt out."""
        columns = self.gathered
        if not len(columns) or "split" in self.fields:
            return Clips(columns)
        if None not in self.told_splits:
            return Clips(replace(columns, split=Coded.of(self.told_splits)))
        splits = split_speakers(columns.speaker.present(), where=as_text(self.path))
        of_speaker = Coded.of(splits[name] for name in columns.speaker.names)
        return Clips(replace(columns, split=of_speaker.take(columns.speaker.codes)))
