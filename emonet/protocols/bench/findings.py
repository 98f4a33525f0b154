"""What EmoNet-Voice finds: models do well where raters agree and arousal is high, and mix up sadness and distress."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import Estimate, evaluate, resample
from emonet.protocols.bench.answers import Answers
from emonet.protocols.bench.tables import BESIDE
from emonet.protocols.consensus import PAPER, Consensus
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row
from emonet.targets import EMOTIONS, PLACEMENT


def agreement_of(table10: ProtocolTable, column: str = "alpha") -> dict[str, float]:
    """Emotion -> how far raters agree on it, out of Table 10, measured or published."""
    return _column(table10, column)


def arousal_of() -> dict[str, float]:
    """Emotion -> its arousal (-1 to 1) by emonet's placement, which is a judgement and no measurement."""
    return {name: place.arousal for name, place in PLACEMENT.items()}


def against_agreement(
    table6: ProtocolTable, table10: ProtocolTable, *, config: EvaluationConfig | None = None, seed: int = 42
) -> ProtocolTable:
    """Correlation over emotions of each model's figure with the raters' agreement.

    Args:
        table6: by emotion, measured or published.
        table10: agreement, measured or published.
        config: resamples and coverage of the intervals.
        seed: of the resamples.
    """
    return _against(
        "agreement",
        "Agreement of raters against performance",
        table6,
        agreement_of(table10),
        f"Cronbach's alpha of {table10.name}",
        config,
        seed,
    )


def against_arousal(table6: ProtocolTable, *, config: EvaluationConfig | None = None, seed: int = 42) -> ProtocolTable:
    """Correlation over emotions of each model's figure with the emotions' arousal; arguments as `against_agreement`."""
    about = "arousal from -1 to 1 by emonet's placement, a judgement guided by lexicons"
    return _against("arousal", "Arousal against performance", table6, arousal_of(), about, config, seed)


def emotion_points(
    table6: ProtocolTable, values: Mapping[str, float], model: str = "average"
) -> dict[str, tuple[float, float]]:
    """Emotion -> its value and a model's figure, of those that have both; what the scatter pictures draw."""
    figures = _column(table6, model)
    return {name: (values[name], figures[name]) for name in figures if name in values}


def discrimination(
    truth: Consensus,
    models: Mapping[str, Answers],
    *,
    first: str = "sadness",
    second: str = "distress",
    config: EvaluationConfig | None = None,
    seed: int = 42,
) -> ProtocolTable:
    """How well models tell clips of two emotions apart: those in which raters hear one of them and not the other.

    A clip that raters do not agree on for one of the two is neither: it is left out. One that nobody was asked about
    for the other counts as without it, since the benchmark asks about most clips for the one emotion they were made of.

    Args:
        truth: what raters agree on.
        models: name -> its answers for all rated clips.
        first: id of one emotion.
        second: id of the other.
        config: resamples and coverage of the intervals.
        seed: of the resamples.

    Raises:
        RequestError: if nobody rated one of the emotions, or no clip has it.
    """
    config = config or EvaluationConfig()
    missing = [target for target in (first, second) if target not in truth.targets]
    if missing:
        raise RequestError(
            f"nobody rated {' or '.join(missing)}", expected=f"ratings of {first} and {second}", found=truth.summary
        )
    sides, disputed = _sides(truth, first, second)
    rows = []
    for model, answers in models.items():
        said = answers.on_ten(truth.clips, (first, second), model)
        used = (sides >= 0) & ~np.isnan(said).any(1)
        rows.append(Row(cells={"model": model, **_told_apart(said[used], sides[used], config, seed)}))
    return ProtocolTable(
        name=f"{first}_{second}",
        compete=True,
        title=f"{first.capitalize()} against {second}",
        source=f"{PAPER}, section on findings",
        columns=_columns(first, second),
        rows=tuple(rows),
        notes=(
            f"{truth.summary}.",
            f"{disputed:,} clips in which raters hear one emotion, and do not agree on the other, are left out.",
            "Each emotion weighs the same in discrimination and accuracy, whatever its clips.",
        ),
    )


def _columns(first: str, second: str) -> tuple[Column, ...]:
    return (
        Column(name="model", label="Model"),
        Column(name="first", label=f"Clips of {first}"),
        Column(name="second", label=f"Clips of {second}"),
        Column(
            name="margin",
            label="Discrimination",
            better="higher",
            digits=2,
            about="by how much the score of the emotion that raters hear is above the other's, 0 to 10, mean",
        ),
        Column(name="auc", label="AUC", better="higher", about=f"of the score of {second} less that of {first}"),
        Column(name="accuracy", label="Accuracy", better="higher", about="the higher score is right; ties half"),
    )


def _sides(truth: Consensus, first: str, second: str) -> tuple[Int[np.ndarray, " clips"], int]:
    """Where raters hear the first emotion (0), the second (1), or none, both or no agreed one (-1); how many disagree.

    Raises:
        RequestError: if no clip has one of the two alone.
    """
    heard = truth.ten[[first, second]].fillna(0.0).to_numpy() > 0
    disputed = truth.disputed[[first, second]].to_numpy().any(1)
    unclear = heard.all(1) | ~heard.any(1) | disputed
    sides = np.where(unclear, -1, heard[:, 1])  # 0 the first, 1 the second, -1 none, both, or not agreed on
    if not (sides == 0).any() or not (sides == 1).any():
        raise RequestError(
            f"no clips to tell {first} and {second} apart",
            expected="clips in which raters hear one of them alone",
            found=f"{(sides == 0).sum()} of {first}, {(sides == 1).sum()} of {second}",
            hint="another rule of consensus keeps more clips",
        )
    return sides, int((disputed & heard.any(1)).sum())


def _column(table: ProtocolTable, name: str) -> dict[str, float]:
    """Emotion -> a column's figure where it has one; rows of means and extra categories are left out."""
    found = {}
    for row in table.rows:
        cell, emotion = row.cells.get(name), str(row.cells.get("emotion"))
        value = cell.value if isinstance(cell, Estimate) else cell
        if isinstance(value, int | float) and emotion in EMOTIONS.ids:
            found[emotion] = float(value)
    return found


def _against(
    name: str,
    title: str,
    table6: ProtocolTable,
    values: Mapping[str, float],
    about: str,
    config: EvaluationConfig | None,
    seed: int,
) -> ProtocolTable:
    config = config or EvaluationConfig()
    rows = []
    for column in table6.columns:
        if column.name in BESIDE:
            continue
        both = emotion_points(table6, values, column.name)
        cells: dict[str, Cell] = {"model": column.label, "emotions": len(both)}
        if len(both) > 2:  # a line through two points says nothing
            x, y = np.array(list(both.values()), np.float64).T
            scores = evaluate(y[:, None], x[:, None], targets=["all"], speakers=list(both), config=config, seed=seed)
            cells |= {"pearson": scores.pearson.mean, "spearman": scores.spearman.mean}
        rows.append(Row(cells=cells, kind=table6.rows[0].kind if table6.rows else "measured"))
    return ProtocolTable(
        name=f"{name}_performance",
        title=title,
        source=f"{PAPER}, section on findings",
        columns=(
            Column(name="model", label="Model"),
            Column(name="emotions", label="Emotions", about="with both figures (count)"),
            Column(name="pearson", label="Pearson", about=f"over emotions, of {table6.title} with {about}"),
            Column(name="spearman", label="Spearman", about=f"over emotions, of {table6.title} with {about}"),
        ),
        rows=tuple(rows),
        notes=(f"{about[0].upper()}{about[1:]}; intervals of resampled emotions.",),
    )


def _told_apart(
    said: Float64[np.ndarray, "clips 2"], sides: np.ndarray, config: EvaluationConfig, seed: int
) -> dict[str, Cell]:
    """Figures of scores of the first and second emotion, for clips of the first (side 0) and of the second (1)."""
    ahead = said[:, 1] - said[:, 0]
    parts = ahead[sides == 0], ahead[sides == 1]
    cells: dict[str, Cell] = {"first": len(parts[0]), "second": len(parts[1])}
    if not len(parts[0]) or not len(parts[1]):
        return cells
    weights = []
    for number, part in enumerate(parts):
        counts, _, _ = resample([str(row) for row in range(len(part))], config.resamples, seed + number)
        drawn = np.concatenate([np.ones((1, len(part))), counts])
        weights.append(drawn / drawn.sum(1, keepdims=True))
    above = np.sign(np.subtract.outer(parts[1], parts[0])) / 2 + 0.5
    right = [np.sign(-parts[0]) / 2 + 0.5, np.sign(parts[1]) / 2 + 0.5]
    accuracy = (weights[0] @ right[0] + weights[1] @ right[1]) / 2
    margin = (weights[1] @ parts[1] - weights[0] @ parts[0]) / 2
    auc = np.einsum("rb,ba,ra->r", weights[1], above, weights[0], optimize=True)
    figures = {"margin": margin, "auc": auc, "accuracy": accuracy}
    varied = min(map(len, parts)) > 1
    return cells | {name: _estimate(values, config.confidence, varied) for name, values in figures.items()}


def _estimate(values: Float64[np.ndarray, " draws"], confidence: float, varied: bool) -> Estimate:
    share = 100 * (1 - confidence) / 2
    low, high = np.percentile(values[1:], [share, 100 - share])
    return Estimate(value=float(values[0]), low=float(low) if varied else None, high=float(high) if varied else None)
