from __future__ import annotations

import numpy as np

from cache.writing import SilenceMeter, sample


def test_where_no_clip_is_silent_the_overall_mean_stands() -> None:
    meter = SilenceMeter(3, 2)
    assert not meter.mean().any()
    meter.update(np.array([[9, 9], [1, 2], [3, 4]], np.float16), heard=1)
    np.testing.assert_array_equal(meter.mean(), [[2, 3], [1, 2], [3, 4]])


def test_the_sample_is_spread_over_all_rows() -> None:
    assert sample(list(range(5))) == [0, 1, 2, 3, 4]
    assert sample([]) == []
    chosen = sample(list(range(0, 2000, 2)))
    assert len(chosen) == len(set(chosen)) == 32
    assert (chosen[0], chosen[-1]) == (0, 1998)
