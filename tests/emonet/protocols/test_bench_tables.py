"""Tables and pictures of EmoNet-Voice Bench, out of ratings with known answers and models that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy import stats
from sklearn.metrics import roc_auc_score

from emonet import RequestError
from emonet.configs import EvaluationConfig
from emonet.evaluation import Estimate, Scored, rater_agreement
from emonet.protocols import (
    Answers,
    Bench,
    Cell,
    Consensus,
    Judged,
    ProtocolTable,
    Ratings,
    against_agreement,
    against_arousal,
    against_figure,
    agree,
    agreement_of,
    arousal_of,
    discrimination,
    emotion_points,
    figure1,
    figure1_figure,
    judge_models,
    published_table,
    table5,
    table6,
    table6_figure,
    table9,
    table10,
)
from emonet.targets import EMOTIONS, PUBLISHED

CONFIG = EvaluationConfig(resamples=40)


@pytest.fixture(scope="module")
def truth(bench: Bench) -> Consensus:
    return agree(bench.ratings, "mean")


@pytest.fixture(scope="module")
def scores(truth: Consensus) -> pd.DataFrame:
    """Published scales, 0 to 4: what raters say and noise."""
    noise = np.random.default_rng(5).normal(0, 0.8, truth.scores.shape)
    return (truth.scores.fillna(0.0) * 2 + noise).clip(-0.05, 4.95)


@pytest.fixture(scope="module")
def models(truth: Consensus, scores: pd.DataFrame) -> dict[str, Answers]:
    refused = scores.drop(columns="hope")
    refused.iloc[:10] = np.nan
    return {
        "hears": Answers(Scored(scores)),
        "refuses": Answers(Scored(refused, dict.fromkeys(refused.index[:10], "will not say"))),
        "dull": Answers(Scored(scores * 0 + 1)),
    }


@pytest.fixture(scope="module")
def judged(truth: Consensus, models: dict[str, Answers]) -> dict[str, Judged]:
    return judge_models(truth, models, config=CONFIG)


def number(cell: Cell) -> float | None:
    return cell.value if isinstance(cell, Estimate) else cell  # type: ignore[return-value]


def rows(table: ProtocolTable, key: str) -> dict[str, dict[str, Cell]]:
    return {str(row.cells[key]): row.cells for row in table.rows}


def test_table_5_is_plain_arithmetic(truth: Consensus, scores: pd.DataFrame, judged: dict[str, Judged]) -> None:
    found = rows(table5(judged, truth), "model")["hears"]
    pairs = truth.ten[list(truth.emotions)].stack().dropna()  # noqa: PD013
    said = (2.5 * scores[list(truth.emotions)]).stack().loc[pairs.index]  # noqa: PD013
    assert number(found["spearman"]) == pytest.approx(stats.spearmanr(pairs, said).statistic)
    assert number(found["pearson"]) == pytest.approx(np.corrcoef(pairs, said)[0, 1])
    assert number(found["mae"]) == pytest.approx(np.abs(pairs - said).mean())
    assert number(found["rmse"]) == pytest.approx(np.sqrt(np.square(pairs - said).mean()))
    each = [stats.spearmanr(pairs.xs(name, level=1), said.xs(name, level=1)).statistic for name in truth.emotions]
    assert number(found["spearman_mean"]) == pytest.approx(np.mean(each))
    assert (found["refused"], found["emotions"]) == (0.0, len(truth.emotions))
    assert isinstance(found["spearman"], Estimate)
    assert found["spearman"].low < found["spearman"].value < found["spearman"].high  # type: ignore[operator]


def test_what_is_no_emotion_is_not_in_table_5(
    truth: Consensus, scores: pd.DataFrame, judged: dict[str, Judged]
) -> None:
    other = scores.assign(authenticity=0.0, arousal=4.0)
    again = judge_models(truth, {"hears": Answers(Scored(other))}, config=CONFIG)
    assert again["hears"].over_clips == judged["hears"].over_clips
    assert again["hears"].extra != judged["hears"].extra


def test_refusals_are_counted_and_left_out(
    truth: Consensus, models: dict[str, Answers], judged: dict[str, Judged]
) -> None:
    of = truth.ten[list(truth.emotions)].notna()
    left_out = int(of["hope"].sum() + of.drop(columns="hope").iloc[:10].to_numpy().sum())
    one = judged["refuses"]
    assert (one.rated, one.answered) == (int(of.to_numpy().sum()), int(of.to_numpy().sum()) - left_out)
    cells = rows(table5(judged, truth), "model")["refuses"]
    assert cells["refused"] == pytest.approx(100 * left_out / one.rated)
    assert cells["emotions"] == len(truth.emotions) - 1
    kept = truth.ten.drop(columns="hope").iloc[10:]
    alone = Consensus("mean", truth.spec, truth.scores.drop(columns="hope").iloc[10:], truth.asked)
    same = judge_models(alone, {"x": Answers(Scored(models["refuses"].scored.scores.iloc[10:]))}, config=CONFIG)
    assert len(kept) == len(alone.clips)
    assert same["x"].over_clips.spearman.mean.value == one.over_clips.spearman.mean.value


def test_scores_that_are_all_the_same_correlate_with_nothing(judged: dict[str, Judged]) -> None:
    assert judged["dull"].over_clips.spearman.mean.value == 0.0
    assert judged["dull"].over_clips.mae.mean.value > 0.0  # type: ignore[operator]


def test_the_papers_models_stand_below(truth: Consensus, judged: dict[str, Judged]) -> None:
    table = table5(judged, truth)
    assert [row.kind for row in table.rows] == ["measured"] * 3 + ["published"] * 7
    assert [row.kind for row in table5(judged, truth, published=False).rows] == ["measured"] * 3
    assert any("rule 'mean'" in note for note in table.notes)


def test_table_6_is_sorted_with_means_and_extras_below(truth: Consensus, judged: dict[str, Judged]) -> None:
    table = table6(judged, truth)
    names = [str(row.cells["emotion"]) for row in table.rows]
    assert names[-3:] == ["MEAN", "authenticity", "arousal"]
    assert sorted(names[:-3]) == sorted(truth.emotions)
    averages = [number(row.cells["average"]) for row in table.rows[:-3]]
    assert averages == sorted(averages, reverse=True)  # type: ignore[type-var]
    found = rows(table, "emotion")
    assert found["hope"]["refuses"] is None
    answered = [found["hope"][model] for model in ("hears", "dull")]
    assert found["hope"]["average"] == pytest.approx(np.mean(answered))
    assert found["MEAN"]["hears"] == judged["hears"].by_emotion.spearman.mean.value
    assert found["arousal"]["hears"] is not None


def test_errors_are_sorted_the_other_way(truth: Consensus, judged: dict[str, Judged]) -> None:
    table = table6(judged, truth, metric="mae", intervals=True)
    averages = [number(row.cells["average"]) for row in table.rows[:-3]]
    assert averages == sorted(averages)  # type: ignore[type-var]
    assert isinstance(table.rows[0].cells["hears"], Estimate)
    assert {column.better for column in table.columns[1:]} == {"lower"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda t: t.iloc[1:], r"(?s)m answers for other clips.*no answer for en_alloy"),
        (lambda t: pd.concat([t, t.iloc[:1].rename(index=lambda _: "else.mp3")]), "answers for else.mp3"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "two answers for en_alloy"),
        (lambda t: t.where(t.index.to_series() != t.index[3], np.nan), r"(?s)m gives scores that are not finite.*1 of"),
        (lambda t: t.assign(hope=np.inf), "not finite"),
    ],
)
def test_answers_to_something_else_are_refused(
    truth: Consensus, scores: pd.DataFrame, spoil: Callable[[pd.DataFrame], pd.DataFrame], problem: str
) -> None:
    with pytest.raises(RequestError, match=problem):
        judge_models(truth, {"m": Answers(Scored(spoil(scores)))}, config=CONFIG)


@pytest.mark.parametrize("name", ["emotion", "average", "alpha"])
def test_models_are_not_called_as_columns_are(truth: Consensus, models: dict[str, Answers], name: str) -> None:
    with pytest.raises(RequestError, match=f"no model can be called '{name}'"):
        judge_models(truth, {name: next(iter(models.values()))})


def test_nothing_kept_is_nothing_to_compare_with(scores: pd.DataFrame) -> None:
    alone = agree(Ratings.of([("a", "eve", "anger", 1.0)], EMOTIONS), "unanimous")
    with pytest.raises(RequestError, match=r"(?s)nothing to compare models with.*0 of 1 rated clips"):
        judge_models(alone, {"m": Answers(Scored(scores))})


def test_tables_9_and_figure_1_count_patterns(bench: Bench) -> None:
    """`hope` has one clip of each pattern: of seven, one each is of five kinds, and two differ in levels alone."""
    found = rows(table9(bench.ratings), "emotion")["hope"]
    assert (found["clips"], found["ratings"], found["raters"]) == (7, 20, 6)
    assert [found[f"by_{n}"] for n in (2, 3, 4)] == [2, 4, 1]
    assert [found[f"level_{level}"] for level in (0, 1, 2)] == pytest.approx([30, 40, 30])
    kinds = {"present_level": 1, "present": 2, "most_present": 1, "split": 1, "most_absent": 1, "absent": 1}
    bars = rows(figure1(bench.ratings), "emotion")["hope"]
    for name, clips in kinds.items():
        assert found[name] == bars[name] == pytest.approx(100 * clips / 7)


def test_kinds_of_agreement_add_up(bench: Bench) -> None:
    for row in figure1(bench.ratings).rows:
        assert sum(cell for name, cell in row.cells.items() if name != "emotion") == pytest.approx(100)  # type: ignore[misc, arg-type]
    overall = table9(bench.ratings).rows[-1].cells
    assert (overall["emotion"], overall["clips"]) == ("overall", len(bench.ratings.items))


def test_who_rates_alone_agrees_with_nobody() -> None:
    ratings = Ratings.of([("a", "eve", "anger", 1.0), ("b", "eve", "fear", 1.0), ("b", "bob", "fear", 0.0)], EMOTIONS)
    found = rows(figure1(ratings), "emotion")
    assert found["anger"]["split"] is None
    assert found["fear"]["split"] == 100.0


def test_table_10_has_three_coefficients(bench: Bench) -> None:
    table = table10(bench.ratings, resamples=20)
    found = rows(table, "emotion")
    assert list(found)[-1] == "overall"
    expected = rater_agreement(bench.ratings.matrix(["sadness"]), levels=(0, 1, 2), resamples=20, seed=42)
    assert found["sadness"]["alpha"] == expected.cronbach
    assert found["sadness"]["krippendorff"] == expected.krippendorff
    assert found["sadness"]["gwet"] == expected.gwet
    assert found["overall"]["ratings"] == len(bench.ratings)
    alphas = [number(row.cells["alpha"]) for row in table.rows[:-1]]
    assert alphas == sorted(alphas, reverse=True)  # type: ignore[type-var]


def test_the_papers_agreement_goes_with_performance() -> None:
    table = against_agreement(published_table("table6"), published_table("table10"), config=CONFIG)
    found = rows(table, "model")["average"]
    assert number(found["pearson"]) == pytest.approx(0.597, abs=5e-4)
    assert number(found["spearman"]) == pytest.approx(0.598, abs=5e-4)
    assert (found["emotions"], rows(table, "model")["hume-voice"]["emotions"]) == (40, 25)
    assert {row.kind for row in table.rows} == {"published"}


def test_arousal_goes_with_performance_less() -> None:
    table = against_arousal(published_table("table6"), config=CONFIG)
    assert number(rows(table, "model")["average"]["pearson"]) == pytest.approx(0.406, abs=5e-4)
    assert set(arousal_of()) == set(EMOTIONS.ids)


def test_measured_tables_take_the_place_of_published_ones(
    bench: Bench, truth: Consensus, judged: dict[str, Judged]
) -> None:
    measured, agreement = table6(judged, truth), table10(bench.ratings, resamples=5)
    table = against_agreement(measured, agreement, config=CONFIG)
    points = emotion_points(measured, agreement_of(agreement), "hears")
    assert set(points) == set(truth.emotions)  # neither the mean nor the extra categories
    x, y = np.array(list(points.values())).T
    assert number(rows(table, "model")["hears"]["pearson"]) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_sadness_is_told_from_distress(bench: Bench, scores: pd.DataFrame) -> None:
    truth = agree(bench.ratings, "present")
    found = discrimination(truth, {"hears": Answers(Scored(scores))}, config=CONFIG).rows[0].cells
    sad, upset = (truth.ten[name] > 0 for name in ("sadness", "distress"))
    used = (sad ^ upset) & ~truth.disputed[["sadness", "distress"]].any(axis=1)
    ahead = (2.5 * (scores["distress"] - scores["sadness"]))[used]
    assert (found["first"], found["second"]) == (int((sad & used).sum()), int((upset & used).sum()))
    assert number(found["auc"]) == pytest.approx(roc_auc_score(upset[used], ahead))
    right = [(ahead[upset[used]] > 0).mean(), (ahead[sad[used]] < 0).mean()]
    assert number(found["accuracy"]) == pytest.approx(np.mean(right))
    margins = [ahead[upset[used]].mean(), -ahead[sad[used]].mean()]
    assert number(found["margin"]) == pytest.approx(np.mean(margins))


def test_clips_that_raters_do_not_agree_on_tell_no_emotions_apart() -> None:
    """Of five clips: sad; upset; sad without a question about distress; sad, distress disputed; distress disputed."""
    levels = {
        "sad": {"sadness": "44", "distress": "00"},
        "upset": {"sadness": "00", "distress": "44"},
        "not asked": {"sadness": "44"},
        "disputed": {"sadness": "44", "distress": "04"},
        "neither": {"sadness": "00", "distress": "04"},
    }
    ratings = Ratings.of(
        [
            (clip, rater, target, float(level))
            for clip, targets in levels.items()
            for target, given in targets.items()
            for rater, level in zip("xy", given, strict=True)
        ],
        EMOTIONS,
    )
    truth = agree(ratings, "unanimous")
    assert (truth.rated, int(truth.disputed.to_numpy().sum())) == (9, 2)
    scores = pd.DataFrame({"sadness": 4.0, "distress": 0.0}, index=list(levels))
    table = discrimination(truth, {"sad": Answers(Scored(scores))}, config=CONFIG)
    assert (table.rows[0].cells["first"], table.rows[0].cells["second"]) == (2, 1)
    assert any(note.startswith("1 clips in which raters hear one emotion") for note in table.notes)
    scores.loc["disputed"] = [0.0, 4.0]
    assert discrimination(truth, {"sad": Answers(Scored(scores))}, config=CONFIG).rows == table.rows


def test_ties_are_half_right(bench: Bench, models: dict[str, Answers]) -> None:
    found = discrimination(agree(bench.ratings, "present"), {"dull": models["dull"]}, config=CONFIG).rows[0].cells
    assert [number(found[name]) for name in ("auc", "accuracy", "margin")] == [0.5, 0.5, 0.0]


def test_emotions_that_cannot_be_told_apart_are_said(
    bench: Bench, truth: Consensus, models: dict[str, Answers]
) -> None:
    with pytest.raises(RequestError, match="nobody rated awe"):
        discrimination(truth, models, first="awe")
    absent = Ratings.of([(c, r, t, 0.0) for c in "ab" for r in "xy" for t in ("sadness", "distress")], EMOTIONS)
    with pytest.raises(RequestError, match=r"(?s)no clips to tell sadness and distress apart.*0 of sadness, 0 of"):
        discrimination(agree(absent, "unanimous"), models)


def test_a_model_without_the_emotion_has_no_figures(bench: Bench, scores: pd.DataFrame) -> None:
    deaf = Answers(Scored(scores.drop(columns="distress")), PUBLISHED)
    found = discrimination(agree(bench.ratings, "present"), {"deaf": deaf}, config=CONFIG).rows[0].cells
    assert found == {"model": "deaf", "first": 0, "second": 0}


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path: Path, bench: Bench, truth: Consensus, judged: dict[str, Judged]) -> None:
    figure1_figure(figure1(bench.ratings), tmp_path / "one.png")
    table6_figure(table6(judged, truth), tmp_path / "six.png")
    table6_figure(table6(judged, truth, metric="mae", intervals=True), tmp_path / "mae.png")
    points = emotion_points(published_table("table6"), arousal_of())
    against_figure(points, tmp_path / "arousal.png", x="arousal", y="Spearman")
    against_figure({}, tmp_path / "none.png", x="arousal", y="Spearman")
    for name in ("one", "six", "mae", "arousal", "none"):
        pixels = imread(tmp_path / f"{name}.png")
        assert len(np.unique(pixels[..., 0])) > 10
