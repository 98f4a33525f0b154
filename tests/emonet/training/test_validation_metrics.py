from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from emonet.configs import EvaluationConfig
from emonet.evaluation import class_metrics, confusion, evaluate
from emonet.targets import EMOTIONS, NO_CLASS, Classes, Target, TargetSpec
from emonet.training import SCORE_METRICS, ScoreMetrics, UnweightedAccuracy, absolute_errors
from tests.two_processes import in_two_processes

pytestmark = pytest.mark.numeric

TARGETS = 6


def some(rng: np.random.Generator, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and scores whose target 0 is ordinary; others have gaps, constants, a spread of a few float32 steps."""
    scores = rng.integers(0, 5, (clips, TARGETS)).astype(np.float32)
    predictions = (scores + rng.normal(0, rng.choice([0.01, 1.0, 30.0]), scores.shape)).astype(np.float32)
    for column in range(1, TARGETS):
        kind = rng.integers(8)
        if kind == 0:
            predictions[:, column] = rng.choice([0.0, 0.1, 3.3])
        elif kind == 1:
            scores[:, column] = rng.choice([0.0, 0.7, 4.0])
        elif kind == 2:
            predictions[:, column] = scores[:, column] = 0.7
        elif kind == 3:
            predictions[:, column] = 4 + rng.integers(0, 3, clips) * np.float32(2**-21)
        elif kind == 4:
            scores[:, column] = 1000 + rng.integers(0, 3, clips) * np.float32(2**-14)
        elif kind == 5:
            scores[:, column] = np.nan
        elif kind == 6:
            predictions[:, column] *= np.float32(1e-20)
    scores[rng.random(scores.shape) < rng.choice([0.0, 0.3, 0.9])] = np.nan
    if rng.random() < 0.3:  # as float64, in which sums of 0.1 are no multiples of it
        predictions, scores = predictions.astype(float).round(7), scores.astype(float).round(7)
    return torch.from_numpy(predictions), torch.from_numpy(scores)


def in_batches(metric: ScoreMetrics, predictions: torch.Tensor, scores: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    for batch in zip(predictions.split(sizes), scores.split(sizes), strict=True):
        metric.update(*batch)
    return metric.compute()


def expected(predictions: torch.Tensor, scores: torch.Tensor) -> np.ndarray:
    names = [str(target) for target in range(TARGETS)]
    speakers, config = ["s"] * len(scores), EvaluationConfig(resamples=1)
    found = evaluate(scores.numpy(), predictions.numpy(), targets=names, speakers=speakers, config=config)
    values = [[found.of(metric).per_target[name].value for name in names] for metric in SCORE_METRICS]
    return np.array(values, dtype=float)  # None, which is undefined, becomes NaN


def classes_of(columns: list[int], spec: TargetSpec = EMOTIONS) -> Classes:
    """A class for each of these targets, in their order."""
    names = {spec.ids[column]: f"class {column}" for column in columns}
    return Classes(names, {label: position for position, label in enumerate(names.values())})


def sizes_of(rng: np.random.Generator, clips: int) -> list[int]:
    ends = np.unique(np.append(rng.integers(1, clips + 1, rng.integers(1, 6)), clips))
    return np.diff(ends, prepend=0).tolist()


@given(seed=st.integers(0, 100_000), clips=st.sampled_from([1, 2, 3, 7, 40, 300]))
def test_figures_are_those_of_the_evaluation_and_undefined_where_they_are(seed: int, clips: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, scores = some(rng, clips)
    found = in_batches(ScoreMetrics(), predictions, scores, sizes_of(rng, clips))
    # MAE is summed in the precision of predictions, correlations in float64.
    wanted = expected(predictions, scores)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, equal_nan=True)
    np.testing.assert_allclose(found[1:], wanted[1:], atol=1e-6, equal_nan=True)


def test_errors_add_up_as_they_did_before_there_were_metrics() -> None:
    """To the bit: an expert's best epoch hangs on which of two errors is less."""
    generator = torch.Generator().manual_seed(0)
    predictions, scores = (torch.randn(1000, 40, generator=generator) for _ in range(2))
    scores[torch.rand(scores.shape, generator=generator) < 0.2] = torch.nan
    metric = ScoreMetrics()
    in_batches(metric, predictions, scores, [8] * 125)
    parts = [absolute_errors(*batch) for batch in zip(predictions.split(8), scores.split(8), strict=True)]
    totals, counts = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
    assert metric.by_target()["mae"] == (totals / counts).tolist()


def test_a_prediction_that_is_no_number_makes_no_figure() -> None:
    metric = ScoreMetrics()
    predictions, scores = torch.tensor([[1.0, 1.0], [torch.nan, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    metric.update(predictions, scores)
    assert all(np.isnan(values[0]) and not np.isnan(values[1]) for values in metric.by_target().values())


def test_what_was_taken_in_is_forgotten() -> None:
    metric, alone = ScoreMetrics(), ScoreMetrics()
    predictions, scores = some(np.random.default_rng(0), 30)
    in_batches(metric, predictions + 1, scores, [30])
    metric.reset()
    np.testing.assert_array_equal(
        in_batches(metric, predictions, scores, [20, 10]), in_batches(alone, predictions, scores, [20, 10])
    )


@given(seed=st.integers(0, 100_000), clips=st.sampled_from([1, 4, 60]))
def test_unweighted_accuracy_is_the_mean_recall_of_the_classes_that_occur(seed: int, clips: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.permutation(TARGETS)[:4].tolist()
    predictions = rng.normal(0, 1, (clips, TARGETS)).astype(np.float32)
    labels = rng.integers(NO_CLASS, rng.integers(1, 5), clips)
    metric = UnweightedAccuracy(classes_of(columns), EMOTIONS.subset(EMOTIONS.ids[:TARGETS]))
    for rows in np.array_split(np.arange(clips), min(clips, 3)):
        metric.update(torch.from_numpy(predictions[rows]), torch.from_numpy(labels[rows]))
    known = labels != NO_CLASS
    chosen = predictions[:, columns].argmax(1)
    present = np.unique(labels[known])
    recalls = recall_score(labels[known], chosen[known], labels=present, average=None) if len(present) else []
    np.testing.assert_allclose(float(metric.compute()), np.mean(recalls) if len(present) else np.nan, equal_nan=True)


@given(seed=st.integers(0, 100_000), clips=st.sampled_from([1, 4, 60]))
def test_unweighted_accuracy_is_that_of_the_evaluation_on_any_scale_and_with_gaps(seed: int, clips: int) -> None:
    rng = np.random.default_rng(seed)
    lows, spans = rng.integers(-300, 300, TARGETS), rng.choice([0.5, 1, 4, 700], TARGETS)
    spec = TargetSpec(
        tuple(
            Target(f"t{n}", f"T{n}", low, low + span, "some")
            for n, (low, span) in enumerate(zip(lows, spans, strict=True))
        )
    )
    classes = classes_of(rng.permutation(TARGETS)[:4].tolist(), spec)
    predictions = (
        spec.low + rng.choice([0.25, 0.5, 0.75, np.nan], (clips, TARGETS), p=[0.3, 0.3, 0.35, 0.05]) * spans
    ).astype(np.float32)
    labels = rng.integers(NO_CLASS, 4, clips)
    metric = UnweightedAccuracy(classes, spec)
    metric.update(torch.from_numpy(predictions), torch.from_numpy(labels))
    matrix = confusion(labels, classes.predicted(predictions, spec), len(classes.names))
    expected_ua = class_metrics(matrix[None])[1]["ua"][0]
    np.testing.assert_allclose(float(metric.compute()), expected_ua, equal_nan=True)


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    """One has three batches, the other two; some targets are rated, and classes there, in the clips of one only."""
    rng = np.random.default_rng(7)
    scores = torch.from_numpy(rng.integers(0, 5, (50, TARGETS)).astype(np.float32))
    predictions = scores + torch.from_numpy(rng.normal(0, 1, scores.shape).astype(np.float32))
    predictions[:, 1], scores[:, 1] = 4 + scores[:, 0] * 2**-21, scores[:, 0].clone()
    scores[:30, 2], scores[30:, 3], scores[:, 4] = torch.nan, torch.nan, torch.nan
    predictions[:30, 5], predictions[30:, 5] = 1, 2  # varies over both, in neither
    labels = torch.from_numpy(rng.integers(NO_CLASS, 3, 50))
    labels[:30][labels[:30] == 2], labels[30:][labels[30:] == 0] = 1, NO_CLASS
    parts = [list(zip(predictions.split(10), each.split(10), strict=True)) for each in (scores, labels)]
    owners = (ScoreMetrics(), UnweightedAccuracy(classes_of([0, 2, 3]), EMOTIONS.subset(EMOTIONS.ids[:TARGETS])))
    found = in_two_processes(tmp_path, [(owner, each[:3], each[3:]) for owner, each in zip(owners, parts, strict=True)])
    for owner, batches in zip(owners, parts, strict=True):
        for batch in batches:
            owner.update(*batch)
    one, accuracy = (owner.compute() for owner in owners)
    for figures, share in found:
        np.testing.assert_array_equal(figures, one)
        assert share == accuracy
    np.testing.assert_allclose(one, expected(predictions, scores), atol=1e-6, equal_nan=True)
    assert one[:, [0, 1, 2, 3, 5]].isfinite().all()
    assert one[:, 4].isnan().all()
    assert 0 < accuracy < 1
