from __future__ import annotations

import pytest

from emonet.configs import HeadsConfig
from experiments.heads.selection import best_form, selected_by


@pytest.mark.parametrize(
    ("select_by", "best", "words"),
    [
        ("mae", "statistics", "mean validation MAE"),
        ("pearson", "attention", "mean validation Pearson"),
        ("ua", "attention", "validation UA"),
    ],
)
def test_a_form_is_best_in_the_metrics_own_direction(select_by: str, best: str, words: str) -> None:
    config = HeadsConfig.model_validate({"select_by": select_by})
    assert best_form({"flatten": None, "statistics": 0.2, "attention": 0.3}, config) == best
    assert best_form({"flatten": 0.3, "attention": 0.3}, config) == "flatten", "the first of equals"
    assert best_form({"flatten": None, "attention": None}, config) == "flatten"
    assert selected_by(config) == words
