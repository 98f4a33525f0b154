"""EmoBox over its folds: UA, WA and macro F1, by what the epoch was chosen on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError, shortened
from emonet.evaluation import ClassMetricName, ClassScores, Estimate, FoldEstimate, fold_classes, sample_classes
from emonet.protocols.emobox.leaderboard import EMOBOX, FIGURES, per_cent, ranked
from emonet.protocols.emobox.training import HeardStates, Selection, TrainedFold
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

MEAN, POOLED = "mean over folds", "all clips"
_HELD_OUT = {
    "speakers": "speakers held out of training",
    "clips": "training clips at random",
    "files": "the validation clips of EmoBox's files",
}
_SELECTIONS: tuple[Selection, ...] = ("validation", "last", "test")


def selected(
    runs: Sequence[TrainedFold], data: HeardStates, by: Selection, config: EvaluationConfig, *, seed: int = 0
) -> tuple[ClassScores, dict[ClassMetricName, FoldEstimate]]:
    """Figures on all test clips, and fold by fold with their mean, with intervals over speakers (0 to 1).

    Args:
        runs: of each fold.
        data: that they were trained on.
        by: how each fold's epoch is chosen.
        config: resamples and coverage.
        seed: of the resamples.

    Raises:
        RequestError: if there are no folds.
    """
    if not runs:
        raise RequestError("there are no folds to score")
    rows = np.concatenate([run.test for run in runs])
    folds = np.repeat(np.arange(len(runs)), [len(run.test) for run in runs])
    predicted = np.concatenate([run.predicted[run.epoch(by)] for run in runs]).astype(np.int64)
    given: Int[np.ndarray, " tested"] = data.labels.given[rows]
    speakers = [data.speakers[row] for row in rows.tolist()]
    sampled = sample_classes(
        given, predicted, classes=data.labels.classes.names, speakers=speakers, config=config, seed=seed
    )
    assert sampled is not None  # folds test nothing but clips with a class
    pooled = sampled.scores()
    return pooled, fold_classes(given, predicted, pooled, folds=folds, speakers=speakers, config=config, seed=seed)


def emobox_table(
    runs: Sequence[TrainedFold], data: HeardStates, config: EvaluationConfig, *, seed: int = 0
) -> ProtocolTable:
    """UA, WA and macro F1 of a run by each way of choosing the epoch: mean over folds, all clips, and each fold.

    Args:
        runs: what `train_folds` gives.
        data: that they were trained on.
        config: resamples and coverage of intervals, which are over speakers.
        seed: of the resamples.

    Raises:
        RequestError: if there are no folds.
    """
    rows: list[Row] = []
    means: dict[Selection, float] = {}
    for by in _SELECTIONS:
        pooled, over = selected(runs, data, by, config, seed=seed)
        means[by] = over["ua"].mean or 0.0
        rows += _rows(runs, by, pooled, over)
    gain = 100 * (means["test"] - means["validation"])
    notes = [f"choosing the epoch on test clips adds {gain:.1f} points of UA in the mean over folds"]
    if any(run.held_out == "clips" for run in runs):
        notes.append("validation clips are of speakers who are trained on, too, as EmoBox has it")
    leaking = {run.name: run.shared for run in runs if run.shared}
    if leaking:
        names = shortened(sorted({one for shared in leaking.values() for one in shared}), 5)
        notes.append(f"fold {', '.join(leaking)}: tested speakers are trained on, too ({names})")
    left = int(len(data.clips) - sum(len(run.test) for run in runs))
    if left:
        notes.append(f"{left:,} clips are tested in no fold, or have no class")
    return ProtocolTable(
        name="emobox",
        title="EmoBox's head on frozen states, over folds",
        source=f"{EMOBOX}, intra-corpus; its head as in emo-box/EmoBox at 08280f27",
        columns=(
            Column(
                name="selection", label="epoch chosen by", about="What the best UA of all epochs was looked for on."
            ),
            Column(name="fold", label="fold"),
            Column(name="clips", label="clips", about="Tested (count)."),
            Column(name="epoch", label="epoch", about="That counts, from 1."),
            *FIGURES,
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def emobox_rank(
    corpus: str,
    name: str,
    runs: Sequence[TrainedFold],
    data: HeardStates,
    config: EvaluationConfig,
    *,
    seed: int = 0,
) -> ProtocolTable:
    """An encoder among EmoBox's ten: means over folds, and beside them what choosing on test clips would have given.

    Args:
        corpus: EmoBox's name of it.
        name: of the encoder.
        runs: what `train_folds` gives.
        data: that they were trained on.
        config: resamples and coverage of intervals.
        seed: of the resamples.

    Raises:
        RequestError: if EmoBox has no such corpus, or there are no folds.
    """

    def means(by: Selection) -> dict[ClassMetricName, Estimate | float]:
        return {metric: one.estimate for metric, one in selected(runs, data, by, config, seed=seed)[1].items()}

    return ranked(corpus, name, means("validation"), optimistic=means("test"))


def _rows(
    runs: Sequence[TrainedFold], by: Selection, pooled: ClassScores, over: dict[ClassMetricName, FoldEstimate]
) -> list[Row]:
    label = {"last": "nothing: the last one", "test": "test clips"}.get(by) or _HELD_OUT[runs[0].held_out]
    clips = sum(len(run.test) for run in runs)
    lines: list[tuple[str, int, int | None, dict[ClassMetricName, Estimate | float | None]]] = [
        (MEAN, clips, None, {metric: one.estimate for metric, one in over.items()}),
        (POOLED, clips, None, {metric: pooled.of(metric) for metric in over}),
    ]
    for number, run in enumerate(runs):
        figures = {metric: one.per_fold[number] for metric, one in over.items()}
        lines.append((run.name, len(run.test), run.epoch(by) + 1, dict(figures)))
    rows = []
    for fold, count, epoch, values in lines:
        cells: dict[str, Cell] = {"selection": label, "fold": fold, "clips": count, "epoch": epoch}
        cells |= {metric: None if value is None else per_cent(value) for metric, value in values.items()}
        rows.append(Row(cells=cells, kind="optimistic" if by == "test" else "measured"))
    return rows
