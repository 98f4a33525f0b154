"""The verb `predict`: scores of recordings, as a table, JSON, CSV or a plot."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from rich.table import Table

from emonet.audio import AUDIO, READ, shared_decoders
from emonet.corpora import path_exists, unspelled
from emonet.errors import RequestError
from emonet.names import as_text, on_one_line
from emonet.numbers import shown
from emonet.runtime import Walk, count_suffixes, durable, walk
from emonet.schema import Schema
from emonet.targets import Target, TargetSpec
from experiments.core import Experiment, console, decoration, resolve_source
from experiments.predict.scorer import score_files

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline, Prediction
    from experiments.arguments import PredictArguments

DEFAULT_MODEL = "models:/emonet-voice@champion"


class FilePrediction(Schema):
    """Scores of one file."""

    audio: str
    """Its path."""
    seconds: float | None
    """How much of it was heard (seconds), at most the model's window; null where a plug-in's scorer does not say."""
    total: float | None = None
    """How long it is (seconds); null where it does not say."""
    notices: tuple[str, ...] = ()
    """What should be known of its sound: how much of it was heard, channels that cancel, noise without a voice."""
    scores: dict[str, float]
    """Target id -> score: emotions (0 to 4, which published experts leave a little), strongest first, then the rest."""
    uncertainties: dict[str, float] | None = None
    """With `uncertainty`: target id -> how far the true score may be off on either side (in units of the score)."""
    error: str | None = None
    """Why the file could not be used."""


class PredictResult(Schema):
    """Scores of all files."""

    model: str
    """Where the model came from."""
    predictions: tuple[FilePrediction, ...]
    """One for each file, in order."""
    passed_over: dict[str, int] = Field(default_factory=dict)
    """Suffix -> files of the named folders that are no audio (count), most frequent first."""
    unwritten: str | None = None
    """The CSV file that could not be written, and why."""
    coverage: float | None = None
    """With `uncertainty`: share of true scores that are to lie so near (0 to 1)."""
    top: int = Field(10, exclude=True)
    """How many emotions the table shows (count)."""
    targets: tuple[dict[str, Any], ...] = Field((), exclude=True)
    """What the scores mean: id, name, low and high of each target."""

    @property
    def exit_code(self) -> int:
        """1 if a file could not be used, or the CSV file not be written, else 0."""
        return int(self.unwritten is not None or any(prediction.error for prediction in self.predictions))


def run(arguments: PredictArguments) -> PredictResult:
    """Score files and folders; a file that cannot be used is reported, and the rest is done.

    Raises:
        RequestError: if there is no file, no model, or if an output cannot be written; before anything is loaded.
    """
    found = find_audio(arguments.files)
    for output in (arguments.csv, arguments.plot):
        if output is not None and not output.parent.is_dir():
            raise RequestError(
                "the output's folder does not exist", where=output, hint=f"mkdir -p {shlex.quote(str(output.parent))}"
            )
        if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
            raise RequestError("the output cannot be written", where=output, expected="a file in a folder of yours")
    spec, heard, coverage = _predicted(arguments, found.files)
    predictions = tuple(_of(prediction, coverage) for prediction in heard)
    predictions += tuple(FilePrediction(audio=as_text(p), seconds=0, scores={}, error=why) for p, why in found.closed)
    result = PredictResult(
        model=f"scorer:{arguments.scorer}"
        if arguments.scorer is not None
        else as_text(arguments.model if arguments.experts is None else arguments.experts),
        predictions=predictions,
        passed_over=found.passed_over,
        coverage=coverage,
        top=arguments.top,
        targets=tuple(spec.to_json()),
    )
    if arguments.csv is not None:
        try:
            _write_csv(result, spec.ids, arguments.csv)
        except OSError as error:  # the scores are still shown, and printed with --json
            result = result.model_validate({**dict(result), "unwritten": f"{arguments.csv}: {error.strerror or error}"})
    if arguments.plot is not None:
        with decoration(f"the plot {arguments.plot}"):
            _plot(result, spec, arguments.plot)
    return result


def _predicted(
    arguments: PredictArguments, files: Sequence[Path]
) -> tuple[TargetSpec, Iterable[Prediction], float | None]:
    """What the model scores, what it heard in each file, and, if wanted, the coverage of its uncertainties."""
    if arguments.scorer is not None:
        return *score_files(arguments, files), None
    shared_decoders().start()  # they import while the model is loaded
    pipeline = _pipeline(arguments)
    if arguments.uncertainty and pipeline.coverage is None:
        raise RequestError(
            "this model does not know how uncertain its scores are",
            where=arguments.model if arguments.experts is None else arguments.experts,
            expected="an ensemble: several experts of each target, and intervals fitted on validation clips",
            found=pipeline.members,
            hint="emonet heads --heads.ensemble 5 trains one",
        )
    with console.progress("listening", "files") as progress:
        heard = pipeline.predict(files, batch_size=arguments.batch_size, progress=progress)
        return pipeline.target_spec, list(heard), pipeline.coverage if arguments.uncertainty else None


def _of(prediction: Prediction, coverage: float | None) -> FilePrediction:
    lengths = {name: getattr(prediction, name) for name in ("seconds", "total")}
    known = {name: None if math.isnan(length) else length for name, length in lengths.items()}
    told = {"audio": as_text(prediction.audio), "scores": dict(prediction.scores)}
    doubts = {"uncertainties": None if coverage is None else dict(prediction.uncertainties)}
    return FilePrediction.model_validate(asdict(prediction) | known | told | doubts)


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

    Audio that libsndfile does not read is among them: it is reported file by file.

    Raises:
        RequestError: if a path does not exist, or a folder holds no audio, or none is named.
    """
    if not paths:
        raise RequestError("no file was named", hint="emonet predict FILE_OR_FOLDER ...")
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
            raise RequestError("there is no such file or folder", where=path)
    return FoundAudio(tuple(files), count_suffixes(others), tuple(closed))


def _no_audio(folder: Path, found: Walk) -> RequestError:
    others = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over(AUDIO).items())
    return RequestError(
        "the folder holds no audio",
        where=folder,
        expected=f"files that end in {', '.join(sorted(READ))}",
        found=f"other files ({others})" if others else "no files",
    )


def show(result: PredictResult) -> None:
    """A table per file on stderr, strongest first, and what could not be used."""
    spec = TargetSpec.from_json(result.targets)
    for prediction in result.predictions:
        if prediction.error is not None:
            console.say(f"[bold red]{console.name(prediction.audio)}[/]: {console.name(prediction.error)}")
            continue
        heard = "" if prediction.seconds is None else f" ({prediction.seconds:.1f} s heard)"
        columns = ["", "score", "scale", ""]
        if result.coverage is not None:
            columns.insert(2, f"± ({100 * result.coverage:g} %)")
        table = Table(*columns, title=f"{console.name(prediction.audio)}{heard}")
        table.title_justify = "left"
        emotions = [name for name in prediction.scores if name in spec.ranked]
        for name in emotions[: result.top]:
            _row(table, spec[name], prediction)
        table.add_section()
        for name in (name for name in prediction.scores if name not in spec.ranked):
            _row(table, spec[name], prediction)
        console.console.print(table)
        for notice in prediction.notices:
            console.say(f"  [yellow]note[/] {console.name(notice)}")
    if result.unwritten is not None:
        console.say(f"[bold red]the table could not be written[/] {console.name(result.unwritten)}")
    failed = sum(prediction.error is not None for prediction in result.predictions)
    if failed:
        console.say(f"{failed} of {len(result.predictions)} files could not be used")
    if result.passed_over:
        console.say(console.passed_over(result.passed_over))


def _row(table: Table, target: Target, prediction: FilePrediction, width: int = 20) -> None:
    score, uncertainties = prediction.scores[target.id], prediction.uncertainties
    bar = "█" * round(max(0.0, min(target.share(score), 1.0)) * width)
    about = [] if uncertainties is None else [shown(uncertainties.get(target.id), 2)]
    table.add_row(console.name(target.name), shown(score, 2), *about, f"{target.low:g} to {target.high:g}", bar)


def _pipeline(arguments: PredictArguments) -> EmotionPipeline:
    from emonet.inference import EmotionPipeline

    if arguments.experts is None:
        if arguments.encoder is not None:
            raise RequestError(
                "--encoder belongs to --experts: a registered model has its own", hint="--experts FOLDER"
            )
        return EmotionPipeline.from_folder(
            _model(arguments), experts_precision=arguments.experts_precision, device=arguments.device
        )
    if arguments.encoder is None:
        raise RequestError(
            "--experts needs the encoder that they were trained on",
            hint="--encoder laion/BUD-E-Whisper@REVISION for published experts, or a folder",
        )
    if arguments.model != DEFAULT_MODEL:
        raise RequestError("--model and --experts name two models", found=arguments.model, hint="give one of them")
    with console.progress("reading", "experts") as progress:
        return EmotionPipeline.from_experts(
            arguments.experts,
            resolve_source(arguments.encoder, Experiment(runs=arguments.runs)),
            experts_precision=arguments.experts_precision,
            device=arguments.device,
            progress=progress,
        )


def _model(arguments: PredictArguments) -> Path:
    """The model's local folder; says which model it is, and what should be known of it."""
    from emonet.registry import CANDIDATE, CHAMPION, PUBLISHED, VOICE, find_version, resolve
    from emonet.tracking import default_uri

    if not arguments.model.startswith(("models:/", "runs:/")):
        return Path(arguments.model)
    uri = default_uri(arguments.runs)
    folder = Path(resolve(arguments.model, uri, arguments.runs))
    champion, candidate = find_version(VOICE, CHAMPION, uri), find_version(VOICE, CANDIDATE, uri)
    used = {f"models:/{VOICE}@{alias}": v for alias, v in ((CHAMPION, champion), (CANDIDATE, candidate))}
    version = used.get(arguments.model)
    if version is not None:
        origin = (
            "imported from published files"
            if version.experiment == PUBLISHED
            else (f"trained by the experiment {console.name(repr(version.experiment))}")
        )
        console.say(f"model: {VOICE} version {version.version}, {origin}")
        if version.experiment == "sandbox":
            console.say("note: it was trained on synthetic voices; its scores of human voices mean nothing")
    if version is champion is not None and candidate is not None and candidate != champion:
        console.say(
            f"note: version {candidate.version} ({console.name(repr(candidate.experiment))}) is newer; "
            f"to use it: --model models:/{VOICE}@{CANDIDATE}"
        )
    return folder


def _plot(result: PredictResult, spec: TargetSpec, path: Path) -> None:
    from emonet.evaluation import scores_figure

    scored = {on_one_line(p.audio): p.scores for p in result.predictions if p.scores}
    drawn = scores_figure(scored, path, top=result.top, spec=spec)
    part = "" if drawn == len(scored) else f" (the first {drawn} of {console.counted(len(scored), 'recording')})"
    console.say(f"plot: {console.name(path)}{part}")


def _write_csv(result: PredictResult, targets: Sequence[str], path: Path) -> None:
    import pandas as pd

    rows = [
        {
            **p.model_dump(exclude={"scores", "uncertainties", "notices"}),
            **p.scores,
            **{f"{target}.uncertainty": value for target, value in (p.uncertainties or {}).items()},
            "notices": "; ".join(p.notices) or None,
        }
        for p in result.predictions
    ]
    about = [f"{target}.uncertainty" for target in targets] if result.coverage is not None else []
    columns = ["audio", "seconds", "total", *targets, *about, "notices", "error"]
    table = pd.DataFrame(rows, columns=columns).to_csv(index=False).encode()
    if path.is_symlink() or (path.exists() and not path.is_file()):  # `/dev/stdout`, a pipe: it stays what it is
        path.write_bytes(table)
    else:
        durable.write(path, table)
    console.say(f"table: {console.name(path)}")
