"""Robustness: how far a model's figures fall when its recordings are noisy, reverberant, coded or played otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emonet.audio import PERTURBATIONS, Perturbation, open_perturbations
from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.evaluation import ACCENT, DPI, FAINT, GRID, INK, Estimate, Scored, bare
from emonet.protocols.audits.judging import JUDGED, Draws, Truth, estimates, figures, matrix, mean
from emonet.protocols.audits.perturbed import CLEAN
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

SOURCE: Final = "perturbations of emonet.audio, one at a time; see docs/benchmark-robustness.md"
SHOWN: Final = 3  # refused clips that a note names
_PANELS: Final = 4  # side by side
_Scores = Float64[np.ndarray, "clips targets"]


def robustness_table(
    scored: Mapping[str, Scored],
    clips: Sequence[Clip],
    truth: Truth,
    *,
    metrics: Sequence[str] = (),
    evaluation: EvaluationConfig | None = None,
    seed: int = 0,
) -> ProtocolTable:
    """Each metric by condition, and how much it differs from that of the clean clips.

    Metrics are over the clips that were heard; differences are paired: over the clips that were heard both clean and
    perturbed, on the same resamples of speakers.

    Args:
        scored: by condition, `clean` among them, as `score_conditions` gives them.
        clips: that were scored.
        truth: what people said of them.
        metrics: of `JUDGED`; by default UA, WA and macro F1 where there are classes, Pearson and MAE where ratings.
        evaluation: resamples and coverage.
        seed: of the resamples.

    Raises:
        RequestError: if the scores are of other clips, or a metric cannot be measured.
    """
    wanted, evaluation = truth.check(metrics), evaluation or EvaluationConfig()
    by_condition = {name: matrix(one, clips, truth.spec) for name, one in scored.items()}
    audit = _Audit(truth, clips, wanted, evaluation, seed, by_condition[CLEAN])
    rows = [Row(cells=_named(name) | audit.cells(scores, name == CLEAN)) for name, scores in by_condition.items()]
    return ProtocolTable(
        name="robustness",
        title="What perturbed recordings do to the figures",
        source=SOURCE,
        columns=_columns(wanted),
        rows=tuple(rows),
        notes=(*_about_clips(clips, truth), *_refused(scored)),
    )


def robustness_figure(table: ProtocolTable, metric: str, path: Path | BytesIO) -> None:
    """Curves of one metric over the levels of each perturbation, with bands of its intervals; the clean clips' in grey.

    Args:
        table: that `robustness_table` made.
        metric: one of its metrics.
        path: where to, in the format of its suffix.
    """
    by_condition = {str(row.cells["condition"]): row.cells.get(metric) for row in table.rows}
    clean = by_condition.pop(CLEAN, None)
    curves: dict[str, list[tuple[Perturbation, Cell]]] = {}
    for one in open_perturbations(list(by_condition)) if by_condition else ():
        curves.setdefault(one.name, []).append((one, by_condition[str(one)]))
    lines = max(1, math.ceil(len(curves) / _PANELS))
    figure = Figure(figsize=(2.5 * min(_PANELS, max(1, len(curves))), 2.0 * lines + 0.4), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, min(_PANELS, max(1, len(curves))), sharey=True)).ravel()
    for axis, (name, levels) in zip(axes, curves.items(), strict=False):
        _curve(axis, levels, clean)
        kind = PERTURBATIONS[name]
        axis.set_title(f"{kind.label}{f' ({kind.unit})' if kind.unit else ''}", fontsize=8, color=INK)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    figure.supylabel(f"{JUDGED[metric].label} ({JUDGED[metric].better} is better)", fontsize=8, color=INK)
    figure.savefig(path)


class _Audit:
    """Figures of conditions beside those of the clean clips."""

    def __init__(
        self,
        truth: Truth,
        clips: Sequence[Clip],
        metrics: tuple[str, ...],
        evaluation: EvaluationConfig,
        seed: int,
        clean: _Scores,
    ) -> None:
        self._truth, self._metrics, self._evaluation, self._seed = truth, metrics, evaluation, seed
        self._speakers, self._clean, self._judged = np.array([clip.speaker for clip in clips]), clean, truth.judged()

    def cells(self, scores: _Scores, is_clean: bool) -> dict[str, Cell]:
        """Of one condition."""
        heard = np.isfinite(scores).all(1)
        cells: dict[str, Cell] = {"clips": int((heard & self._judged).sum()), "refused": int((~heard).sum())}
        rows = np.flatnonzero(heard & self._judged)
        if len(rows):
            draws = Draws.of(self._speakers[rows].tolist(), self._evaluation, self._seed)
            found = figures(self._truth, scores, self._metrics, rows, draws.weights, draws.owner)
            cells |= estimates(found, draws, self._evaluation)
        both = np.flatnonzero(heard & self._judged & np.isfinite(self._clean).all(1))
        if is_clean or not len(both):
            return cells
        draws = Draws.of(self._speakers[both].tolist(), self._evaluation, self._seed)
        one, other = (
            figures(self._truth, each, self._metrics, both, draws.weights, draws.owner)
            for each in (scores, self._clean)
        )
        spec = self._truth.spec
        moved = (np.abs(scores - self._clean)[both] / (spec.high - spec.low)).mean(1)
        paired = {f"{name}_change": one[name] - other[name] for name in self._metrics}
        return cells | estimates({**paired, "moved": mean(moved, draws)}, draws, self._evaluation)


def _named(condition: str) -> dict[str, Cell]:
    if condition == CLEAN:
        return {"condition": CLEAN, "perturbation": CLEAN}
    (one,) = open_perturbations([condition])
    return {"condition": condition, "perturbation": one.kind.label, "level": one.shown}


def _columns(metrics: Sequence[str]) -> tuple[Column, ...]:
    return (
        Column(name="condition", label="Condition", about="Name and level, as the command line takes them."),
        Column(name="perturbation", label="Perturbation"),
        Column(name="level", label="Level"),
        Column(name="clips", label="Clips", about="Heard by the model and judged by people (count)."),
        Column(name="refused", label="Refused", better="lower", about="By the model, or not decodable (count)."),
        *(Column(name=one, label=JUDGED[one].label, better=JUDGED[one].better) for one in metrics),
        *(
            Column(
                name=f"{one}_change",
                label=f"Δ {JUDGED[one].label}",
                better=JUDGED[one].better,
                about="Less that of the same clips when clean, paired on the same resamples.",
            )
            for one in metrics
        ),
        Column(
            name="moved",
            label="Moved",
            better="lower",
            about="How far scores are from those of the clean clip: mean share of the target's range (0 to 1).",
        ),
    )


def _about_clips(clips: Sequence[Clip], truth: Truth) -> list[str]:
    judged, speakers = int(truth.judged().sum()), sorted({clip.speaker for clip in clips})
    unit = Draws.of([clip.speaker for clip in clips], EvaluationConfig(resamples=1), 0).unit
    notes = [f"{len(clips):,} clips of {len(speakers)} speakers; intervals over {unit}"]
    return notes if judged == len(clips) else [*notes, f"{len(clips) - judged:,} clips have no score and no class"]


def _refused(scored: Mapping[str, Scored]) -> list[str]:
    """Who was refused where, and why; what every condition refuses is said once."""
    names = {name: dict(one.refusals) for name, one in scored.items()}
    always = set.intersection(*(set(one) for one in names.values())) if names else set()
    told = {"every condition": {name: names[CLEAN][name] for name in sorted(always)}}
    told |= {one: {name: why for name, why in found.items() if name not in always} for one, found in names.items()}
    return [
        f"{condition}: {len(found):,} clip{'s' * (len(found) != 1)} refused: "
        + "; ".join(f"{name} ({why})" for name, why in list(found.items())[:SHOWN])
        + (f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else "")
        for condition, found in told.items()
        if found
    ]


def _curve(axis: Axes, levels: Sequence[tuple[Perturbation, Cell]], clean: Cell) -> None:
    """Levels from mild to harsh; the clean clips stand where they belong among them."""
    kind = levels[0][0].kind
    ordered: list[tuple[float, str, Cell]] = [(one.level, f"{one.level:g}", cell) for one, cell in levels]
    between = sum(level < kind.neutral for level, _, _ in ordered) if kind.lowest < kind.neutral < kind.highest else 0
    ordered.insert(between, (kind.neutral, CLEAN, clean))
    places = [
        place for place, (_, _, cell) in enumerate(ordered) if isinstance(cell, Estimate) and cell.value is not None
    ]
    shown = [cell for _, _, cell in ordered if isinstance(cell, Estimate) and cell.value is not None]
    values = [float(one.value or 0.0) for one in shown]
    low, high = (
        [value if (end := getattr(one, name)) is None else end for one, value in zip(shown, values, strict=True)]
        for name in ("low", "high")
    )
    if isinstance(clean, Estimate) and clean.value is not None:
        axis.axhline(clean.value, color=FAINT, linewidth=0.8)
    axis.fill_between(places, low, high, color=ACCENT, alpha=0.18, linewidth=0)
    axis.plot(places, values, "o-", color=ACCENT, markersize=3.5, linewidth=1.2)
    axis.set_xticks(range(len(ordered)), [text for _, text, _ in ordered])
    axis.set_xlim(-0.3, len(ordered) - 0.7)
    axis.grid(axis="y", color=GRID)
    axis.set_axisbelow(True)
    bare(axis)
    axis.tick_params(labelsize=7)
