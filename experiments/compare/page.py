"""The page of a comparison: one HTML file that needs nothing else, and its figures as JSON and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emonet.numbers import shown
from emonet.targets import TargetSpec
from experiments.core import INDEX, decoration, render, write_text

if TYPE_CHECKING:
    from emonet.evaluation import Comparison, Estimate, PairwiseDifference

JSON, METRICS_CSV, DIFFERENCES_CSV = "comparison.json", "metrics.csv", "differences.csv"
SEEN = ("one_seen_clips", "other_seen_clips")  # of these clips, those that training used; empty where not known
MEAN = "mean"  # stands for an emotion's id in the CSV files


@dataclass(frozen=True)
class ComparisonFindings:
    """What the page of a comparison is made of.

    Args:
        comparison: all figures.
        spec: the emotions, in the order of the columns.
        truth: given scores, NaN where nobody rated.
        predictions: label -> predicted scores; every model and baseline of the comparison.
        facts: label -> text, how it was made: corpus, split, clips, speakers, command, date, fingerprints. How the
            statistics were made is added.
        title: heading of the page.
        note: what the corpus says of itself.
        warnings: what must not be overlooked, e.g. that a model was trained on these clips.
        decision: with `--promote`, what was decided and why, a sentence each.
    """

    comparison: Comparison
    spec: TargetSpec
    truth: Float[np.ndarray, "clips targets"]
    predictions: Mapping[str, Float[np.ndarray, "clips targets"]]
    facts: Mapping[str, str]
    title: str = "Comparison of models"
    note: str = ""
    warnings: tuple[str, ...] = ()
    decision: tuple[str, ...] = ()

    def models(self) -> tuple[str, ...]:
        """Labels of what is no baseline."""
        return tuple(label for label, facts in self.comparison.facts.items() if not facts.baseline)


class Section(NamedTuple):
    """Pictures under a heading.

    Args:
        title: the heading.
        text: what to see in them.
        pictures: label (empty if there is one for all), `data:` URI (None: could not be drawn), alternative text.
    """

    title: str
    text: str
    pictures: Sequence[tuple[str, str | None, str]]


def write_page(folder: Path, findings: ComparisonFindings) -> Path:
    """Write `index.html`, `comparison.json`, `metrics.csv` and `differences.csv`.

    Args:
        folder: where to; it is made, and files of these names are replaced.
        findings: what they tell.

    Returns:
        The page. It opens in a browser from any place, without a server or a network.
    """
    comparison = findings.comparison
    write_text(folder / JSON, comparison.model_dump_json(indent=2) + "\n")
    write_text(folder / METRICS_CSV, _csv(_metric_rows(comparison)))
    write_text(folder / DIFFERENCES_CSV, _csv(_difference_rows(comparison)))
    (folder / INDEX).unlink(missing_ok=True)  # a former one would stand beside figures that it does not show
    html = ""
    with decoration("the page"):
        html = _html(findings)
    if html:
        write_text(folder / INDEX, html)
    return folder / INDEX


def _html(findings: ComparisonFindings) -> str:
    from emonet.evaluation import CLASS_METRICS, METRICS
    from experiments.compare.table import costs, p_text, seen_text, sentence
    from experiments.core import counted

    comparison = findings.comparison
    models = [
        {
            "label": label,
            "facts": facts,
            "scores": comparison.scores[label],
            "costs": costs(facts),
            "seen": "" if facts.baseline else seen_text(facts, comparison.clips),
        }
        for label, facts in comparison.facts.items()
    ]
    baselines = sum(facts.baseline for facts in comparison.facts.values())
    counts = {"model": len(models) - baselines, "baseline": baselines}
    return render(
        "compare/comparison.html",
        title=findings.title,
        note=findings.note,
        warnings=findings.warnings,
        decision=findings.decision,
        facts=dict(findings.facts) | _made(comparison),
        spec=findings.spec,
        comparison=comparison,
        contenders=" and ".join(counted(count, what) for what, count in counts.items() if count),
        clips=counted(comparison.clips, "clip"),
        speakers=counted(comparison.speakers, "speaker"),
        rated=comparison.test.tests,
        sentences=[sentence(comparison, pair) for pair in _main_pairs(findings)],
        notes=comparison.notes(),
        confidence=f"{100 * comparison.confidence:g}",
        resamples=f"{comparison.resamples:,}",
        swaps=f"{comparison.test.permutations:,}",
        smallest=f"{comparison.test.smallest_p:.2g}",
        alpha=f"{comparison.alpha:g}",
        metrics=list(METRICS.values()),
        class_metrics=CLASS_METRICS,
        best=_best(comparison),
        best_classes=_best_classes(comparison),
        classified=next((scores.told() for scores in comparison.classes.values()), ""),
        models=models,
        pairs=_pairs(findings),
        sections=_sections(findings),
        p_text=p_text,
    )


def _made(comparison: Comparison) -> dict[str, str]:
    """How the statistics were made, for whoever wants to repeat them."""
    test = comparison.test
    swaps = f"{'all ' if test.exact else ''}{test.permutations:,} swaps of {test.units} {test.unit}"
    return {
        "Intervals": f"{100 * comparison.confidence:g} %, {comparison.resamples:,} resamples of {comparison.resampled}",
        "P values": f"{swaps}, Holm's correction over {test.tests} targets",
        "Seed of resamples and swaps": str(comparison.seed),
    }


def _main_pairs(findings: ComparisonFindings) -> list[PairwiseDifference]:
    """The pairs of models; with a single model, those with the baselines."""
    models = findings.models()
    pairs = findings.comparison.pairs
    return [pair for pair in pairs if pair.other in models] or list(pairs)


def _best(comparison: Comparison) -> dict[str, set[str]]:
    """Metric -> labels of the best models."""
    from emonet.evaluation import METRICS

    found: dict[str, set[str]] = {}
    for name, metric in METRICS.items():
        values = {label: scores.of(name).mean.value for label, scores in comparison.scores.items()}
        found[name] = {
            label
            for label, value in values.items()
            if value is not None and not any(metric.beats(other, value) for other in values.values())
        }
    return found


def _best_classes(comparison: Comparison) -> dict[str, set[str]]:
    """Classification metric -> labels of the best models."""
    from emonet.evaluation import CLASS_METRICS

    found: dict[str, set[str]] = {}
    for name in CLASS_METRICS:
        values = {label: scores.of(name).value for label, scores in comparison.classes.items()}
        best = max((value for value in values.values() if value is not None), default=None)
        found[name] = {label for label, value in values.items() if value is not None and value == best}
    return found


def _pairs(findings: ComparisonFindings) -> list[dict[str, Any]]:
    from emonet.evaluation import differences_figure

    alpha, drawn = findings.comparison.alpha, _main_pairs(findings)
    rows = []
    for pair in findings.comparison.pairs:
        significant = pair.significant(alpha)
        values = [pair.emotions[target].mae.value or 0.0 for target in significant]
        draw = partial(differences_figure, pair, alpha=alpha, spec=findings.spec)
        rows.append(
            {
                "pair": pair,
                "told": pair.is_significant(alpha),
                "significant": set(significant),
                "better": sum(value < 0 for value in values),
                "worse": sum(value > 0 for value in values),
                "main": pair in drawn,
                "picture": _embedded(draw) if pair in drawn else None,
            }
        )
    return rows


def _sections(findings: ComparisonFindings) -> list[Section]:
    from emonet.evaluation import (
        SCATTERED,
        calibration_figure,
        class_confusion_figure,
        confusion_figure,
        scatter_figure,
    )

    spec, truth, models = findings.spec, findings.truth, findings.models()
    reliability = {label: findings.comparison.reliability[label] for label in models}
    scale = spec.scale if spec.common else (0.0, 1.0)
    calibration = _embedded(lambda file: calibration_figure(reliability, file, scale=scale))
    slopes = ", ".join(
        f"{label} {'undefined' if found.slope is None else shown(found.slope, 2)}"
        for label, found in reliability.items()
    )
    scatters, confusions = [], []
    shown_classes = {target for scores in findings.comparison.classes.values() for target in scores.classes}
    for label in models:
        predictions = findings.predictions[label]
        scatter = _embedded(lambda file, p=predictions: scatter_figure(truth, p, spec.ids, file, spec=spec))  # type: ignore[misc]
        scatters.append((label, scatter, f"Scatter of predicted against given scores, {label}"))
        if len(spec.ranked) > 1 and not set(spec.ranked) <= shown_classes:
            confusion = _embedded(lambda file, p=predictions: confusion_figure(truth, p, spec.ids, file, spec=spec))  # type: ignore[misc]
            confusions.append((label, confusion, f"Confusion matrix of the strongest emotion, {label}"))
    classes = [
        (label, _embedded(partial(class_confusion_figure, scores)), f"Confusion matrix of the classes, {label}")
        for label, scores in findings.comparison.classes.items()
        if label in models
    ]
    told = "Which class is predicted (columns) where one was given (rows): that of the expert with the highest score."
    sections = [
        *([Section("Confusion of classes", told, classes)] if classes else []),
        Section(
            "Calibration",
            "Mean given score where a score was predicted, all targets together"
            + ("" if spec.common else ", each as a share of its scale")
            + "; larger marks stand for more scores. The thin line is right.",
            [("", calibration, f"Mean given by predicted score, slopes: {slopes}")],
        ),
        Section(
            "Predicted against given",
            f"One point per clip, for the {min(SCATTERED, len(spec))} targets whose given scores vary most. "
            "The line is a perfect prediction.",
            scatters,
        ),
        Section(
            "Strongest emotion",
            "Which emotion is predicted strongest (columns) where one was given as strongest (rows), "
            "for clips that have one.",
            confusions,
        ),
    ]
    return [section for section in sections if section.pictures]


def _embedded(draw: Callable[[BytesIO], None]) -> str | None:
    """A figure as a `data:` URI; None where it cannot be drawn, which is told."""
    from emonet.evaluation import embedded

    with decoration("a picture of the page"):
        return embedded(draw)
    return None


def _metric_rows(comparison: Comparison) -> Iterable[Sequence[object]]:
    from emonet.evaluation import CLASS_METRICS, METRIC_NAMES

    yield ("model", "emotion", "metric", "value", "low", "high", "seen_clips")
    for label, scores in comparison.scores.items():
        for name in METRIC_NAMES:
            metric = scores.of(name)
            for emotion, estimate in {MEAN: metric.mean, **metric.per_target}.items():
                yield (label, emotion, name, *_ends(estimate), comparison.facts[label].seen_clips)
    for label, classes in comparison.classes.items():
        seen = comparison.facts[label].seen_clips if label in comparison.facts else None
        for class_metric in CLASS_METRICS:
            yield (label, MEAN, class_metric, *_ends(classes.of(class_metric)), seen)
        for target, recall in classes.recall.items():
            yield (label, target, "recall", *_ends(recall), seen)


def _difference_rows(comparison: Comparison) -> Iterable[Sequence[object]]:
    from emonet.evaluation import CLASS_METRICS

    yield (*("one", "other", "emotion", "metric", "difference", "low", "high", "p", "p_holm"), *SEEN)
    for pair in comparison.pairs:
        seen = [comparison.facts[label].seen_clips for label in (pair.one, pair.other)]
        for name, estimate in pair.mean.items():
            yield (pair.one, pair.other, MEAN, name, *_ends(estimate), pair.p if name == "mae" else None, None, *seen)
        for emotion, each in pair.emotions.items():
            yield (pair.one, pair.other, emotion, "mae", *_ends(each.mae), each.p, each.p_holm, *seen)
        if (classes := pair.classes) is not None:
            for class_metric in CLASS_METRICS:
                p = classes.p if class_metric == "ua" else None
                yield (pair.one, pair.other, MEAN, class_metric, *_ends(classes.of(class_metric)), p, None, *seen)


def _ends(estimate: Estimate) -> tuple[float | None, ...]:
    return estimate.value, estimate.low, estimate.high


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
