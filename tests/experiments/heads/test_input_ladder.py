from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from emonet.configs import EvaluationConfig
from emonet.evaluation import evaluate
from emonet.targets import EMOTIONS
from experiments.heads.input_ladder import GroupComparison, compare_forms, forms_table, groups_table

TARGETS = ("anger", "contentment", "fear")  # of high, low and high arousal
SPEAKERS = [f"s{clip // 10}" for clip in range(80)]
CONFIG = EvaluationConfig(resamples=100)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 4, (80, 3)).astype(np.float32)


@pytest.fixture
def predictions(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics hear anger and fear well, attention hears contentment, flatten hears nothing."""
    noise = np.random.default_rng(1).normal(0, 1, (3, 80, 3)).astype(np.float32)
    flatten, statistics, attention = noise
    statistics[:, [0, 2]] += 3 * truth[:, [0, 2]]
    attention[:, 1] += 3 * truth[:, 1]
    return {"flatten": flatten, "statistics": statistics, "attention": attention}


@pytest.fixture
def groups(truth: np.ndarray, predictions: dict[str, np.ndarray]) -> tuple[GroupComparison, ...]:
    return compare_forms(truth, predictions, targets=TARGETS, speakers=SPEAKERS, config=CONFIG, seed=0)  # type: ignore[arg-type]


def test_every_pair_of_forms_in_every_group(groups: tuple[GroupComparison, ...]) -> None:
    assert [(group.name, group.targets) for group in groups] == [
        ("all", TARGETS),
        ("high arousal", ("anger", "fear")),
        ("low arousal", ("contentment",)),
    ]
    for group in groups:
        assert list(group.differences) == ["statistics - flatten", "attention - flatten", "attention - statistics"]
    high, low = groups[1].differences, groups[2].differences
    assert high["statistics - flatten"].low > 0.5
    assert high["attention - statistics"].high < -0.5
    assert low["attention - statistics"].low > 0.5
    assert abs(low["statistics - flatten"].value) < 0.5


def test_the_tables_show_who_is_best_where(
    truth: np.ndarray, predictions: dict[str, np.ndarray], groups: tuple[GroupComparison, ...]
) -> None:
    scores = {
        form: evaluate(truth, predicted, targets=TARGETS, speakers=SPEAKERS, config=CONFIG)
        for form, predicted in predictions.items()
    }
    console = Console(width=140, record=True, force_terminal=True)
    console.print(forms_table(scores, {target: EMOTIONS[target].name for target in TARGETS}))  # type: ignore[arg-type]
    console.print(groups_table(groups))
    styled = console.export_text(styles=True, clear=False)
    shown = console.export_text()
    best = scores["statistics"].pearson.per_target["anger"].value
    assert f"\x1b[1m{best:.3f}" in styled
    for words in ("Anger", "Contentment", "high arousal (2)", "low arousal (1)", "attention - statistics"):
        assert words in shown


def test_emotions_outside_the_taxonomy_are_in_no_arousal_group(truth: np.ndarray) -> None:
    names = ("warmth", "calm", "age")
    found = compare_forms(
        truth, {"flatten": truth, "statistics": truth[::-1]}, targets=names, speakers=SPEAKERS, config=CONFIG, seed=0
    )
    assert [group.name for group in found] == ["all"]
