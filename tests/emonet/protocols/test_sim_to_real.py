"""Sim-to-real: the paper's lenient rule by hand, its price, table 7 recomputed, and models that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_score

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import Estimate, Scored
from emonet.protocols import (
    ClassMapping,
    Row,
    hear,
    measure,
    open_mapping,
    published_rows,
    random_scores,
    sensitivity_figure,
    sensitivity_table,
    sim_to_real_classes_table,
    sim_to_real_table,
    weighted_total,
)
from emonet.protocols.sim_to_real.tables import CLASS_SIZES
from emonet.targets import EMOTIONS, TargetSpec

CONFIG = EvaluationConfig(resamples=100)
MAPPING = ClassMapping("mine", "here", {"happy": ("elation", "pride"), "angry": ("anger",), "sad": ("sadness",)})
SPEC = EMOTIONS.subset(MAPPING.emotions)


def clip(name: str, label: str | None, speaker: str = "a") -> Clip:
    return Clip(name, Path("x.wav"), speaker, "test", label=label)


def some_clips(count: int = 60) -> list[Clip]:
    return [clip(f"c{row}", list(MAPPING.classes)[row % 3], f"s{row % 7}") for row in range(count)]


def scored(clips: list[Clip], rows: object, spec: TargetSpec = SPEC) -> Scored:
    return Scored(pd.DataFrame(np.array(rows, float), index=[one.id for one in clips], columns=list(spec.ids)))


def figures(*estimates: Estimate) -> list[float | None]:
    return [one.value for one in estimates]


def test_the_rule_by_hand() -> None:
    """Four emotions: one is present above 1.5 / 4 = 0.375."""
    clips = [clip("a", "happy"), clip("b", "happy"), clip("c", "angry"), clip("d", "sad")]
    columns = SPEC.ids
    strong = {
        "a": {"elation": 4.0, "anger": 4.0},  # both half: happy and angry are called
        "b": {"sadness": 4.0},  # sad alone
        "c": {},  # all equal, a quarter each: nothing is called
        "d": {"sadness": 2.0, "elation": 1.0},  # e^2 / (e^2 + e + 2) = 0.61
    }
    heard = hear(
        scored(clips, [[strong[one.id].get(name, 0.0) for name in columns] for one in clips]),
        clips,
        MAPPING,
        spec=SPEC,
    )
    called = heard.called().tolist()
    assert called == [[True, True, False], [False, False, True], [False, False, False], [False, False, True]]
    found = measure(heard, CONFIG)
    happy, angry, sad = found.classes.values()
    assert figures(happy.recall, angry.recall, sad.recall) == [0.5, 0.0, 1.0]
    assert figures(happy.precision, angry.precision, sad.precision) == [1.0, 0.0, 0.5]
    assert figures(happy.chance, angry.chance, sad.chance) == [0.25, 0.25, 0.5]
    assert figures(happy.false_alarms, angry.false_alarms, sad.false_alarms) == pytest.approx([0, 1 / 3, 1 / 3])
    rule = found.lenient
    assert figures(rule.overall, rule.precision, rule.per_clip) == [0.5, 0.5, 1.0]
    assert rule.chance.value == pytest.approx(0.5 * 0.25 + 0.25 * 0.25 + 0.25 * 0.5)
    assert heard.tied == 2  # a and c
    assert found.top1.wa.value == 0.5  # a (the first of the tie) and d


def test_whoever_calls_everything_is_no_better_than_chance() -> None:
    """A low threshold: 100 % by the paper's figure, which the price lays open."""
    clips = some_clips()
    found = measure(hear(random_scores(clips, SPEC), clips, MAPPING, spec=SPEC), CONFIG, factor=0.0).lenient
    assert figures(found.overall, found.chance, found.per_clip) == pytest.approx([1.0, 1.0, 3.0])
    assert found.precision.value == pytest.approx(1 / 3)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_scores_that_have_heard_nothing_come_near_the_published_figure(corpus: str) -> None:
    """70.6 and 74.2 % in the paper's table 7; what has a price stays at one class in so many."""
    mapping = open_mapping(corpus)
    clips = [
        clip(f"{name}{number}", name, f"s{number % 10}")
        for name, size in CLASS_SIZES[corpus].items()
        for number in range(size)
    ]
    found = measure(hear(random_scores(clips, EMOTIONS), clips, mapping, spec=EMOTIONS), CONFIG)
    assert found.lenient.overall.value is not None
    assert found.lenient.overall.value > 0.65
    assert found.lenient.overall.value == pytest.approx(found.lenient.chance.value, abs=0.03)
    for one in (found.lenient.precision, found.top1.ua, found.top1.wa):
        assert one.value == pytest.approx(1 / len(mapping.classes), abs=0.03)


def test_top1_is_sklearns_with_intervals_over_speakers() -> None:
    clips = some_clips()
    scores = random_scores(clips, SPEC)
    heard = hear(scores, clips, MAPPING, spec=SPEC)
    found = measure(heard, CONFIG)
    expected = precision_score(heard.given, heard.strongest, average=None)
    assert figures(*(one.top1_precision for one in found.classes.values())) == pytest.approx(expected.tolist())
    assert found.top1.resampled == "speakers"
    assert figures(*(one.top1_recall for one in found.classes.values())) == figures(*found.top1.recall.values())
    for one in (found.lenient.overall, found.lenient.precision, found.classes["sad"].precision):
        assert one.low is not None
        assert one.value is not None
        assert one.high is not None
        assert one.low < one.value < one.high


def test_order_and_scale_of_scores_do_not_matter() -> None:
    """Clips in another order; targets from -3 to 3 that say the same."""
    clips = some_clips()
    scores = random_scores(clips, SPEC)
    shuffled = Scored(scores.scores.iloc[::-1])
    one, other = (measure(hear(each, clips, MAPPING, spec=SPEC), CONFIG) for each in (scores, shuffled))
    assert one.lenient == other.lenient
    from dataclasses import replace

    wide = TargetSpec(tuple(replace(target, low=-3.0, high=3.0) for target in SPEC))
    stretched = Scored(scores.scores * 1.5 - 3)
    assert measure(hear(stretched, clips, MAPPING, spec=wide), CONFIG).lenient == one.lenient


def test_a_wider_scale_calls_fewer_classes() -> None:
    clips = some_clips()
    table = sensitivity_table({"m": hear(random_scores(clips, SPEC), clips, MAPPING, spec=SPEC)}, CONFIG)
    records = table.records()
    by_factor = [row["per_clip"] for row in records if row["span"] == 4]
    assert by_factor == sorted(by_factor, reverse=True)  # type: ignore[type-var]
    assert by_factor[0] != by_factor[-1]
    paper = next(row for row in records if row["span"] == 4 and row["factor"] == 1.5)
    assert paper["overall"] == pytest.approx(
        100 * measure(hear(random_scores(clips, SPEC), clips, MAPPING, spec=SPEC), CONFIG).lenient.overall.value  # type: ignore[operator]
    )


def test_what_is_left_out_is_told() -> None:
    clips = [*some_clips(20), clip("u", "neutral"), clip("v", None), clip("w", "sad")]
    values = np.random.default_rng(0).uniform(0, 4, (len(clips), 4))
    values[-1] = np.nan
    heard = hear(scored(clips, values), clips, MAPPING, spec=SPEC)
    assert (heard.clips, heard.unlabelled, heard.refused, len(heard.given)) == (23, 2, 1, 20)
    assert heard.told[0] == "2 of 23 clips have none of the classes: left out"
    assert heard.told[1] == "1 of 23 clips were refused, or lack a score: left out"


def test_a_model_of_fewer_emotions() -> None:
    """`sadness` is no target of it, and `pride` refused throughout: n is 2, sad is never called."""
    clips = some_clips()
    spec = EMOTIONS.subset(["elation", "pride", "anger"])
    values = np.random.default_rng(0).uniform(0, 4, (len(clips), 3))
    values[:, spec.ids.index("pride")] = np.nan
    heard = hear(scored(clips, values, spec), clips, MAPPING, spec=spec)
    found = measure(heard, CONFIG)
    assert heard.unscored == ("pride", "sadness")
    assert figures(found.classes["sad"].recall, found.classes["sad"].precision) == [0.0, None]
    assert "it scores no emotion of sad: these classes are never called" in found.notes
    assert "the model does not score pride, sadness: n is 2" in found.notes


def test_scores_that_do_not_fit_are_refused() -> None:
    clips = some_clips(6)
    with pytest.raises(RequestError, match=r"other clips[\s\S]*clips without one: 1 \(c5\)"):
        hear(scored(clips[:5], np.zeros((5, 4))), clips, MAPPING, spec=SPEC)
    with pytest.raises(RequestError, match=r"rows of no clip: 1 \(c5\)"):
        hear(scored(clips, np.zeros((6, 4))), clips[:5], MAPPING, spec=SPEC)
    alone = EMOTIONS.subset(["elation", "awe"])
    with pytest.raises(RequestError, match="emotions of fewer than two classes"):
        hear(scored(clips, np.zeros((6, 2)), alone), clips, MAPPING, spec=alone)
    strange = [clip(f"c{row}", "bored") for row in range(6)]
    with pytest.raises(RequestError, match=r"no clip has both[\s\S]*happy, angry, sad[\s\S]*bored"):
        hear(scored(strange, np.zeros((6, 4))), strange, MAPPING, spec=SPEC)


@pytest.mark.parametrize(("corpus", "clips", "total"), [("emodb", 535, 70.6), ("ravdess", 1440, 74.2)])
def test_weighted_totals_of_table_7_recompute(corpus: str, clips: int, total: float) -> None:
    """EmoDB's is 70.67 from the rounded classes, 378 of 535 clips or 70.65 from whole ones: the paper cut it to 70.6."""
    row, *_ = published_rows(corpus)
    sizes = CLASS_SIZES[corpus]
    percent = {name: float(row.cells[f"recall/{name}"]) for name in sizes}  # type: ignore[arg-type]
    assert row.cells["overall"] == total
    assert sum(sizes.values()) == clips
    assert weighted_total(percent, sizes) == pytest.approx(total, abs=0.1)
    unweighted = sum(percent.values()) / len(percent)
    assert abs(unweighted - total) > 0.9  # weighting is what the paper did
    whole = sum(round(percent[name] * size / 100) for name, size in sizes.items())
    assert whole == {"emodb": 378, "ravdess": 1068}[corpus]


def test_emodbs_counts_are_the_known_ones() -> None:
    assert tuple(CLASS_SIZES["emodb"].values()) == (127, 81, 46, 69, 71, 79, 62)


def test_table_7_has_its_published_rows() -> None:
    mapping = open_mapping("ravdess")
    clips = [clip(f"c{row}", list(mapping.classes)[row % 8], f"s{row % 6}") for row in range(48)]
    values = np.random.default_rng(1).uniform(0, 4, (48, 40))
    heard = hear(scored(clips, values, EMOTIONS), clips, mapping, spec=EMOTIONS)
    table = sim_to_real_table({"ours": measure(heard, CONFIG)}, mapping)
    assert [row.kind for row in table.rows] == ["published"] * 4 + ["measured"]
    first, *_, last = table.records()
    assert (first["model"], first["overall"], first["recall/calm"]) == (
        "empathic-insight-voice-large (zero-shot)",
        74.2,
        53.1,
    )
    assert (last["model"], last["clips"]) == ("ours", 48)
    assert any("1,440 clips give 74.16; the table says 74.2" in note for note in table.notes)
    assert any("39 emotions stand for 8 classes" in note for note in table.notes)


def test_a_users_mapping_has_no_published_rows(tmp_path: Path) -> None:
    """Not even if its file, or a class, is called what others are."""
    path = tmp_path / "emodb.yaml"
    path.write_text("clips: [elation, pride]\noverall: [anger]\nmodel: [sadness]\n", "utf-8")
    mapping = open_mapping(str(path))
    clips = [clip(f"c{row}", list(mapping.classes)[row % 3]) for row in range(9)]
    found = measure(hear(random_scores(clips, SPEC), clips, mapping, spec=SPEC), CONFIG)
    table = sim_to_real_table({"m": found}, mapping)
    assert table.rows == (Row(cells=table.rows[0].cells),)
    assert table.rows[0].cells["model"] == "m"


def test_tables_by_class_and_the_picture(tmp_path: Path) -> None:
    clips = some_clips()
    heard = {"m": hear(random_scores(clips, SPEC), clips, MAPPING, spec=SPEC)}
    table = sim_to_real_classes_table({name: measure(one, CONFIG) for name, one in heard.items()}, MAPPING)
    assert [(row["class"], row["clips"]) for row in table.records()] == [("happy", 20), ("angry", 20), ("sad", 20)]
    sensitivity_figure(sensitivity_table(heard, CONFIG), "m", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
