"""Scores for people: a table per file, or one of all parts."""

from __future__ import annotations

from rich.table import Table

from emonet.numbers import shown
from emonet.targets import Target, TargetSpec
from experiments.core import console
from experiments.predict.results import FilePrediction, PredictResult

MOST_PARTS = 40  # rows of the table of parts that a screen shows
_STRONGEST = 3  # emotions of a part
_COLUMNS = ("recording", "from (s)", "to (s)", "speaker", "channel", "strongest", "notes")


def show(result: PredictResult) -> None:
    """A table per file on stderr, strongest first, or one of all parts, and what could not be used."""
    spec = TargetSpec.from_json(result.targets)
    if result.in_parts:
        _show_parts(result, spec)
    for prediction in () if result.in_parts else result.predictions:
        _show_file(prediction, result, spec)
    if result.unwritten is not None:
        console.say(f"[bold red]the table could not be written[/] {console.name(result.unwritten)}")
    failed = sum(prediction.error is not None for prediction in result.predictions)
    if failed:
        console.say(
            f"{failed} of {len(result.predictions)} {'parts' if result.in_parts else 'files'} could not be used"
        )
    if result.passed_over:
        console.say(console.passed_over(result.passed_over))


def _show_file(prediction: FilePrediction, result: PredictResult, spec: TargetSpec) -> None:
    """A line per target, strongest emotions first."""
    if prediction.error is not None:
        console.say(f"[bold red]{console.name(prediction.audio)}[/]: {console.name(prediction.error)}")
        return
    heard = "" if prediction.seconds is None else f" ({prediction.seconds:.1f} s heard)"
    about = [] if result.coverage is None else [f"± ({100 * result.coverage:g} %)"]
    about += [] if prediction.standardised is None else ["z"]
    table = Table("", "score", *about, "scale", "", title=f"{console.name(prediction.audio)}{heard}")
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


def _show_parts(result: PredictResult, spec: TargetSpec) -> None:
    """A line per part: when, who, and the strongest emotions; columns without a value are left out."""
    rows = [_part(prediction, spec) for prediction in result.predictions[:MOST_PARTS]]
    several = len({prediction.audio for prediction in result.predictions}) > 1
    columns = [name for name in _COLUMNS if any(row[name] for row in rows) and (several or name != "recording")]
    table = Table(*columns, title=None if several else console.name(result.predictions[0].audio))
    table.title_justify = "left"
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    console.console.print(table)
    if len(result.predictions) > MOST_PARTS:
        console.say(f"and {len(result.predictions) - MOST_PARTS} more: --csv or --json has them all")


def _part(one: FilePrediction, spec: TargetSpec) -> dict[str, str]:
    strongest = [name for name in one.scores if name in spec.ranked][:_STRONGEST]
    is_whole = one.start is None and one.end is None
    values = (
        console.name(one.audio),
        "" if is_whole else shown(one.start or 0.0, 2),
        "" if is_whole else shown(one.end, 2),
        console.name(one.speaker or ""),
        "" if one.channel is None else str(one.channel),
        ", ".join(f"{console.name(spec[name].name)} {shown(one.scores[name], 2)}" for name in strongest),
        console.name("; ".join(one.notices) if one.error is None else one.error),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _row(table: Table, target: Target, prediction: FilePrediction, width: int = 20) -> None:
    score, uncertainties = prediction.scores[target.id], prediction.uncertainties
    bar = "█" * round(max(0.0, min(target.share(score), 1.0)) * width)
    about = [] if uncertainties is None else [shown(uncertainties.get(target.id), 2)]
    about += [] if prediction.standardised is None else [shown(prediction.standardised.get(target.id), 1)]
    table.add_row(console.name(target.name), shown(score, 2), *about, f"{target.low:g} to {target.high:g}", bar)
