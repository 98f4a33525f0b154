"""Arguments of the verb that makes timelines; the docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from emonet.timelines import Format, TimelineOptions
from experiments.arguments.flags import Positional, spelled
from experiments.arguments.verbs import ModelArguments


class TimelineArguments(ModelArguments):
    """Who felt what when, in recordings of any length: scores of their segments, as tables, pages and subtitles."""

    files: Positional[tuple[Path, ...]]
    """Audio files, or folders that are searched for them."""
    options: Annotated[TimelineOptions, spelled(name="")] = TimelineOptions()
    """How recordings are cut."""
    segments: Path | None = None
    """Score the segments in this file (RTTM, TextGrid, ELAN, SRT, WebVTT, CSV) in place of those that are found; their
    speakers are kept."""
    captioner: str | None = None
    """Folder, hub id or registry URI of a captioner: it writes a caption for each segment."""
    out: Path = Path("timelines")
    """Folder for the files; a timeline that is unfinished there goes on."""
    formats: tuple[Format, ...] = Field(("csv", "json", "html", "png"), min_length=1)
    """Files to write for each recording; hume: the predictions JSON of Hume's service that ended (docs/hume.md)."""
    top: int = Field(5, ge=1)
    """Emotions shown per recording (count)."""
    batch_size: int = Field(8, ge=1)
    """Segments per pass through the model (count)."""
