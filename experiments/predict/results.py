"""What `emonet predict` answers: scores of files, or of their segments and channels."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from emonet.schema import Schema


class FilePrediction(Schema):
    """Scores of one file, or of a part of it."""

    audio: str
    """Its path."""
    seconds: float | None
    """How much of it was heard (seconds), at most the model's window; null where a plug-in's scorer does not say."""
    total: float | None = None
    """How long it is (seconds); null where it does not say."""
    notices: tuple[str, ...] = ()
    """What should be known of its sound: how much of it was heard, channels that cancel, noise without a voice."""
    start: float | None = None
    """Where the scored part begins (seconds); null is the beginning."""
    end: float | None = None
    """Where it ends (seconds); null is the end."""
    speaker: str | None = None
    """Who speaks, as the segments say."""
    channel: int | None = None
    """The channel that was heard alone, from 0; null where channels are mixed."""
    text: str | None = None
    """What is said, as the segments say."""
    scores: dict[str, float]
    """Target id -> score: emotions (0 to 4, which published experts leave a little), strongest first, then the rest."""
    uncertainties: dict[str, float] | None = None
    """With `uncertainty`: target id -> how far the true score may be off on either side (in units of the score)."""
    standardised: dict[str, float] | None = None
    """Target id -> how far the score lies above the median of the model's training clips, in deviations (1.4826 MAD);
    null where the model does not know."""
    unfamiliarity: float | None = None
    """Distance of the sound to what the model was trained on: 1 is as far as 99 % of validation clips reach; null where
    the model does not know."""
    error: str | None = None
    """Why the file could not be used."""

    @property
    def title(self) -> str:
        """Its path, and which part of it was heard."""
        span = "" if self.start is None and self.end is None else f" {self.start or 0:.2f} to {_shown(self.end)}"
        channel = "" if self.channel is None else f" channel {self.channel}"
        return f"{self.audio}{span}{channel}{f' {self.speaker}' if self.speaker else ''}"


class PredictResult(Schema):
    """Scores of all files."""

    model: str
    """Where the model came from."""
    predictions: tuple[FilePrediction, ...]
    """One for each file, segment or channel, in order."""
    passed_over: dict[str, int] = Field(default_factory=dict)
    """Suffix -> files of the named folders that are no audio (count), most frequent first."""
    unwritten: str | None = None
    """The CSV file that could not be written, and why."""
    coverage: float | None = None
    """With `uncertainty`: share of true scores that are to lie so near (0 to 1)."""
    top: int = Field(10, exclude=True)
    """How many emotions the table shows (count)."""
    in_parts: bool = Field(False, exclude=True)
    """Whether rows are parts of files, or a table's."""
    targets: tuple[dict[str, Any], ...] = Field((), exclude=True)
    """What the scores mean: id, name, low and high of each target."""

    document: Any = Field(None, exclude=True)
    """The same in another form than ours, where that is asked for."""

    @property
    def exit_code(self) -> int:
        """1 if a file could not be used, or the CSV file not be written, else 0."""
        return int(self.unwritten is not None or any(prediction.error for prediction in self.predictions))


def _shown(end: float | None) -> str:
    return "the end" if end is None else f"{end:.2f} s"
