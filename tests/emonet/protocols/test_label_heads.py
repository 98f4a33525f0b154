"""Heads on distributions against heads on consensus: what they learn, and what is never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emonet.clips import Clip, Folds, deal_folds, folds_of
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.protocols import Distributions, label_heads_table

CONFIG = EvaluationConfig(resamples=50)
SPEAKERS = 6


def some(clips: int = 120, seed: int = 0, features: int = 4) -> tuple[np.ndarray, Distributions, list[Clip]]:
    """Clips between three classes; the raters, 4 to 5 of them, disagree as the clip is ambiguous."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(clips, features))
    shares = np.exp(1.5 * inputs[:, :3])
    shares /= shares.sum(1, keepdims=True)
    votes = np.array([rng.multinomial(4 + row % 2, one) for row, one in enumerate(shares)], float)
    ids = tuple(f"c{row:03}" for row in range(clips))
    people = [Clip(name, Path("x.wav"), f"s{row % SPEAKERS}", "train") for row, name in enumerate(ids)]
    return inputs, Distributions(ids, ("a", "b", "c"), votes, votes.sum(1).astype(int)), people


def test_heads_beat_the_prior_and_distributions_beat_consensus_in_divergence() -> None:
    inputs, truth, clips = some()
    table = label_heads_table(inputs, truth, clips, deal_folds(clips, 3), config=CONFIG)
    prior, soft, plural, major = table.records()
    assert [row["model"] for row in table.records()] == [
        "mean of training labels",
        "head on distributions",
        "head on plurality",
        "head on majority",
    ]
    assert soft["kl"] < prior["kl"]  # type: ignore[operator]
    for row in (soft, plural, major):  # those on consensus are too sure of themselves to have less divergence
        assert row["wa"] > prior["wa"] + 0.1  # type: ignore[operator]
    assert soft["kl"] < plural["kl"]  # type: ignore[operator]
    assert soft["js"] < plural["js"]  # type: ignore[operator]
    assert soft["trained"] == 80
    kept = [truth.kept("plurality").sum(), truth.kept("majority").sum()]
    assert [plural["trained"], major["trained"]] == [round(count * 2 / 3) for count in kept]
    assert any("chosen by held-out speakers" in note for note in table.notes)


def test_test_speakers_labels_are_never_seen() -> None:
    """Those of one fold, turned round: its predictions stay what they were, so its clips are now wrong."""
    inputs, truth, clips = some()
    tested = {name: [row for row in range(120) if (row % SPEAKERS < 3) == (name == "one")] for name in ("one", "two")}
    turned = truth.votes.copy()
    turned[tested["one"]] = turned[tested["one"]][:, [1, 2, 0]]
    first = Folds(folds_of(tested).folds[:1])

    def divergences(votes: np.ndarray) -> dict[str, float]:
        labels = Distributions(truth.clips, truth.classes, votes, truth.raters)
        table = label_heads_table(inputs, labels, clips, first, config=CONFIG)
        return {str(row["model"]): float(row["kl"]) for row in table.records()}  # type: ignore[arg-type]

    before, after = divergences(truth.votes), divergences(turned)
    assert after["head on distributions"] > before["head on distributions"] + 0.3


def test_order_of_labels_and_more_features_than_clips() -> None:
    """Labels come in any order; wide features turn into as many coordinates as there are clips, to the same heads."""
    inputs, truth, clips = some(60, features=80)
    shuffled = truth.of(truth.clips[::-1])
    folds = deal_folds(clips, 2)
    one, other = (label_heads_table(inputs, each, clips, folds, config=CONFIG) for each in (truth, shuffled))
    assert one == other


@pytest.mark.parametrize("width", [3, 200])
def test_features_that_say_nothing_give_the_prior(width: int) -> None:
    _, truth, clips = some()
    prior, soft, *_ = label_heads_table(
        np.ones((120, width)), truth, clips, deal_folds(clips, 2), config=CONFIG
    ).records()
    assert soft["kl"] == pytest.approx(prior["kl"], abs=1e-3)


def test_coordinates_give_the_same_head() -> None:
    from sklearn.linear_model import LogisticRegression

    from emonet.protocols.label_variance.heads import _fit, _standardised

    rng = np.random.default_rng(0)
    inputs, more = rng.normal(size=(20, 50)), rng.normal(size=(5, 50))
    given = np.arange(20) % 3
    scale = inputs.mean(0), inputs.std(0)
    plain = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit((inputs - scale[0]) / scale[1], given)
    ours = _fit(*_standardised(inputs, more), np.eye(3)[given], 0.1)
    assert ours == pytest.approx(plain.predict_proba((more - scale[0]) / scale[1]), abs=1e-3)


def test_clips_without_ratings_are_left_out_and_told() -> None:
    inputs, truth, clips = some()
    part = truth.of(truth.clips[:110])
    table = label_heads_table(inputs, part, clips, deal_folds(clips, 3), config=CONFIG)
    assert "10 clips have no label of raters: left out" in table.notes
    assert "all 110 clips" in table.notes[0]


def test_a_rule_that_keeps_nothing_leaves_a_head_that_knows_nothing() -> None:
    inputs, truth, clips = some()
    tied = Distributions(truth.clips, truth.classes, np.ones((120, 3)), np.full(120, 3))
    rows = label_heads_table(inputs, tied, clips, deal_folds(clips, 2), config=CONFIG).records()
    assert [row["trained"] for row in rows] == [60, 60, 0, 0]
    assert rows[2]["js"] == pytest.approx(0, abs=1e-9)  # all classes alike, which here is right


def test_folds_that_leak_speakers_are_refused() -> None:
    inputs, truth, clips = some()
    folds = folds_of({"one": list(range(60)), "two": list(range(60, 120))})
    with pytest.raises(RequestError, match="fold one tests speakers that it trains on: s0, s1, s2 and 3 more"):
        label_heads_table(inputs, truth, clips, folds, config=CONFIG)


def test_features_that_do_not_fit_are_refused() -> None:
    inputs, truth, clips = some()
    folds = deal_folds(clips, 2)
    with pytest.raises(RequestError, match="119 rows of features for 120 clips"):
        label_heads_table(inputs[1:], truth, clips, folds, config=CONFIG)
    inputs[7, 0] = np.nan
    with pytest.raises(RequestError, match="features that are not finite: c007"):
        label_heads_table(inputs, truth, clips, folds, config=CONFIG)
