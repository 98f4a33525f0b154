"""Arguments of the verb that listens to live sound; the docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from experiments.arguments.flags import Positional
from experiments.arguments.verbs import ModelArguments


class ListenArguments(ModelArguments):
    """Score live sound, the last seconds again and again; --json writes a line per hop. Ctrl-C ends it."""

    source: Positional[str] = ""
    """An audio file, heard at its own pace, or - for standard input; without it, the microphone."""
    hop: float = Field(1.0, ge=0.05, le=30)
    """Between two scores (seconds); at most the window."""
    window: float | None = Field(None, ge=0.5, le=30)
    """That each score hears (seconds); by default as much as the model hears."""
    fast: bool = False
    """A file as fast as it can be scored, and of any source each hop, however late."""
    microphone: str | None = None
    """Name or number of the input device; by default the system's."""
    rate: int | None = Field(None, ge=1000, le=768_000)
    """Of raw samples on standard input (Hz)."""
    format: Literal["auto", "s16le", "f32le"] = "auto"
    """Of raw samples on standard input, one channel; auto is a WAV by its header, else s16le."""
    csv: Path | None = None
    """Append one row per hop to this CSV file."""
    top: int = Field(5, ge=1)
    """Emotions shown (count)."""
