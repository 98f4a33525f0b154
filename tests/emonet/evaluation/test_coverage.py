from __future__ import annotations

import numpy as np
import pytest

from emonet.evaluation import SpreadScores, ensemble_figures
from emonet.targets import EMOTIONS

SPEC = EMOTIONS.subset(["anger", "fear"])


def scores(errors: list[list[float]], *, half: float, truth: float = 0.0) -> SpreadScores:
    found = np.array(errors)
    given = np.full(found.shape, truth)
    given[np.isnan(found)] = np.nan
    return SpreadScores(given, truth + np.nan_to_num(found), np.full(found.shape, 0.1), np.full(found.shape, half))


def test_coverage_counts_the_truth_within_as_it_is_and_scaled() -> None:
    nan = np.nan
    test = scores([[0.1, 0.3], [0.2, 0.3], [0.4, nan], [0.6, nan]], half=0.5)
    test.truth[1, 0], test.predictions[1, 0] = 2.0, 2.2  # fear sounds in one clip
    figures = ensemble_figures(scores([[0.1, nan]], half=0.5), test, SPEC, members=5, nominal=0.9)
    fear, anger = figures.per_target["fear"], figures.per_target["anger"]
    assert (fear.raw.validation, fear.raw.test, fear.raw.present) == (1.0, 0.25, 0.0)
    assert (fear.scaled.test, fear.scaled.present) == (0.75, 1.0)
    assert (anger.raw.validation, anger.raw.test, anger.raw.present) == (None, 0.0, None)
    assert anger.scaled.test == 1.0
    assert (fear.spread, fear.half_width) == pytest.approx((0.1, 0.5))
    assert figures.mean.scaled.test == pytest.approx(0.875)
    assert figures.mean.raw.validation == 1.0, "anger has none"
    assert str(figures) == (
        "90 % intervals by the spread of 5 experts each hold 88 % of the test clips' scores, 100 % of those above the "
        "lowest; unscaled, 12 % and 0 %"
    )
    assert figures.flat()["uncertainty/coverage"] == pytest.approx(0.875)


def test_without_a_factor_there_is_no_scaled_coverage() -> None:
    one = scores([[0.1, 0.1]], half=np.nan)
    figures = ensemble_figures(one, one, SPEC, members=2, nominal=0.9)
    assert figures.mean.half_width is figures.mean.scaled.test is None
    assert figures.mean.raw.test == 1.0
    assert "an unknown share of the test clips' scores" in str(figures)
