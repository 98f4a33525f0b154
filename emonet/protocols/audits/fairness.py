"""Fairness: figures by group, and gaps between groups with intervals and p values by permutation over speakers."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.evaluation import COLOURS, DPI, GRID, INK, Estimate, Scored, bare, holm, labelled
from emonet.protocols.audits.contrasts import PERMUTATIONS, Contrast
from emonet.protocols.audits.groups import Grouping
from emonet.protocols.audits.judging import JUDGED, Draws, Truth, estimates, figures, matrix
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

SOURCE: Final = "audit of emonet; see docs/benchmark-robustness.md"
FEWEST: Final = 10  # clips of a group, below which it is shown but takes no part in gaps and pairs
MOST: Final = 8  # groups of which all pairs are compared
OTHERWISE: Final = 0.1  # share of clips by which classes of two groups may differ without a note
LONGEST: Final = 120  # groups in a picture
_BY = Column(name="grouping", label="By")
_METRIC = Column(name="metric", label="Metric")
_TESTED: Final = (
    Column(name="p", label="p", digits=4, about="By permutation over speakers (0 to 1)."),
    Column(name="p_holm", label="p (Holm)", digits=4, about="Corrected for being several."),
    Column(
        name="smallest_p",
        label="Smallest p",
        digits=4,
        about="That so many speakers can give at all.",
    ),
    Column(name="over", label="Interval over", about="What resamples drew; clips where a group has below 5 speakers."),
    Column(name="note", label="Note"),
)


def fairness_tables(
    scored: Scored,
    clips: Sequence[Clip],
    truth: Truth,
    groupings: Sequence[Grouping],
    *,
    metrics: Sequence[str] = (),
    evaluation: EvaluationConfig | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> tuple[ProtocolTable, ProtocolTable, ProtocolTable]:
    """Figures by group, the gaps between the best group and the worst, and the differences of all pairs of groups.

    Groups of fewer than 10 clips are shown, and take no part in gaps and pairs; of up to 8 groups all pairs are
    compared, by the first metric.

    Args:
        scored: by the model.
        clips: that were scored.
        truth: what people said of them.
        groupings: how they are divided.
        metrics: of `JUDGED`; by default as `Truth.metrics` has them.
        evaluation: resamples and coverage.
        permutations: behind each p value (count).
        seed: of resamples and permutations.

    Raises:
        RequestError: if the scores are of other clips, or a metric cannot be measured.
    """
    wanted, evaluation = truth.check(metrics), evaluation or EvaluationConfig()
    audit = _Audit(scored, clips, truth, wanted, evaluation, permutations, seed)
    notes = tuple(filter(None, map(audit.ungrouped, groupings)))
    groups = tuple(Row(cells=cells) for one in groupings for cells in audit.groups(one))
    gaps = [row for one in groupings for row in audit.gaps(one)]
    of_metrics = [_corrected([row for row in gaps if row["metric"] == JUDGED[name].label]) for name in wanted]
    pairs = [_corrected(audit.pairs(one)) for one in groupings]
    return (
        _groups(groups, wanted, notes),
        _gaps([row for rows in of_metrics for row in rows]),
        _pairs([row for rows in pairs for row in rows]),
    )


def fairness_figure(table: ProtocolTable, metric: str, path: Path | BytesIO) -> None:
    """One metric by group with its intervals; hollow where the group is a single speaker.

    Args:
        table: the first one of `fairness_tables`.
        metric: one of its metrics.
        path: where to, in the format of its suffix.
    """
    rows = table.rows[:LONGEST][::-1]
    names = list(dict.fromkeys(str(row.cells["grouping"]) for row in table.rows))
    figure = Figure(figsize=(7, 0.22 * len(rows) + 1.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for height, row in enumerate(rows):
        cell, colour = row.cells.get(metric), COLOURS[names.index(str(row.cells["grouping"])) % len(COLOURS)]
        if not isinstance(cell, Estimate) or cell.value is None:
            continue
        if cell.low is not None and cell.high is not None:
            axis.plot([cell.low, cell.high], [height, height], color=colour, linewidth=1.4)
        face = "white" if row.cells["speakers"] == 1 else colour
        axis.plot([cell.value], [height], "o", markersize=4.5, markeredgecolor=colour, markerfacecolor=face)
    axis.set_yticks(range(len(rows)), [labelled(f"{row.cells['grouping']}: {row.cells['group']}") for row in rows])
    axis.set_ylim(-0.8, len(rows) - 0.2)
    left_out = len(table.rows) - len(rows)
    more = f"; {left_out} more groups are in the table" if left_out else ""
    label = f"{JUDGED[metric].label} ({JUDGED[metric].better} is better); hollow: a single speaker{more}"
    axis.set_xlabel(label, fontsize=8, color=INK)
    axis.grid(axis="x", color=GRID)
    axis.set_axisbelow(True)
    bare(axis)
    figure.savefig(path)


class _Audit:
    """Rows of the tables, grouping by grouping."""

    def __init__(
        self,
        scored: Scored,
        clips: Sequence[Clip],
        truth: Truth,
        metrics: tuple[str, ...],
        evaluation: EvaluationConfig,
        permutations: int,
        seed: int,
    ) -> None:
        self._truth, self._metrics, self._evaluation = truth, metrics, evaluation
        self._permutations, self._seed = permutations, seed
        self._scores = matrix(scored, clips, truth.spec)
        self._heard = np.isfinite(self._scores).all(1)
        self._judged = self._heard & truth.judged()
        self._speakers = np.array([clip.speaker for clip in clips])

    def ungrouped(self, by: Grouping) -> str | None:
        """A note on clips without a group."""
        missing = sum(group is None for group in by.groups)
        return f"by {by.name}: {missing:,} of {len(by.groups):,} clips are in no group" if missing else None

    def groups(self, by: Grouping) -> list[dict[str, Cell]]:
        """Figures of each group."""
        found = []
        for group in by.sizes:
            of = np.array([one == group for one in by.groups])
            rows = np.flatnonzero(of & self._judged)
            speakers = self._speakers[rows].tolist()
            cells: dict[str, Cell] = {
                "grouping": by.name,
                "group": group,
                "speakers": len(set(speakers)),
                "clips": len(rows),
                "refused": int((of & ~self._heard).sum()),
            }
            if len(rows):
                draws = Draws.of(speakers, self._evaluation, self._seed)
                measured = figures(self._truth, self._scores, self._metrics, rows, draws.weights, draws.owner)
                cells |= estimates(measured, draws, self._evaluation) | {
                    "note": _about(len(set(speakers)), len(rows), draws)
                }
            found.append(cells)
        return found

    def gaps(self, by: Grouping) -> list[dict[str, Cell]]:
        """The best group less the worst one, by metric; none where there are not two groups to compare."""
        names, contrast = self._contrast(by)
        if contrast is None:
            return []
        p_values, found = contrast.p_values(), []
        for metric in self._metrics:
            values = {row: contrast.by_group[row][metric][0] for row in range(len(names))}
            defined = sorted((row for row in values if np.isfinite(values[row])), key=values.__getitem__)
            if len(defined) < 2:
                continue
            ends = (defined[-1], defined[0])
            best, worst = ends if JUDGED[metric].better == "higher" else ends[::-1]
            found.append(
                {
                    "grouping": by.name,
                    "metric": JUDGED[metric].label,
                    "best": names[best],
                    "worst": names[worst],
                    "gap": contrast.difference(*ends)[metric],
                    **self._tested(contrast, p_values[metric]),
                }
            )
        return found

    def pairs(self, by: Grouping) -> list[dict[str, Cell]]:
        """Each group less each later one, by the first metric."""
        names, contrast = self._contrast(by)
        if contrast is None or len(names) > MOST:
            return []
        metric, found = self._metrics[0], []
        for one, other in combinations(range(len(names)), 2):
            pair = contrast.among(one, other)
            found.append(
                {
                    "grouping": by.name,
                    "metric": JUDGED[metric].label,
                    "one": names[one],
                    "other": names[other],
                    "difference": pair.difference(0, 1)[metric],
                    **self._tested(pair, pair.p_values()[metric]),
                }
            )
        return found

    def _contrast(self, by: Grouping) -> tuple[list[str], Contrast | None]:
        """The groups with clips enough, and what compares them."""
        groups = np.array([group or "" for group in by.groups])
        known = np.array([group is not None for group in by.groups]) & self._judged
        names = [group for group in by.sizes if (known & (groups == group)).sum() >= FEWEST]
        if len(names) < 2:
            return names, None
        rows = np.flatnonzero(known & np.isin(groups, names))
        numbers: Int[np.ndarray, " rows"] = np.array([names.index(groups[row]) for row in rows], np.int64)
        contrast = Contrast(
            self._truth,
            self._scores,
            self._metrics,
            rows,
            self._speakers[rows],
            numbers,
            self._evaluation,
            self._permutations,
            self._seed,
        )
        return names, contrast

    def _tested(self, contrast: Contrast, p: float | None) -> dict[str, Cell]:
        single = sum(contrast.speakers_of(group) == 1 for group in range(contrast.count))
        notes = (
            [f"{single} of {contrast.count} groups {'is' if single == 1 else 'are'} a single speaker"] if single else []
        )
        if (apart := contrast.classes_apart) > OTHERWISE:
            notes.append(f"the groups hold other classes: {100 * apart:.0f} % of the clips would have to be of another")
        notes += ["no test: dealing speakers anew changes nothing"] if contrast.smallest_p >= 1 else []
        smallest = None if contrast.smallest_p >= 1 else contrast.smallest_p
        return {"p": p, "smallest_p": smallest, "over": contrast.draws.unit, "note": "; ".join(notes) or None}


def _about(speakers: int, clips: int, draws: Draws) -> str | None:
    notes = ["a single speaker: says nothing of others like him or her"] if speakers == 1 else []
    notes += ["interval over clips"] if draws.unit == "clips" else []
    notes += [f"fewer than {FEWEST} clips: in no gap"] if clips < FEWEST else []
    return "; ".join(notes) or None


def _corrected(rows: Sequence[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """The same rows with p values corrected over all of them."""
    found = holm([p if isinstance(p := row["p"], float) else None for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, found, strict=True)]


def _groups(rows: tuple[Row, ...], metrics: Sequence[str], notes: tuple[str, ...]) -> ProtocolTable:
    return ProtocolTable(
        name="fairness",
        title="Figures by group",
        source=SOURCE,
        columns=(
            _BY,
            Column(name="group", label="Group"),
            Column(name="speakers", label="Speakers", about="Heard by the model and judged by people (count)."),
            Column(name="clips", label="Clips", about="Of these speakers (count)."),
            Column(name="refused", label="Refused", better="lower", about="By the model (count)."),
            *(Column(name=one, label=JUDGED[one].label, better=JUDGED[one].better) for one in metrics),
            _TESTED[-1],
        ),
        rows=rows,
        notes=notes,
    )


def _gaps(rows: Sequence[dict[str, Cell]]) -> ProtocolTable:
    about = (
        "Size of the difference of the two on all clips; since they were chosen as the best and the worst, too large."
    )
    return ProtocolTable(
        name="fairness_gaps",
        title="The best group less the worst one",
        source=SOURCE,
        columns=(
            *(_BY, _METRIC, Column(name="best", label="Best"), Column(name="worst", label="Worst")),
            Column(name="gap", label="Gap", better="lower", about=about),
            *_TESTED,
        ),
        rows=tuple(Row(cells=row) for row in rows),
        notes=(
            "p is that of the largest difference between any two groups, which accounts for the choice of the two; the "
            "interval does not. Corrected over groupings, metric by metric.",
        ),
    )


def _pairs(rows: Sequence[dict[str, Cell]]) -> ProtocolTable:
    return ProtocolTable(
        name="fairness_pairs",
        title="Differences of all pairs of groups",
        source=SOURCE,
        columns=(
            *(_BY, _METRIC, Column(name="one", label="One"), Column(name="other", label="Other")),
            Column(name="difference", label="Difference", about="The one's figure less the other's."),
            *_TESTED,
        ),
        rows=tuple(Row(cells=row) for row in rows),
        notes=(f"Groupings of up to {MOST} groups; corrected over the pairs of a grouping.",),
    )
