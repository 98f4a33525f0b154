"""Tables of a comparison at the terminal, and its sentences; all fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from emonet.evaluation import (
    CLASS_METRICS,
    METRICS,
    Comparison,
    ContenderFacts,
    MetricName,
    PairwiseDifference,
    excludes_zero,
)
from emonet.numbers import UNDEFINED, shown
from experiments.core import console
from experiments.heads import metric_table, stacked

WIDER = (0, 1, 0, 0)  # where columns leave room
PAIRED: tuple[MetricName, ...] = ("mae", "pearson", "ccc")  # no more fit beside the names of two models


def sentence(comparison: Comparison, pair: PairwiseDifference) -> str:
    """What a pair comes to, in plain words: which model is better and by how much, or that it cannot be told."""
    if (pair.mean["mae"].value or 0.0) > 0:
        pair = pair.swapped()  # so that the first one has the smaller error
    gain = pair.swapped().mean["mae"]  # how much smaller
    if gain.value is None:
        return f"{pair.one} and {pair.other} cannot be compared: no clip has a score."
    if gain.low is None or gain.high is None:
        return (
            f"No difference between {pair.one} and {pair.other} can be told: the error of {pair.one} is smaller by "
            f"{shown(gain.value)} MAE, without an interval, since all ratings are of one {comparison.resampled[:-1]}."
        )
    if gain.low == gain.high == 0 == gain.value:
        return f"{pair.one} and {pair.other} make the same errors."
    figures = f"{shown(gain.value)} MAE {gain.between()}, {p_text(pair.p, 'p')}"
    if pair.is_significant(comparison.alpha):
        return f"{pair.one} is better than {pair.other} by {figures}.{_emotions(comparison, pair)}"
    if excludes_zero(gain) and not comparison.test.confirms(comparison.alpha):
        few = f"with {comparison.test.units} {comparison.test.unit} no p value can be at most {comparison.alpha:g}"
        return (
            f"{pair.one} is better than {pair.other} by {figures}, going by the interval alone: {few}."
            f"{_emotions(comparison, pair)}"
        )
    unsure = "; the interval excludes 0, but the permutation test does not confirm it" if excludes_zero(gain) else ""
    return (
        f"No difference between {pair.one} and {pair.other} can be told: the error of {pair.one} is smaller by "
        f"{figures}{unsure}.{_emotions(comparison, pair)}"
    )


def p_text(p: float | None, name: str = "") -> str:
    """`0.012`, `< 0.001` or a dash; with a name `p = 0.012`."""
    text = UNDEFINED if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
    return text if not name else f"{name} {text}" if text.startswith("<") else f"{name} = {text}"


def seen_text(facts: ContenderFacts, clips: int) -> str:
    """What is known of a model's training on the clips it is compared on; empty where it saw none."""
    if facts.seen_clips is None:
        return "training clips not known"
    return f"trained on {facts.seen_clips:,} of these {clips:,} clips" if facts.seen_clips else ""


def comparison_table(comparison: Comparison) -> Table:
    """One row per model: every metric's mean over emotions, with its interval below."""
    notes = [
        f"{'† ' if facts.seen_clips else ''}{escape(label)}: {seen}"
        for label, facts in comparison.facts.items()
        if (seen := seen_text(facts, comparison.clips)) and not facts.baseline
    ]
    table = metric_table(
        f"{console.counted(comparison.clips, 'clip')} of {console.counted(comparison.speakers, 'speaker')}, "
        f"mean over {comparison.averaged}",
        "; ".join([_intervals(comparison), *notes]),
    )
    for label, scores in comparison.scores.items():
        mark = " †" if comparison.facts[label].seen_clips else ""
        table.add_row(escape(label) + mark, *(stacked(scores.of(name).mean) for name in METRICS))
    return table


def classes_table(comparison: Comparison) -> Table:
    """One row per model: UA, WA and macro F1 of the class whose expert is highest, with their intervals below."""
    first = next(iter(comparison.classes.values()))
    table = metric_table(f"Classes by argmax: {first.told()}", _intervals(comparison), ())
    table.padding = WIDER
    for label in CLASS_METRICS.values():
        table.add_column(f"{label} ↑", no_wrap=True)
    for model, scores in comparison.classes.items():
        table.add_row(escape(model), *(stacked(scores.of(name)) for name in CLASS_METRICS))
    return table


def class_pairs_table(comparison: Comparison) -> Table:
    """One row per pair: how much larger the first model's classification figures are, and p of UA."""
    table = metric_table("Classes: first model less second", f"{_intervals(comparison)}; p of UA", ())
    table.padding = WIDER
    for label in (*CLASS_METRICS.values(), "p"):
        table.add_column(label, no_wrap=True)
    for pair in comparison.pairs:
        if pair.classes is not None:
            cells = [stacked(pair.classes.of(name), signed=True) for name in CLASS_METRICS]
            table.add_row(f"{escape(pair.one)}\n−\u00a0{escape(pair.other)}", *cells, p_text(pair.classes.p))
    return table


def costs_table(comparison: Comparison) -> Table:
    """One row per model: parameters, size, time and memory."""
    table = metric_table("What they cost", "encoder and experts together", ())
    table.padding = WIDER
    for heading in ("parameters", "MB", "ms per clip", "MiB memory"):
        table.add_column(heading, no_wrap=True, justify="right")
    for label, facts in comparison.facts.items():
        table.add_row(escape(label), *costs(facts))
    return table


def costs(facts: ContenderFacts) -> tuple[str, str, str, str]:
    """Parameters, MB, ms per clip and MiB of memory as text; a dash where not known."""
    parameters = UNDEFINED if facts.parameters is None else f"{facts.parameters:,}"
    return parameters, _three(facts.megabytes), _three(facts.milliseconds), _three(facts.memory_mib)


def pairs_table(comparison: Comparison) -> Table:
    """One row per pair: how much larger the first model's means are, and p of MAE; below, what to know of p values."""
    table = metric_table(
        "First model less second",
        " ".join(
            [
                f"{_intervals(comparison)}; p of MAE; bold: its interval and p value agree on a difference.",
                *comparison.notes(),
            ]
        ),
        [METRICS[name] for name in PAIRED],
    )
    table.add_column("p", no_wrap=True, justify="right")
    for pair in comparison.pairs:
        cells = [stacked(pair.mean[name], signed=True) for name in PAIRED]
        style = "bold" if pair.is_significant(comparison.alpha) else None
        table.add_row(f"{escape(pair.one)}\n−\u00a0{escape(pair.other)}", *cells, p_text(pair.p), style=style)
    return table


def differences_table(comparison: Comparison, pair: PairwiseDifference, names: Mapping[str, str]) -> Table:
    """One row per emotion: both MAEs, their difference with its interval, p values; significant ones are bold."""
    made = "all swaps" if comparison.test.exact else f"{comparison.test.permutations:,} random swaps"
    table = metric_table(
        f"MAE by target: {escape(pair.one)} less {escape(pair.other)}",
        f"p: paired permutation test, {comparison.test.unit} swapped ({made}), then Holm's correction; "
        f"bold: at most {comparison.alpha:g} after it",
        (),
    )
    table.padding = WIDER
    for heading in ("first", "second", "difference", "p", "Holm"):
        table.add_column(heading, no_wrap=True, justify="right")
    significant = set(pair.significant(comparison.alpha))
    for target, each in pair.emotions.items():
        both = [comparison.scores[label].mae.per_target[target].value for label in (pair.one, pair.other)]
        table.add_row(
            escape(names[target]),
            *(shown(value) for value in both),
            f"{each.mae:+}",
            p_text(each.p),
            p_text(each.p_holm),
            style="bold" if target in significant else None,
        )
    return table


def _emotions(comparison: Comparison, pair: PairwiseDifference) -> str:
    """On how many single emotions the first model is significantly better or worse, as a sentence."""
    found = [pair.emotions[target].mae.value or 0.0 for target in pair.significant(comparison.alpha)]
    better, worse, tests = sum(value < 0 for value in found), sum(value > 0 for value in found), comparison.test.tests
    if not found:
        possible = tests > 1 and comparison.test.confirms_emotions(comparison.alpha)  # else notes() says so
        return f" No single one of {tests} targets differs significantly." if possible else ""
    return f" It is significantly better on {better} and worse on {worse} of {tests} targets."


def _intervals(comparison: Comparison) -> str:
    return f"below each figure its {100 * comparison.confidence:g} % bootstrap interval ({comparison.resampled} drawn)"


def _three(value: float | None) -> str:
    """Three significant digits, and all digits before the point; a dash where not known."""
    if value is None:
        return UNDEFINED
    return f"{value:,.0f}" if value >= 100 else f"{value:z.3g}"
