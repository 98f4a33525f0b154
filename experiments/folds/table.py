"""The tables of figures over folds that `emonet heads --folds` ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from emonet.evaluation import METRICS, Estimate
from experiments.core import counted
from experiments.folds.results import CLASS_FIGURES, EXPERTS, FoldFigures, FoldsResult
from experiments.heads import metric_table, stacked

_NONE = Estimate(value=None, low=None, high=None)


def tables(result: FoldsResult) -> Iterator[Table]:
    """Figures of classes, if there are some, and of scores: a row for each baseline, the experts last and bold."""
    over = f"{result.experiment}: {counted(len(result.folds), 'fold')} ({result.asked}), {told(result)}"
    caption = (
        f"mean over folds; below each figure its bootstrap interval ({result.test.resampled} resampled); "
        "pooled: the experts on the test clips of all folds together"
    )
    if result.classes is not None:
        table = metric_table(f"{over}; {result.classes.told()}", f"by argmax over experts; {caption}", ())
        for label in CLASS_FIGURES.values():
            table.add_column(f"{label} ↑", no_wrap=True)
        table.padding = (0, 1, 0, 0)
        yield _filled(table, result.rows, list(CLASS_FIGURES))
    table = metric_table(f"{over}; mean over {result.test.averaged('rated targets')}", caption)
    yield _filled(table, result.rows, list(METRICS))


def told(result: FoldsResult) -> str:
    """What was tested, in words, with what has to be known of it."""
    clips = counted(sum(fold.clips["test"] for fold in result.folds), "test clip")
    marks = [mark.partition(":")[0] for mark in result.marks]
    return ", ".join([clips, *(mark.upper() for mark in marks)])


def _filled(table: Table, rows: Mapping[str, FoldFigures], names: list[str]) -> Table:
    for label, figures in list(rows.items())[::-1]:
        estimates = [figures.of(name) for name in names]
        if not any(estimates):
            continue
        if label == EXPERTS:
            table.add_row("pooled", *(stacked(one.pooled if one else _NONE) for one in estimates))
        style = "bold" if label == EXPERTS else None
        table.add_row(label, *(stacked(one.estimate if one else _NONE) for one in estimates), style=style)
    return table
