"""Fairness: groups, gaps of known size, and p values that agree with exact tests."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.corpora import gender_of
from emonet.errors import RequestError
from emonet.evaluation import Estimate, Scored, evaluate
from emonet.protocols import (
    Grouping,
    ProtocolTable,
    Truth,
    correlates_figure,
    correlates_table,
    fairness_figure,
    fairness_tables,
    read_groupings,
    sound_properties,
    usual_groupings,
)
from emonet.targets import Target, TargetSpec

CONFIG = EvaluationConfig(resamples=200)
SPEC = TargetSpec((Target("anger", "Anger", 0.0, 4.0, "anger"),))


def made(errors: Sequence[Sequence[float]], prefix: str = "x/") -> tuple[list[Clip], Truth, Scored]:
    """Clips of speakers, each with the errors that the model makes on them; the given score varies."""
    clips, found = [], []
    for speaker, of_speaker in enumerate(errors):
        for take, error in enumerate(of_speaker):
            given = float(take % 3)
            name = f"{prefix}{speaker:02d}"
            clips.append(
                Clip(f"{name}-{take}", Path("none"), name, "test", scores={"anger": given}, seconds=1.0 + take)
            )
            found.append([given + error])
    return clips, Truth.of(clips, SPEC), Scored.of(clips, SPEC, found)


def by_speaker(clips: Sequence[Clip], groups: Sequence[str | None], name: str = "sex") -> Grouping:
    return Grouping(name, tuple(groups[int(clip.speaker.rpartition("/")[2])] for clip in clips))


def cells(table: ProtocolTable, **wanted: str) -> dict:
    (row,) = [row for row in table.rows if all(row.cells[key] == one for key, one in wanted.items())]
    return dict(row.cells)


@pytest.mark.parametrize(
    "groups",
    [
        "ab ab ab",
        "ab ab bc",
        "ab ac bc",
        "abc ab",
        "abc abc",
        "a b ab",
        "a b c ab",
        "a b c ab ab",
        "a a b bc c",
        "a a b b",
    ],
)
def test_the_smallest_p_is_that_of_every_deal(groups: str) -> None:
    """Speakers by the groups that they are in: the largest range of all deals, and how many deals have it."""
    from emonet.protocols.audits.contrasts import Contrast

    pairs = [(speaker, "abc".index(group)) for speaker, own in enumerate(groups.split()) for group in own]
    cells_of = {who: [n for n, (one, _) in enumerate(pairs) if one == who] for who, _ in pairs}
    alone = [own[0] for own in cells_of.values() if len(own) == 1]
    parts = [alone, *(own for own in cells_of.values() if len(own) > 1)]
    order = np.argsort([n for part in parts for n in part])
    dealt = product(*(permutations([pairs[n][1] for n in part]) for part in parts))
    every = np.unique([np.concatenate(own)[order] for own in dealt], axis=0).astype(int)
    rng, least = np.random.default_rng(0), 1.0
    for _ in range(200):
        values = rng.normal(size=len(pairs)) ** 3
        means = np.stack([((every == g) * values).sum(1) / (every == g).sum(1) for g in np.unique(every)])
        ranges = np.ptp(means, axis=0)
        least = min(least, float((ranges >= ranges.max() - 1e-12).mean()))
    speakers, numbers = (np.array(column) for column in zip(*pairs, strict=True))
    one = Contrast(None, None, (), np.arange(len(pairs)), speakers, numbers, CONFIG, 10_000, 0)  # type: ignore[arg-type]
    assert one.smallest_p == pytest.approx(least)


def test_figures_of_a_group_are_those_of_its_clips_alone() -> None:
    rng = np.random.default_rng(0)
    clips, truth, scored = made(rng.normal(0, 1, (12, 8)).tolist())
    by = by_speaker(clips, ["f"] * 7 + ["m"] * 5)
    table, _, _ = fairness_tables(
        scored, clips, truth, [by], evaluation=CONFIG, permutations=50, metrics=["mae", "ccc"]
    )
    rows = np.array([one == "m" for one in by.groups])
    speakers = [clip.speaker for clip, is_one in zip(clips, rows, strict=True) if is_one]
    predictions = scored.scores.to_numpy()
    alone = evaluate(truth.ratings[rows], predictions[rows], targets=["anger"], speakers=speakers, config=CONFIG)
    found = cells(table, group="m")
    assert (found["speakers"], found["clips"], found["note"]) == (5, 40, None)
    for metric in ("mae", "ccc"):
        expected = alone.of(metric).mean
        assert (found[metric].value, found[metric].low, found[metric].high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_a_gap_has_its_size_its_direction_and_a_small_p() -> None:
    rng = np.random.default_rng(1)
    errors = np.abs(rng.normal(0, 0.05, (12, 10))) + np.repeat([0.2, 0.7], 6)[:, None]
    clips, truth, scored = made(errors.tolist())
    by = by_speaker(clips, ["f"] * 6 + ["m"] * 6)
    _, gaps, pairs = fairness_tables(scored, clips, truth, [by], metrics=["mae"], evaluation=CONFIG)
    gap, pair = cells(gaps, grouping="sex"), cells(pairs, one="f")
    assert (gap["best"], gap["worst"], gap["over"]) == ("f", "m", "speakers")
    assert gap["gap"].value == pytest.approx(0.5, abs=0.03)
    assert pair["difference"].value == pytest.approx(-gap["gap"].value)
    assert gap["gap"].low > 0.4
    assert gap["p"] < 0.01
    assert gap["smallest_p"] == pytest.approx(2 / 924)  # 12 over 6, and both names can be exchanged


def test_p_between_speakers_agrees_with_dealing_them_in_all_ways() -> None:
    rng = np.random.default_rng(2)
    errors = np.abs(rng.normal(0.5, 0.2, (9, 10)))
    errors[:4] += 0.1
    clips, truth, scored = made(errors.tolist())
    _, gaps, _ = fairness_tables(
        scored,
        clips,
        truth,
        [by_speaker(clips, ["f"] * 4 + ["m"] * 5)],
        metrics=["mae"],
        evaluation=CONFIG,
        permutations=20_000,
    )
    means = errors.mean(1)

    def apart(some: tuple[int, ...]) -> float:
        rest = [one for one in range(9) if one not in some]
        return abs(means[list(some)].mean() - means[rest].mean())

    exact = np.mean([apart(some) >= apart((0, 1, 2, 3)) - 1e-12 for some in combinations(range(9), 4)])
    found = cells(gaps, grouping="sex")
    assert found["p"] == pytest.approx(exact, abs=0.01)
    assert found["smallest_p"] == pytest.approx(1 / 126)


def test_p_within_speakers_agrees_with_swapping_in_all_ways() -> None:
    rng = np.random.default_rng(3)
    speakers, takes = 7, 12
    errors = np.abs(rng.normal(0.5, 0.1, (speakers, takes))) + rng.uniform(0, 2, (speakers, 1))
    errors[:, ::2] += 0.05
    clips, truth, scored = made(errors.tolist())
    by = Grouping("room", tuple("ab"[int(clip.id.rpartition("-")[2]) % 2] for clip in clips))
    _, gaps, pairs = fairness_tables(
        scored, clips, truth, [by], metrics=["mae"], evaluation=CONFIG, permutations=20_000
    )
    differences = errors[:, ::2].mean(1) - errors[:, 1::2].mean(1)
    exact = np.mean(
        [
            abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-12
            for signs in product((-1, 1), repeat=speakers)
        ]
    )
    found = cells(gaps, grouping="room")
    assert found["p"] == pytest.approx(exact, abs=0.015)
    assert found["smallest_p"] == pytest.approx(2 / 2**speakers)
    # what speakers differ in cancels out, since the same ones are drawn for both groups
    assert found["gap"].high - found["gap"].low < 0.2
    assert cells(pairs, one="a")["p"] == pytest.approx(exact, abs=0.015)


@pytest.mark.slow
def test_p_is_uniform_where_groups_do_not_differ() -> None:
    rng = np.random.default_rng(4)
    found = []
    for seed in range(80):
        errors = np.abs(rng.normal(0, 1, (10, 10)) + rng.normal(0, 1, (10, 1)))  # speakers differ, groups do not
        clips, truth, scored = made(errors.tolist())
        by = by_speaker(clips, ["a"] * 5 + ["b"] * 5)
        few = EvaluationConfig(resamples=2)
        _, gaps, _ = fairness_tables(
            scored, clips, truth, [by], metrics=["mae"], evaluation=few, permutations=49, seed=seed
        )
        found.append(cells(gaps, grouping="sex")["p"])
    assert np.mean(np.array(found) <= 0.2) == pytest.approx(0.2, abs=0.12)
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.15)


def test_single_speakers_say_so_and_have_no_test() -> None:
    clips, truth, scored = made(np.random.default_rng(0).normal(0, 1, (3, 12)).tolist())
    speaker = Grouping("speaker", tuple(clip.speaker for clip in clips))
    mixed = by_speaker(clips, ["f", "m", "m"])
    table, gaps, pairs = fairness_tables(scored, clips, truth, [speaker, mixed], evaluation=CONFIG, permutations=50)
    assert (
        cells(table, group="x/01")["note"]
        == "a single speaker: says nothing of others like him or her; interval over clips"
    )
    found = cells(gaps, grouping="speaker", metric="MAE")
    assert found["p"] is None
    assert found["note"] == "3 of 3 groups are a single speaker; no test: dealing speakers anew changes nothing"
    assert found["over"] == "clips"
    found = cells(gaps, grouping="sex", metric="MAE")
    assert found["note"] == "1 of 2 groups is a single speaker"
    assert found["smallest_p"] == pytest.approx(1 / 3)
    assert found["p"] == found["p_holm"]  # the other one has no p and does not count
    assert {row.cells["p"] for row in pairs.rows if row.cells["grouping"] == "speaker"} == {None}


def test_groups_of_other_classes_say_so() -> None:
    spec = TargetSpec(tuple(Target(name, name, 0.0, 1.0, name) for name in ("joy", "fear")))
    labels = ["joy"] * 12 + ["fear"] * 4 + ["joy"] * 4 + ["fear"] * 12
    clips = [
        Clip(str(row), Path("none"), f"x/{row % 8}", "test", label=label, seconds=3.0 if row < 16 else 5.0)
        for row, label in enumerate(labels)
    ]
    truth = Truth.of(clips, spec, {"joy": "joy", "fear": "fear"})
    scored = Scored.of(clips, spec, [[1.0, 0.0]] * 32)  # always joy
    by = Grouping("length", tuple("short" if clip.seconds < 4 else "long" for clip in clips))
    even = Grouping("half", tuple("ab"[row // 8 % 2] for row in range(32)))
    _, gaps, _ = fairness_tables(
        scored, clips, truth, [by, even], metrics=["ua", "wa"], evaluation=CONFIG, permutations=50
    )
    assert cells(gaps, grouping="length", metric="UA")["gap"].value == 0
    found = cells(gaps, grouping="length", metric="WA")
    assert found["gap"].value == pytest.approx(0.5)
    assert found["note"] == "the groups hold other classes: 50 % of the clips would have to be of another"
    assert "hold other classes" in cells(gaps, grouping="half", metric="WA")["note"]
    same = Grouping("same", tuple("ab"[row % 2] for row in range(32)))
    _, gaps, _ = fairness_tables(scored, clips, truth, [same], metrics=["wa"], evaluation=CONFIG, permutations=50)
    assert cells(gaps, grouping="same")["note"] is None


def test_p_values_of_pairs_are_corrected() -> None:
    errors = np.abs(np.random.default_rng(5).normal(0.5, 0.3, (9, 10)))
    clips, truth, scored = made(errors.tolist())
    by = by_speaker(clips, ["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    _, _, pairs = fairness_tables(scored, clips, truth, [by], metrics=["mae"], evaluation=CONFIG, permutations=500)
    smallest = min(pairs.rows, key=lambda row: row.cells["p"])
    assert len(pairs.rows) == 3
    assert smallest.cells["p_holm"] == pytest.approx(min(1, 3 * smallest.cells["p"]))


def test_small_groups_refused_clips_and_clips_without_group_are_told() -> None:
    errors = np.random.default_rng(0).normal(0, 1, (4, 6)).tolist()
    clips, truth, scored = made(errors)
    scores = scored.scores.copy()
    scores.iloc[:2] = np.nan
    scored = Scored(scores, {clips[0].id: "faint", clips[1].id: "faint"})
    by = by_speaker(clips, ["f", "f", "m", None])
    table, gaps, _ = fairness_tables(scored, clips, truth, [by], evaluation=CONFIG, permutations=50)
    assert table.notes == ("by sex: 6 of 24 clips are in no group",)
    assert (cells(table, group="f")["clips"], cells(table, group="f")["refused"]) == (10, 2)
    assert "fewer than 10 clips: in no gap" in cells(table, group="m")["note"]
    assert gaps.rows == ()


def test_usual_groupings() -> None:
    clips, _, _ = made([[0.0] * 12] * 4, prefix="ravdess/actor-")
    clips = [
        Clip(**{**{name: getattr(clip, name) for name in Clip.__slots__}, "language": "en"}) for clip in clips[12:]
    ]
    found = {one.name: one for one in usual_groupings(clips)}
    assert list(found) == ["speaker", "gender", "language", "length"]
    assert dict(found["gender"].sizes) == {"female": 12, "male": 24}
    assert dict(found["language"].sizes) == {"en": 36}
    assert dict(found["length"].sizes) == {"below 2 s": 3, "2 to 4 s": 6, "4 to 8 s": 12, "8 to 16 s": 15}
    plain, _, _ = made([[0.0]])
    assert [one.name for one in usual_groupings(plain)] == ["speaker", "length"]


def test_genders_are_those_that_the_corpora_publish() -> None:
    assert [gender_of(f"ravdess/actor-{actor:02d}") for actor in (1, 2, 23, 24)] == ["male", "female", "male", "female"]
    assert (gender_of("ravdess/actor-25"), gender_of("x/1"), gender_of("1")) == (None, None, None)
    assert [gender_of(f"emodb/speaker-{one}") for one in ("03", "08", "16")] == ["male", "female", "female"]


def test_genders_of_nemo_are_those_of_its_table(corpora: Path) -> None:
    with (corpora / "nemo" / "labels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            assert gender_of(f"nemo/speaker-{row['speaker']}") == row["gender"]


@pytest.mark.parametrize("key", ["speaker", "id"])
def test_a_table_groups_clips_by_any_column(key: str, tmp_path: Path) -> None:
    clips, _, _ = made([[0.0, 0.0], [0.0, 0.0], [0.0]])
    names = {"speaker": ["x/00", "1"], "id": ["x/00-0", "x/01-1"]}[key]
    path = tmp_path / "groups.csv"
    path.write_text(f"{key},accent,age\n{names[0]},scots,30\n{names[1]},,41\nnobody,welsh,9\n")
    accent, age = read_groupings(path, clips)
    assert (accent.name, age.name) == ("accent", "age")
    expected = {
        "speaker": [("scots", "scots", None, None, None), ("30", "30", "41", "41", None)],
        "id": [("scots", None, None, None, None), ("30", None, None, "41", None)],
    }[key]
    assert [accent.groups, age.groups] == expected
    assert [one.name for one in read_groupings(path, clips, columns=["age"])] == ["age"]
    with pytest.raises(RequestError, match="no group is in a column 'sex'"):
        read_groupings(path, clips, columns=["age", "sex"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,accent\nx/00,a\n", "line 2: no column id or clip or speaker"),
        ("speaker,accent\nx/00,a\n0,b\n", "'0' is 'b' by accent, and 'a' in another row"),
        ("speaker,accent\nx/77,a\n", "groups none of these clips"),
        ("speaker\nx/00\n", "groups none of these clips"),
        ("speaker,accent\nx/00\n", "line 2: 1 cell where the header has 2"),
    ],
)
def test_a_table_that_groups_nothing_is_refused(text: str, message: str, tmp_path: Path) -> None:
    clips, _, _ = made([[0.0, 0.0]])
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(RequestError, match=message):
        read_groupings(path, clips)


def test_errors_that_grow_with_the_level_correlate_with_it(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    clips, truth, scored = made([[0.1 * (speaker + 1)] for speaker in range(6)])
    properties = pd.DataFrame(
        {"level": np.arange(6.0), "snr": -np.arange(6.0), "seconds": [1.0] * 6}, index=[clip.id for clip in clips]
    )
    properties.loc[clips[2].id, "snr"] = np.nan
    table = correlates_table(scored, clips, truth, properties, evaluation=CONFIG)
    level, snr, seconds = (row.cells for row in table.rows)
    assert isinstance(level["spearman"], Estimate)
    assert (level["spearman"].value, level["pearson"].value) == pytest.approx((1, 1))
    assert level["spearman"].low == pytest.approx(1)
    assert (snr["clips"], snr["spearman"].value) == (5, pytest.approx(-1))
    assert seconds["spearman"].value is None  # all are of the same length
    correlates_figure(scored, clips, truth, properties, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_properties_are_heard(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    sounds = [make_wav("a.wav", seconds=2.0), tmp_path / "gone.wav"]
    clips = [Clip(str(row), path, "x", "test") for row, path in enumerate(sounds)]
    found = sound_properties(clips)
    assert found.loc["0", "seconds"] == pytest.approx(2)
    assert found.loc["0", "level"] == pytest.approx(10 * np.log10(0.3**2 / 2 + 0.01**2), abs=0.05)
    assert found.loc["1"].isna().all()


def test_groups_are_drawn(tmp_path: Path) -> None:
    clips, truth, scored = made(np.random.default_rng(0).normal(0, 1, (6, 4)).tolist())
    table, _, _ = fairness_tables(scored, clips, truth, usual_groupings(clips), evaluation=CONFIG, permutations=10)
    fairness_figure(ProtocolTable.model_validate_json(table.model_dump_json()), "mae", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    fairness_figure(table.model_copy(update={"rows": ()}), "mae", tmp_path / "b.png")
