from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from emonet.evaluation import METRICS, Comparison, ContenderFacts, Estimate, PairwiseDifference
from experiments.compare import table as tables
from tests.experiments.compare.findings import HOSTILE, findings


def printed(table: Table, width: int = 80) -> list[str]:
    console = Console(width=width, soft_wrap=True, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return findings(models=3).comparison


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_terminal_and_no_figure_is_cut(comparison: Comparison, width: int) -> None:
    pair = comparison.pairs[0]
    shown = {
        "figures": tables.comparison_table(comparison),
        "costs": tables.costs_table(comparison),
        "pairs": tables.pairs_table(comparison),
        "differences": tables.differences_table(comparison, pair, {name: name.title() for name in comparison.targets}),
    }
    lines = {name: printed(table, width) for name, table in shown.items()}
    assert all(len(line) <= width for each in lines.values() for line in each)
    text = {name: "\n".join(each) for name, each in lines.items()}
    for metric in METRICS.values():
        mean = comparison.scores["good"].of(metric.name).mean
        assert metric.label in text["figures"]
        assert f"{mean.low:.3f}–{mean.high:.3f}" in text["figures"]
    for name in tables.PAIRED:
        difference = pair.mean[name]
        assert f"{difference.low:+.3f} to {difference.high:+.3f}" in text["pairs"]
    fear = pair.emotions[comparison.targets[1]].mae
    assert f"{fear.value:+.3f} [{fear.low:+.3f}, {fear.high:+.3f}]" in text["differences"]
    assert "88,154,112" in text["costs"]
    assert "trained on 12 of these 60 clips" in " ".join(text["figures"].split())
    assert "training clips not known" in " ".join(text["figures"].split())
    assert all(note in " ".join(text["pairs"].split()) for note in comparison.notes())
    assert "[bold]" in text["costs"].replace("\n", ""), "a name is no markup"


def pair_of(value: float | None, low: float | None, high: float | None, p: float | None) -> PairwiseDifference:
    mae = Estimate(value=value, low=low, high=high)
    others = {name: Estimate(value=0, low=0, high=0) for name in METRICS if name != "mae"}
    return PairwiseDifference(one="a", other="b", mean={"mae": mae, **others}, p=p, emotions={})


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((-0.012, -0.021, -0.004, 0.003), "a is better than b by 0.012 MAE [0.004, 0.021], p = 0.003."),
        ((0.012, 0.004, 0.021, 0.0001), "b is better than a by 0.012 MAE [0.004, 0.021], p < 0.001."),
        (
            (0.012, -0.004, 0.021, 0.2),
            "No difference between b and a can be told: the error of b is smaller by 0.012 MAE [-0.004, 0.021], p = 0.200.",
        ),
        (
            (-0.012, -0.021, -0.004, 0.06),
            "No difference between a and b can be told: the error of a is smaller by 0.012 MAE [0.004, 0.021], p = 0.060; "
            "the interval excludes 0, but the permutation test does not confirm it.",
        ),
        ((0.0, 0.0, 0.0, 1.0), "a and b make the same errors."),
        ((None, None, None, None), "a and b cannot be compared: no clip has a score."),
    ],
)
def test_a_pair_in_plain_words(comparison: Comparison, figures: tuple[float, ...], said: str) -> None:
    assert tables.sentence(comparison, pair_of(*figures)).startswith(said)


def test_with_too_few_speakers_for_a_p_value_the_interval_alone_is_named(comparison: Comparison) -> None:
    few = comparison.test.model_copy(update={"units": 5, "smallest_p": 0.0625, "smallest_corrected": 1.0})
    said = tables.sentence(comparison.model_copy(update={"test": few}), pair_of(-0.012, -0.021, -0.004, 0.0625))
    assert said.startswith("a is better than b by 0.012 MAE [0.004, 0.021], p = 0.062, going by the interval alone: ")
    assert "with 5 speakers no p value can be at most 0.05." in said


def test_single_emotions_in_plain_words(comparison: Comparison) -> None:
    pair = comparison.pair("good", "median")
    said = tables.sentence(comparison, pair)
    assert said.endswith("It is significantly better on 5 and worse on 0 of 5 targets.")
    assert tables.sentence(comparison, pair.swapped()) == said
    assert HOSTILE in tables.sentence(comparison, comparison.pair("good", HOSTILE))


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (ContenderFacts(seen_clips=0), ""),
        (ContenderFacts(seen_clips=1200), "trained on 1,200 of these 2,000 clips"),
        (ContenderFacts(), "training clips not known"),
    ],
)
def test_what_is_known_of_training(facts: ContenderFacts, text: str) -> None:
    assert tables.seen_text(facts, 2000) == text


def test_costs_as_text() -> None:
    assert tables.costs(ContenderFacts()) == ("–",) * 4
    known = ContenderFacts(parameters=1_234_567, megabytes=4.56, milliseconds=0.0123, memory_mib=2048.4)
    assert tables.costs(known) == ("1,234,567", "4.56", "0.0123", "2,048")
    assert (tables.p_text(None), tables.p_text(0.0004), tables.p_text(0.04, "p")) == ("–", "< 0.001", "p = 0.040")
