"""The verb `predict`: scores of recordings, as a table, JSON, CSV or a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from rich.markup import escape
from rich.table import Table

from emonet.errors import RequestError
from emonet.schema import Schema
from emonet.targets import EMOTIONS
from experiments import console

if TYPE_CHECKING:
    from experiments.cli import PredictArguments

SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64"}
    | {".m4a", ".aac", ".mp4", ".webm", ".wma", ".amr"}  # libsndfile refuses these: reported, not passed over
)
"""What is taken out of a folder; a file that is named is tried whatever its suffix."""


class FilePrediction(Schema):
    """Scores of one file."""

    audio: str
    """Its path."""
    seconds: float
    """How much of it was heard (seconds), at most the model's window."""
    scores: dict[str, float]
    """Target id -> score (0 to 4 is the scale; published experts leave it a little), strongest first."""
    error: str | None = None
    """Why the file could not be used."""


class PredictResult(Schema):
    """Scores of all files."""

    model: str
    """Where the model came from."""
    predictions: tuple[FilePrediction, ...]
    """One for each file, in order."""
    top: int = Field(10, exclude=True)
    """How many emotions the table shows (count)."""

    @property
    def exit_code(self) -> int:
        """1 if a file could not be used, else 0."""
        return int(any(prediction.error for prediction in self.predictions))


def run(arguments: PredictArguments) -> PredictResult:
    """Score files and folders; a file that cannot be used is reported, and the rest is done.

    Raises:
        RequestError: if there is no file, no model, or if an output cannot be written; before anything is loaded.
    """
    files = find_audio(arguments.files)
    for output in (arguments.csv, arguments.plot):
        if output is not None and not output.parent.is_dir():
            raise RequestError("the output's folder does not exist", where=output, hint=f"mkdir -p {output.parent}")
        if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
            raise RequestError("the output cannot be written", where=output, expected="a file in a folder of yours")
    model = _model(arguments)
    from emonet.pipeline import EmotionPipeline

    pipeline = EmotionPipeline.from_folder(model)
    with console.progress("listening", "files") as progress:
        predictions = tuple(
            FilePrediction(audio=p.audio, seconds=p.seconds, scores=dict(p.scores), error=p.error)
            for p in pipeline.predict(files, batch_size=arguments.batch_size, progress=progress)
        )
    result = PredictResult(model=arguments.model, predictions=predictions, top=arguments.top)
    if arguments.csv is not None:
        _write_csv(result, pipeline.targets, arguments.csv)
    if arguments.plot is not None:
        from emonet.plots import scores_figure

        scores_figure({p.audio: p.scores for p in predictions if p.scores}, arguments.plot, top=arguments.top)
        console.say(f"plot: {arguments.plot}")
    return result


def find_audio(paths: Sequence[Path]) -> list[Path]:
    """The named files, and all audio files below the named folders, sorted.

    Raises:
        RequestError: if a path does not exist, or a folder holds no audio, or none is named.
    """
    if not paths:
        raise RequestError("no file was named", hint="emonet predict FILE_OR_FOLDER ...")
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not found:
                raise RequestError(
                    "the folder holds no audio",
                    where=path,
                    expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise RequestError("there is no such file or folder", where=path)
    return files


def show(result: PredictResult) -> None:
    """A table per file on stderr, strongest first, and what could not be used."""
    for prediction in result.predictions:
        if prediction.error is not None:
            console.say(f"[bold red]{escape(prediction.audio)}[/]: {escape(prediction.error)}")
            continue
        table = Table("emotion", "0..4", "", title=f"{escape(prediction.audio)} ({prediction.seconds:.1f} s heard)")
        table.title_justify = "left"
        for name, score in list(prediction.scores.items())[: result.top]:
            table.add_row(EMOTIONS[name].name, f"{score:.2f}", _bar(score, EMOTIONS[name].high))
        console.console.print(table)
    failed = sum(prediction.error is not None for prediction in result.predictions)
    if failed:
        console.say(f"{failed} of {len(result.predictions)} files could not be used")


def _bar(score: float, high: float, width: int = 20) -> str:
    return "█" * round(max(0.0, min(score / high, 1.0)) * width)


def _model(arguments: PredictArguments) -> Path:
    """The model's local folder; says which model it is, and what should be known of it."""
    from emonet.tracking import CANDIDATE, CHAMPION, VOICE, default_uri, find, resolve

    if not arguments.model.startswith(("models:/", "runs:/")):
        return Path(arguments.model)
    uri = default_uri(arguments.runs)
    folder = Path(resolve(arguments.model, uri))
    champion, candidate = find(VOICE, CHAMPION, uri), find(VOICE, CANDIDATE, uri)
    used = {f"models:/{VOICE}@{alias}": v for alias, v in ((CHAMPION, champion), (CANDIDATE, candidate))}
    version = used.get(arguments.model)
    if version is not None:
        console.say(f"model: {VOICE} version {version.version}, trained by the experiment {version.experiment!r}")
        if version.experiment == "sandbox":
            console.say("note: it was trained on synthetic voices; its scores of human voices mean nothing")
    if version is champion is not None and candidate is not None and candidate != champion:
        console.say(
            f"note: version {candidate.version} ({candidate.experiment!r}) is newer; "
            f"to use it: --model models:/{VOICE}@{CANDIDATE}"
        )
    return folder


def _write_csv(result: PredictResult, targets: Sequence[str], path: Path) -> None:
    import pandas as pd

    rows = [{"audio": p.audio, "seconds": p.seconds, **p.scores, "error": p.error} for p in result.predictions]
    pd.DataFrame(rows, columns=["audio", "seconds", *targets, "error"]).to_csv(path, index=False)
    console.say(f"table: {path}")
