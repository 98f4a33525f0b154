from __future__ import annotations

import numpy as np
import pytest

from benchmarks import promotion
from benchmarks.promotion import Corpus, compared, differences, shares
from emonet.configs import EvaluationConfig
from emonet.evaluation import Contender, compare

SMALL = Corpus(12, 5, 3, 0.4, 0.06)


@pytest.mark.parametrize("speakers", [12, 3])
def test_simulated_pairs_are_those_of_a_comparison(speakers: int) -> None:
    corpus = Corpus(speakers, 5, 3, 0.4, 0.06)
    found = differences(corpus, -0.05, 0.1, np.random.default_rng(0))
    names = [f"s{number // 5}" for number in range(len(found))]
    simulated, test = compared(found, names, seed=3)
    real = compare(
        np.zeros_like(found),
        [Contender("challenger", 10 + found), Contender("champion", np.full_like(found, 10))],
        targets=["e0", "e1", "e2"],
        speakers=names,
        config=EvaluationConfig(resamples=promotion.RESAMPLES),
        permutations=promotion.SWAPS,
        seed=3,
        scale=(0.0, 4.0),
    )
    pair = real.pairs[0]
    assert real.test == test
    assert simulated.p == pytest.approx(pair.p)
    for target, each in simulated.emotions.items():
        for end in ("value", "low", "high"):
            assert getattr(each.mae, end) == pytest.approx(getattr(pair.emotions[target].mae, end), abs=1e-9)
        assert each.p_holm == pytest.approx(pair.emotions[target].p_holm)
    assert simulated.mean["mae"].high == pytest.approx(pair.mean["mae"].high, abs=1e-9)


def test_what_is_plainly_better_is_promoted_and_what_is_plainly_worse_is_not() -> None:
    assert shares(SMALL, -0.5, -0.5, [0.025], 4, seed=0) == [1, 1]
    assert shares(SMALL, 0.5, 0.5, [0.025], 4, seed=0) == [0, 0]
    assert shares(SMALL, -0.5, 0.6, [0.025, 0.5], 4, seed=0)[1:] == [0, 1], "as far as the margin allows"


def test_too_few_clips_are_no_licence_for_a_worse_emotion() -> None:
    """The former rule asked for proof that an emotion is worse, which few clips never give."""
    former, now = shares(Corpus(12, 2, 40, 0.4, 0.06), -0.1, 0.2, [0.025], 5, seed=0)
    assert former > 0.5
    assert now == 0


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "CORPORA", {"small": SMALL})
    promotion.main(["--trials", "1", "--margins", "0.025"])
    assert "margin 0.025" in (out := capsys.readouterr().out)
    assert out.count("small") == len(promotion.CANDIDATES)
