from __future__ import annotations

import numpy as np
import pytest

from emonet.errors import RequestError
from emonet.timelines import curves
from tests.emonet.timelines.timelines import SPEC, scored, timeline


def test_steps_gaps_and_overlaps() -> None:
    found = curves(timeline(scored(0, 1, anger=1), scored(0.5, 1, anger=3), scored(2, 2.5, anger=2), seconds=3), 0.5, 0)
    assert found.index.name == "seconds"
    assert found.index.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    np.testing.assert_array_equal(found["anger"], [1, 2, np.nan, np.nan, 2, np.nan])
    assert tuple(found.columns) == SPEC.ids


def test_smoothing_keeps_gaps_and_constants_and_softens_steps() -> None:
    steps = timeline(scored(0, 2, anger=0), scored(2, 4, anger=2), scored(6, 8, anger=2), seconds=9)
    found = curves(steps, 0.1, 0.3)
    assert found["anger"].isna().sum() == 30
    np.testing.assert_allclose(found["fear"].dropna(), 0.5)
    assert found["anger"].iloc[:40].is_monotonic_increasing
    assert 0.5 < found["anger"].iloc[19] < found["anger"].iloc[20] < 1.5
    np.testing.assert_allclose(found["anger"].iloc[60:80], 2)  # far from what is lower, and silence has no part in it


def test_one_speaker_and_standardised() -> None:
    both = timeline(scored(0, 1, "a", anger=1, standardised={"anger": 5.0}), scored(0, 1, "b", anger=3), seconds=1)
    assert curves(both, 1, 0)["anger"].tolist() == [2]
    assert curves(both, 1, 0, speaker="b")["anger"].tolist() == [3]
    assert curves(both, 1, 0, standardised=True)["anger"].tolist() == [5]


def test_nobody_speaks() -> None:
    assert curves(timeline(seconds=1)).shape == (10, 4)
    assert curves(timeline(seconds=1)).isna().all(axis=None)


@pytest.mark.parametrize(("hop", "smoothing"), [(0, 1), (-1, 1), (0.1, -1), (float("nan"), 1)])
def test_no_such_curves(hop: float, smoothing: float) -> None:
    with pytest.raises(RequestError, match="there are no such curves"):
        curves(timeline(), hop, smoothing)
