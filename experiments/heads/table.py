"""The table of test figures that `emonet heads` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from emonet.configs import InputForm
from emonet.evaluation import CLASS_METRICS, METRICS, ClassScores, Estimate, Metric, Scores
from emonet.numbers import shown

if TYPE_CHECKING:
    from experiments.heads.forms import FormScores
    from experiments.heads.verb import HeadsResult


def rows(
    chosen: InputForm, forms: Mapping[InputForm, FormScores], baselines: Mapping[str, Scores]
) -> dict[str, Scores]:
    """Label -> test figures: the chosen experts, other forms, baselines."""
    others = {f"experts, {form}": tried.test for form, tried in forms.items() if form != chosen}
    return {f"experts, {chosen}": forms[chosen].test, **others, **baselines}


def class_rows(result: HeadsResult) -> dict[str, ClassScores]:
    """Label -> classification figures: the chosen experts, other forms, baselines; empty where there are no classes."""
    if result.classes is None:
        return {}
    others = {f"experts, {form}": one.classes for form, one in result.forms.items() if form != result.input}
    found: dict[str, ClassScores | None] = {f"experts, {result.input}": result.classes}
    found |= others | result.baseline_classes
    return {label: scores for label, scores in found.items() if scores is not None}


def class_figures(name: str, rows: Mapping[str, ClassScores]) -> Table:
    """One row per baseline and form, the first of `rows` last and bold; figures with their intervals.

    Args:
        name: of the experiment.
        rows: label -> figures; not empty.
    """
    first = next(iter(rows.values()))
    table = metric_table(
        f"{name}: {first.told()}, by argmax over their experts",
        f"UA: mean recall over classes, WA: share of clips that are right; below each figure its bootstrap interval "
        f"({first.resampled} resampled)",
        (),
    )
    for label in CLASS_METRICS.values():
        table.add_column(f"{label} ↑", no_wrap=True)
    table.padding = (0, 1, 0, 0)
    for number, (label, scores) in enumerate(reversed(list(rows.items())), start=1):
        style = "bold" if number == len(rows) else None
        table.add_row(label, *(stacked(scores.of(metric)) for metric in CLASS_METRICS), style=style)
    return table


def figures(result: HeadsResult) -> Table:
    """One row per baseline and form, the chosen one last and bold; means over targets with their intervals."""
    test = result.test
    table = metric_table(
        f"{result.experiment}: {test.clips} test clips, mean over {test.averaged('rated targets')}",
        f"below each figure its bootstrap interval ({test.resampled} resampled); "
        f"{result.input} chosen on validation clips",
    )
    chosen, *others = rows(result.input, result.forms, result.baselines).items()
    for label, scores in [*others[len(result.forms) - 1 :], *others[: len(result.forms) - 1], chosen]:
        cells = [stacked(scores.of(name).mean) for name in METRICS]
        table.add_row(label, *cells, style="bold" if label == chosen[0] else None)
    return table


def metric_table(title: str, caption: str, metrics: Sequence[Metric] = tuple(METRICS.values())) -> Table:
    """An empty table of models and their metrics, narrow enough for 80 columns.

    Args:
        title: above it.
        caption: below it, wrapped.
        metrics: one column each, after that of labels; those wrap where there is too little room.
    """
    table = Table(
        title=title,
        caption=fill(caption, 80, break_long_words=False, break_on_hyphens=False),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    table.add_column("", overflow="fold")
    for metric in metrics:
        table.add_column(f"{metric.label} {'↓' if metric.better == 'lower' else '↑'}", no_wrap=True)
    return table


def stacked(estimate: Estimate, *, signed: bool = False) -> str:
    """The figure, and its interval below it; a dash where it is undefined.

    Args:
        estimate: to be shown.
        signed: with a sign, as differences are.
    """
    value, low, high = (shown(one, signed=signed) for one in (estimate.value, estimate.low, estimate.high))
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{low}{' to ' if signed else '–'}{high}"
