"""Robustness: conditions are scored once, and a scorer whose answers are known gives the figures that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from sklearn.metrics import balanced_accuracy_score, f1_score

from emonet.audio import decode, open_perturbations, speech_level
from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.errors import AudioError, RequestError
from emonet.evaluation import Estimate, Scored, evaluate, sample_classes
from emonet.inference import EmotionPipeline
from emonet.protocols import ProtocolTable, Truth, robustness_figure, robustness_table, score_conditions
from emonet.targets import Target, TargetSpec

CONFIG = EvaluationConfig(resamples=100)
SPEC = TargetSpec(
    (Target("loud", "Loud", -100.0, 0.0, "dB of full scale"), Target("quiet", "Quiet", 0.0, 100.0, "the same, below"))
)


class Ear:
    """Scores how loud a clip is; refuses what is fainter than -60 dB."""

    target_spec = SPEC

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls, self.fails_at = 0, fails_at

    def score(self, clips: Sequence[Clip], *, progress: object = None) -> Scored:
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        return Scored.of(clips, SPEC, [self.hear(clip) for clip in clips])

    def hear(self, clip: Clip) -> list[float] | str:
        try:
            level = speech_level(decode(clip.audio, start=clip.start, end=clip.end).samples)
        except AudioError as error:
            return error.reason
        return [level, -level] if level > -60 else "too faint"


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Of six speakers, four levels each, from -10 to -34 dB; the rating is the true level."""
    made = []
    for speaker in range(6):
        for take in range(4):
            level = -10.0 - 8 * take + 0.5 * speaker
            tone = np.sin(2 * np.pi * (150 + 20 * speaker) * np.arange(8000) / 16_000)
            path = tmp_path / f"{speaker}-{take}.wav"
            sf.write(path, np.sqrt(2) * 10 ** (level / 20) * tone, 16_000, subtype="FLOAT")
            label = "strong" if take < 2 else "weak"
            scores = {"loud": level, "quiet": -level}
            made.append(Clip(f"x/{path.stem}", path, f"x/{speaker}", "test", scores=scores, label=label))
    return made


def value(table: ProtocolTable, condition: str, column: str) -> float:
    (row,) = [row for row in table.rows if row.cells["condition"] == condition]
    cell = row.cells[column]
    found = cell.value if isinstance(cell, Estimate) else cell
    assert isinstance(found, int | float)
    return found


def test_gain_moves_a_loudness_meter_by_as_much(clips: list[Clip]) -> None:
    scored = score_conditions(Ear(), clips, open_perturbations(["gain:-10", "gain:10", "clipping:0"]))
    assert list(scored) == ["clean", "gain:-10", "gain:10", "clipping:0"]
    table = robustness_table(scored, clips, Truth.of(clips, SPEC), evaluation=CONFIG)
    for condition, moved in {"clean": 0.0, "gain:-10": 10.0, "gain:10": 10.0, "clipping:0": 0.0}.items():
        assert value(table, condition, "mae") == pytest.approx(moved, abs=0.02)
        assert value(table, condition, "pearson") == pytest.approx(1, abs=1e-4)
        assert value(table, condition, "clips") == 24
    change = next(row for row in table.rows if row.cells["condition"] == "gain:10").cells["mae_change"]
    assert isinstance(change, Estimate)
    assert (change.low, change.high) == pytest.approx((10, 10), abs=0.02)  # paired: each clip moves by the same
    assert value(table, "gain:10", "moved") == pytest.approx(0.1, abs=1e-3)  # of a range of 100
    assert "mae_change" not in table.rows[0].cells
    assert table.notes == ("24 clips of 6 speakers; intervals over speakers",)
    assert [row.cells.get("level") for row in table.rows] == [None, "-10 dB", "+10 dB", "0"]


def test_figures_are_those_of_the_evaluation(clips: list[Clip]) -> None:
    truth = Truth.of(clips, SPEC, {"strong": "loud", "weak": "quiet"})
    rng = np.random.default_rng(0)
    noisy = np.array([[clip.scores["loud"], clip.scores["quiet"]] for clip in clips]) + rng.normal(0, 30, (24, 2))
    scored = Scored.of(clips, SPEC, noisy.tolist())
    metrics = ("ua", "wa", "macro_f1", "mae", "rmse", "spearman", "ccc", "pearson")
    table = robustness_table({"clean": scored}, clips, truth, metrics=metrics, evaluation=CONFIG, seed=3)
    speakers = [clip.speaker for clip in clips]
    assert truth.labels is not None
    given, predicted = truth.labels.given, truth.labels.classes.predicted(noisy, SPEC)
    classes = sample_classes(
        given, predicted, classes=truth.labels.classes.names, speakers=speakers, config=CONFIG, seed=3
    )
    assert classes is not None
    ratings = evaluate(truth.ratings, noisy, targets=SPEC.ids, speakers=speakers, config=CONFIG, seed=3)
    cells = table.rows[0].cells
    for name in ("ua", "wa", "macro_f1"):
        assert cells[name] == classes.scores().of(name)
    for name in ("mae", "rmse", "spearman", "ccc", "pearson"):
        found, expected = cells[name], ratings.of(name).mean
        assert isinstance(found, Estimate)
        for end in ("value", "low", "high"):
            assert getattr(found, end) == pytest.approx(getattr(expected, end))
    assert value(table, "clean", "ua") == pytest.approx(balanced_accuracy_score(given, predicted))
    assert value(table, "clean", "macro_f1") == pytest.approx(f1_score(given, predicted, average="macro"))


def test_refused_clips_are_counted_and_named_and_left_out_of_differences(clips: list[Clip]) -> None:
    clips[0] = replace(clips[0], audio=clips[0].audio.with_name("gone.wav"))
    clips[1] = replace(clips[1], scores={})
    scored = score_conditions(Ear(), clips, open_perturbations(["gain:-40"]))
    table = robustness_table(scored, clips, Truth.of(clips, SPEC), evaluation=CONFIG)
    assert (value(table, "clean", "clips"), value(table, "clean", "refused")) == (22, 1)
    faint = sum(clip.scores.get("loud", 0) <= -20 for clip in clips[2:])  # 40 dB less is below -60 dB
    assert value(table, "gain:-40", "refused") == faint + 1
    assert value(table, "gain:-40", "mae_change") == pytest.approx(40, abs=0.5)
    first, unrated, always, some = table.notes
    assert first.startswith("24 clips of 6 speakers")
    assert unrated == "1 clips have no score and no class"
    assert always == "every condition: 1 clip refused: x/0-0 (no such file)"
    assert some.startswith(f"gain:-40: {faint} clips refused: x/0-2 (too faint); ")
    assert some.endswith(f"and {faint - 3} more")


def test_a_condition_that_nobody_hears_has_no_figures(clips: list[Clip]) -> None:
    scored = score_conditions(Ear(), clips, open_perturbations(["gain:-60"]))
    table = robustness_table(scored, clips, Truth.of(clips, SPEC), evaluation=CONFIG)
    assert (value(table, "gain:-60", "clips"), value(table, "gain:-60", "refused")) == (0, 24)
    assert "mae" not in table.rows[1].cells


def test_a_run_goes_on_where_it_was_cut_off(clips: list[Clip], tmp_path: Path) -> None:
    wanted, folder = open_perturbations(["gain:-10", "white_noise:10"]), tmp_path / "kept"
    broken = Ear(fails_at=3)
    with pytest.raises(KeyboardInterrupt):
        score_conditions(broken, clips, wanted, model="ear", folder=folder)
    assert len(list(folder.glob("*.parquet"))) == 2
    ear, told = Ear(), []
    found = score_conditions(
        ear, clips, wanted, model="ear", folder=folder, progress=lambda done, total, note="": told.append((done, total))
    )
    assert ear.calls == 1
    assert told[0] == (0, 72)
    assert told[-1] == (72, 72)
    fresh = score_conditions(Ear(), clips, wanted)
    for condition, scored in fresh.items():
        assert found[condition].scores.equals(scored.scores)
        assert dict(found[condition].refusals) == dict(scored.refusals)


def test_kept_scores_are_only_those_of_the_same_model_clips_and_seed(clips: list[Clip], tmp_path: Path) -> None:
    folder, wanted = tmp_path / "kept", open_perturbations(["gain:-30"])

    def calls(some: Sequence[Clip] = tuple(clips), model: str = "ear", seed: int = 0) -> int:
        ear = Ear()
        score_conditions(ear, some, wanted, model=model, folder=folder, seed=seed)
        return ear.calls

    assert calls() == 2
    assert calls() == 0
    assert calls(model="other") == 2
    assert calls(seed=1) == 2
    assert calls(clips[:-1]) == 2
    assert calls([replace(clips[0], end=0.3), *clips[1:]]) == 2
    longer = clips[3].audio
    sf.write(longer, np.concatenate([sf.read(longer)[0]] * 2), 16_000)
    assert calls() == 2
    for path in folder.glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    assert calls() == 2
    assert calls() == 0


def test_noise_is_each_clips_own_and_does_not_depend_on_its_neighbours(clips: list[Clip]) -> None:
    wanted = open_perturbations(["white_noise:0"])
    alone = score_conditions(Ear(), clips[5:6], wanted)["white_noise:0"].scores
    among = score_conditions(Ear(), clips, wanted)["white_noise:0"].scores
    other = score_conditions(Ear(), clips[5:6], wanted, seed=1)["white_noise:0"].scores
    assert alone.iloc[0].equals(among.iloc[5])
    assert not alone.equals(other)


def test_a_part_of_a_recording_is_heard_alone(tmp_path: Path) -> None:
    loud = np.where(np.arange(32_000) < 16_000, 0.5, 0.05) * np.sin(np.arange(32_000) / 10)
    sf.write(tmp_path / "a.wav", loud, 16_000)
    parts = [Clip(f"x/{start}", tmp_path / "a.wav", "x", "test", start=start, end=start + 1) for start in (0.0, 1.0)]
    scores = score_conditions(Ear(), parts, ())["clean"].scores["loud"]
    assert scores["x/0.0"] - scores["x/1.0"] == pytest.approx(20, abs=0.1)


def test_what_cannot_be_audited_is_refused(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ids of their own\n.*x/0-0"):
        score_conditions(Ear(), [clips[0], clips[0]], ())
    with pytest.raises(RequestError, match="cannot be audited"):
        score_conditions(Ear(), [], ())
    with pytest.raises(RequestError, match="it has no name"):
        score_conditions(Ear(), clips, (), folder=tmp_path)
    with pytest.raises(RequestError, match=r"no clip has a score or a class(.|\n)*loud, quiet"):
        Truth.of([replace(clip, scores={}) for clip in clips], SPEC)
    truth = Truth.of(clips, SPEC)
    with pytest.raises(RequestError, match=r"cannot be measured(.|\n)*mae, rmse(.|\n)*ua, speed"):
        truth.check(["ua", "mae", "speed"])
    scored = Scored.of(clips[1:], SPEC, [[0.0, 0.0]] * 23)
    with pytest.raises(RequestError, match=r"not of these clips(.|\n)*x/0-0"):
        robustness_table({"clean": scored}, clips, truth)


def test_curves_are_drawn_also_without_figures(clips: list[Clip], tmp_path: Path) -> None:
    scored = score_conditions(Ear(), clips, open_perturbations(["gain", "gain:-60", "pink_noise:0"]))
    table = robustness_table(scored, clips, Truth.of(clips, SPEC), evaluation=CONFIG)
    for name, one in {"all": table, "clean": table.model_copy(update={"rows": table.rows[:1]})}.items():
        robustness_figure(ProtocolTable.model_validate_json(one.model_dump_json()), "mae", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_a_voice_model_is_audited(voice: Path, make_wav: Callable[..., Path]) -> None:
    clips = [
        Clip(f"x/{hertz}", make_wav(f"{hertz}.wav", hertz=hertz), f"x/{hertz}", "test", scores={"anger": 1.0})
        for hertz in (110, 150, 210)
    ]
    pipeline = EmotionPipeline.from_folder(voice)
    scored = score_conditions(pipeline, clips, open_perturbations(["babble:0", "opus:6"]))
    truth = Truth.of(clips, pipeline.target_spec)
    table = robustness_table(scored, clips, truth, metrics=["mae"], evaluation=CONFIG)
    assert [row.cells["clips"] for row in table.rows] == [3, 3, 3]
    assert all(0 < value(table, condition, "moved") < 1 for condition in ("babble:0", "opus:6"))
    assert table.notes == ("3 clips of 3 speakers; intervals over clips",)
