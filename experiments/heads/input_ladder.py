"""Forms of input compared, by emotion: the table of `emonet heads --compare-inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float
from rich.table import Table

from emonet.configs import EvaluationConfig, InputForm
from emonet.evaluation import METRICS, Estimate, MetricName, Scores, difference
from emonet.schema import Schema
from emonet.targets import PLACEMENT
from experiments.heads.table import stacked

METRIC: MetricName = "pearson"
ALL, HIGH, LOW = "all", "high arousal", "low arousal"


class GroupComparison(Schema):
    """How much every form of input differs from every other over a group of emotions: mean Pearson on test clips."""

    name: str
    """all, high arousal or low arousal, as `emonet.targets.affect` places emotions."""
    targets: tuple[str, ...]
    """Ids of its targets."""
    differences: dict[str, Estimate]
    """`FORM - FORM` -> difference of their means, with the interval of the difference."""


def compare_forms(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Mapping[InputForm, Float[np.ndarray, "clips targets"]],
    *,
    targets: Sequence[str],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> tuple[GroupComparison, ...]:
    """Compare every pair of forms, over all targets and over those of high and of low arousal.

    Args:
        truth: test scores, NaN where nobody rated.
        predictions: by form, of the same clips and targets.
        targets: ids, one per column.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples.
    """
    found = []
    for name, members in _groups(targets).items():
        columns = [targets.index(target) for target in members]
        differences = {
            f"{one} - {other}": difference(
                truth[:, columns],
                predictions[one][:, columns],
                predictions[other][:, columns],
                metric=METRIC,
                speakers=speakers,
                config=config,
                seed=seed,
            )
            for other, one in combinations(predictions, 2)
        }
        found.append(GroupComparison(name=name, targets=members, differences=differences))
    return tuple(found)


def forms_table(test: Mapping[InputForm, Scores], labels: Mapping[str, str]) -> Table:
    """One row per emotion with every form's test figure, the best in bold.

    Args:
        test: test figures by form.
        labels: target id -> published name, for the rows.
    """
    table = _table(f"{METRICS[METRIC].label} of each target by what its expert sees", "best in bold")
    for form in test:
        table.add_column(form)
    for target, label in labels.items():
        table.add_row(label, *_cells([scores.of(METRIC).per_target[target] for scores in test.values()]))
    table.add_section()
    table.add_row("mean", *_cells([scores.of(METRIC).mean for scores in test.values()]))
    return table


def groups_table(groups: Sequence[GroupComparison]) -> Table:
    """One row per pair of forms: by how much the first one's mean is higher, over each group of emotions."""
    table = _table(
        f"Difference of mean {METRICS[METRIC].label}", "arousal as emonet.targets.affect places the emotions"
    )
    for group in groups:
        table.add_column(f"{group.name} ({len(group.targets)})")
    for pair in groups[0].differences:
        table.add_row(pair, *(stacked(group.differences[pair], signed=True) for group in groups))
    return table


def _table(title: str, caption: str) -> Table:
    caption = f"below each figure its bootstrap interval; {caption}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("")
    return table


def _groups(targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    arousal = {target: PLACEMENT[target].arousal for target in targets if target in PLACEMENT}
    groups = {
        ALL: tuple(targets),
        HIGH: tuple(target for target, value in arousal.items() if value > 0),
        LOW: tuple(target for target, value in arousal.items() if value <= 0),
    }
    return {name: members for name, members in groups.items() if members}


def _cells(estimates: Sequence[Estimate]) -> list[str]:
    values = [estimate.value for estimate in estimates]
    best = max((value for value in values if value is not None), default=None)
    return [
        f"[bold]{stacked(estimate)}[/]" if best is not None and estimate.value == best else stacked(estimate)
        for estimate in estimates
    ]
