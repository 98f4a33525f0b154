"""Tables 5 and 6 of EmoNet-Voice: how near models are to raters, over all clips and emotion by emotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import METRICS, Estimate, MetricName, Scores, evaluate
from emonet.protocols.bench.answers import Answers
from emonet.protocols.bench.published import published_table
from emonet.protocols.consensus import PAPER, Consensus
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

_SHOWN: tuple[MetricName, ...] = ("spearman", "pearson", "mae", "rmse")
_UNITS: dict[MetricName, str] = {"mae": ", in points of 10", "rmse": ", in points of 10"}
EMOTION = Column(name="emotion", label="Emotion")
AVERAGE = "average"
MEAN = "MEAN"
BESIDE = (EMOTION.name, "alpha", "krippendorff", "gwet", "clips", "ratings", "raters")
"""Columns that are no model's, in tables by emotion."""


@dataclass(frozen=True)
class Judged:
    """One model against a consensus.

    Args:
        over_clips: figures of all pairs of clip and emotion together.
        by_emotion: figures of each emotion, and their means.
        extra: figures of what was rated and is no emotion; None where nothing was.
        rated: pairs of clip and emotion with a consensus (count).
        answered: of those, pairs with an answer (count).
    """

    over_clips: Scores
    by_emotion: Scores
    extra: Scores | None
    rated: int
    answered: int

    @property
    def refused(self) -> float:
        """Share of the pairs without an answer, in percent; that of emotions which the model never scores is in it."""
        return 100 * (1 - self.answered / self.rated)

    @property
    def emotions(self) -> int:
        """Emotions that it scores (count)."""
        return self.by_emotion.mae.over


def judge_models(
    truth: Consensus,
    models: Mapping[str, Answers],
    *,
    speakers: Mapping[str, str] | None = None,
    config: EvaluationConfig | None = None,
    seed: int = 42,
) -> dict[str, Judged]:
    """Compare each model with the consensus, on the scale from 0 to 10.

    Args:
        truth: what raters agree on.
        models: name -> its answers for all rated clips.
        speakers: clip id -> who speaks, for intervals over speakers; by default, each clip counts as independent.
        config: resamples and coverage of the intervals.
        seed: of the resamples, which are the same for all models.

    Raises:
        RequestError: if no clip is kept, answers are not those of these clips, or a model is called as a column is.
    """
    if taken := sorted(set(models) & {*BESIDE, AVERAGE}):
        raise RequestError(
            f"no model can be called {taken[0]!r}: a column of the tables is", hint="give it another name"
        )
    config = config or EvaluationConfig()
    emotions, extra = truth.emotions, tuple(name for name in truth.targets if name not in truth.emotions)
    if not truth.ten[list(emotions)].notna().to_numpy().any():
        raise RequestError(
            "there is nothing to compare models with", expected="clips that the rule keeps", found=truth.summary
        )
    owners = [(speakers or {}).get(name, name) for name in truth.clips]
    judged = {}
    for model, answers in models.items():
        given, said = _aligned(truth, answers, emotions, model)
        pairs, owner = given.reshape(-1, 1), np.repeat(owners, len(emotions)).tolist()
        kept = ~np.isnan(truth.ten[list(emotions)].to_numpy(np.float64))
        of = kept.reshape(-1)
        judged[model] = Judged(
            over_clips=evaluate(
                pairs[of],
                said.reshape(-1, 1)[of],
                targets=["all"],
                speakers=[name for name, one in zip(owner, of, strict=True) if one],
                config=config,
                seed=seed,
            ),
            by_emotion=evaluate(given, said, targets=emotions, speakers=owners, config=config, seed=seed),
            extra=_extra(truth, answers, extra, model, owners, config, seed) if extra else None,
            rated=int(kept.sum()),
            answered=int((~np.isnan(given)).sum()),
        )
    return judged


def table5(judged: Mapping[str, Judged], truth: Consensus, *, published: bool = True) -> ProtocolTable:
    """Table 5: refusals, correlations and errors of each model, over clips and as means over emotions.

    Args:
        judged: what `judge_models` gives.
        truth: that it was compared with.
        published: whether the paper's models stand below, as it prints them.
    """
    columns = [
        Column(name="model", label="Model"),
        Column(
            name="refused",
            label="Refused (%)",
            digits=2,
            about="clips without an answer, those of emotions that the model does not score among them",
        ),
        Column(name="emotions", label="Emotions", about="that it has an answer for (count)"),
    ]
    for metric in _SHOWN:
        label, better, unit = METRICS[metric].label, METRICS[metric].better, _UNITS.get(metric, "")
        columns += [
            Column(name=metric, label=label, better=better, about=f"{label} of all clips together{unit}"),
            Column(
                name=f"{metric}_mean",
                label=f"{label}, mean",
                better=better,
                about=f"mean of the emotions' {label}{unit}",
            ),
        ]
    rows = []
    for model, one in judged.items():
        cells: dict[str, Cell] = {"model": model, "refused": one.refused, "emotions": one.emotions}
        for metric in _SHOWN:
            cells |= {
                metric: one.over_clips.of(metric).per_target["all"],
                f"{metric}_mean": one.by_emotion.of(metric).mean,
            }
        rows.append(Row(cells=cells))
    known = published_table("table5")
    notes = (f"{truth.summary}; figures are of these, and intervals of resampled clips.",)
    return ProtocolTable(
        name="table5",
        compete=True,
        title="Models against raters",
        source=f"{PAPER}, Table 5",
        columns=tuple(columns),
        rows=(*rows, *(known.rows if published else ())),
        notes=notes + (known.notes if published else ()),
    )


def table6(
    judged: Mapping[str, Judged], truth: Consensus, *, metric: MetricName = "spearman", intervals: bool = False
) -> ProtocolTable:
    """Table 6: one metric by emotion, best known emotions first, nothing where a model refuses; means and extras below.

    Args:
        judged: what `judge_models` gives.
        truth: that it was compared with.
        metric: its name.
        intervals: whether each figure has its interval.
    """
    better = METRICS[metric].better
    rows = [_by_emotion(judged, truth, metric, target, intervals) for target in truth.emotions]
    rows.sort(key=lambda row: _order(row.cells[AVERAGE], better))
    means = {model: one.by_emotion.of(metric).mean for model, one in judged.items()}
    rows.append(Row(cells=_row(MEAN, means, intervals)))
    extra = [target for target in truth.targets if target not in truth.emotions]
    rows += [_by_emotion(judged, truth, metric, target, intervals) for target in extra]
    label = METRICS[metric].label
    return ProtocolTable(
        name="table6",
        title=f"{label} by emotion",
        source=f"{PAPER}, Table 6",
        columns=(
            EMOTION,
            *(Column(name=model, label=model, better=better) for model in judged),
            Column(name=AVERAGE, label="Average", better=better, about="of the models that answered"),
        ),
        rows=tuple(rows),
        notes=(
            f"{truth.summary}.",
            "Nothing stands where a model refused all clips, or raters gave all of them the same level. "
            "Scores that are all the same count as a correlation of 0.",
        ),
    )


def _aligned(
    truth: Consensus, answers: Answers, targets: Sequence[str], model: str
) -> tuple[Float64[np.ndarray, "clips targets"], Float64[np.ndarray, "clips targets"]]:
    """The consensus, without what the model refused, and what the model says (0 where that is nothing)."""
    said = answers.on_ten(truth.clips, targets, model)
    given = np.where(np.isnan(said), np.nan, truth.ten[list(targets)].to_numpy(np.float64))
    return given, np.nan_to_num(said)


def _extra(
    truth: Consensus,
    answers: Answers,
    targets: Sequence[str],
    model: str,
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> Scores:
    given, said = _aligned(truth, answers, targets, model)
    return evaluate(given, said, targets=targets, speakers=speakers, config=config, seed=seed)


def _by_emotion(
    judged: Mapping[str, Judged], truth: Consensus, metric: MetricName, target: str, intervals: bool
) -> Row:
    figures = {}
    for model, one in judged.items():
        scores = one.by_emotion if target in truth.emotions else one.extra
        if scores is not None:
            figures[model] = scores.of(metric).per_target[target]
    return Row(cells=_row(target, figures, intervals))


def _row(name: str, figures: Mapping[str, Estimate], intervals: bool) -> dict[str, Cell]:
    values = [one.value for one in figures.values() if one.value is not None]
    average = float(np.mean(values)) if values else None
    cells: dict[str, Cell] = {model: one if intervals else one.value for model, one in figures.items()}
    return {EMOTION.name: name, **cells, AVERAGE: average}


def _order(average: Cell, better: str) -> tuple[bool, float]:
    value = float(average) if isinstance(average, int | float) else 0.0
    return average is None, -value if better == "higher" else value
