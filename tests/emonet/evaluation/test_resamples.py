from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emonet.configs import EvaluationConfig
from emonet.evaluation import evaluate, resampled_sums, sample_classes, weighted_metrics
from emonet.evaluation.bootstrap import Resamples
from emonet.evaluation.metrics import HeldWeights


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_resamples_are_the_same_however_many_are_drawn_at_a_time(rows: int) -> None:
    draws = Resamples(units=30, count=100, seed=4)
    parts = [*draws.blocks(rows)]
    assert [part.start for part, _ in parts] == [*range(0, 100, rows)]
    np.testing.assert_array_equal(np.concatenate([counts for _, counts in parts]), draws.all())
    assert (draws.all().sum(1) == 30).all()


def test_sums_and_metrics_are_those_of_all_resamples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, draws = np.random.default_rng(0), Resamples(units=40, count=50, seed=1)
    by_unit, counts = rng.normal(size=(40, 3)), draws.all()
    whole = draws.sums(by_unit)
    np.testing.assert_array_equal(whole, np.concatenate([np.ones((1, 40)), counts]) @ by_unit)
    monkeypatch.setattr("emonet.evaluation.bootstrap._HELD", 40 * 3)
    np.testing.assert_allclose(draws.sums(by_unit), whole, rtol=1e-12)

    truth, predictions = rng.integers(0, 4, (40, 5)).astype(float), rng.normal(size=(40, 5))
    at_once = weighted_metrics(truth, predictions, counts)
    for most in ("_BLOCK", "_PREPARED"):  # some resamples, and some targets at a time
        monkeypatch.setattr(f"emonet.evaluation.metrics.{most}", 40 * 2)
    for some in (draws, HeldWeights(counts)):
        for name, values in weighted_metrics(truth, predictions, some).items():
            np.testing.assert_allclose(values, at_once[name], rtol=1e-12)


def test_a_bootstrap_over_many_clips_never_holds_all_its_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    clips, held = 500, list[int]()
    blocks = Resamples.blocks

    def watched(draws: Resamples, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
        for part, counts in blocks(draws, rows):
            held.append(counts.size)
            yield part, counts

    monkeypatch.setattr(Resamples, "blocks", watched)
    monkeypatch.setattr("emonet.evaluation.metrics._BLOCK", 3 * clips)
    monkeypatch.setattr("emonet.evaluation.bootstrap._HELD", 3 * clips)
    rng, labels = np.random.default_rng(0), np.arange(clips) % 4
    truth, predictions = rng.integers(0, 4, (clips, 1)).astype(float), rng.normal(size=(clips, 1))
    config, speakers = EvaluationConfig(resamples=30), ["one"] * clips
    scores = evaluate(truth, predictions, targets=["anger"], speakers=speakers, config=config)
    resampled_sums(truth, speakers, config)
    names = {str(one): f"class {one}" for one in range(4)}
    assert sample_classes(labels, labels[::-1].copy(), classes=names, speakers=speakers, config=config) is not None
    assert scores.resampled == "clips"
    assert len(held) == 3 * 10
    assert max(held) == 3 * clips
