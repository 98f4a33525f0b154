from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from cache.store import ExtractionRecord, FeatureStore
from emonet.baselines.regressions import ALPHAS
from emonet.clips import SPLITS, Clip, Corpus
from emonet.configs import EvaluationConfig, Pool
from emonet.errors import RequestError
from emonet.evaluation import ClassScores, Scores, evaluate, sample_classes
from emonet.experts import InputSpec
from emonet.experts.inputs import statistics
from emonet.runtime import ignore
from emonet.tracking import Run
from experiments import extract
from experiments.core import Experiment, StageContext
from experiments.heads import verb as heads
from experiments.heads.baselines import baseline_notes, run_baselines, states_ridge
from experiments.heads.forms import HeadsData
from experiments.heads.verb import HeadsResult

pytestmark = pytest.mark.numeric

FRAMES, WIDTH, CLIPS = 25, 6, 90
TARGETS = ("anger", "fear")


MakeData = Callable[..., HeadsData]


@pytest.fixture
def make_data(tmp_path: Path, fill_store: Callable[..., str]) -> MakeData:
    """Clips of 0.1 to 0.4 s in a window of 0.5 s; one failed, and fear is not always rated."""
    return lambda pool="none": filled(tmp_path / f"{pool}.zarr", fill_store, pool)


@pytest.fixture
def data(make_data: MakeData) -> HeadsData:
    return make_data()


def filled(path: Path, fill_store: Callable[..., str], pool: Pool) -> HeadsData:
    rng = np.random.default_rng(0)
    clips = []
    for row in range(CLIPS):
        scores = {"anger": round(float(rng.uniform(0, 4)), 2)} | ({"fear": float(row % 4)} if row % 3 else {})
        clips.append(Clip(f"c{row}", b"", f"s{row % 9}", SPLITS[min(row % 9 // 3, 2)], scores=scores))
    corpus = Corpus("made", tuple(clips))
    record = ExtractionRecord(
        corpus="made",
        corpus_fingerprint=corpus.fingerprint,
        clips=CLIPS,
        encoder="made",
        encoder_digest="d" * 64,
        window_seconds=0.5,
        frames=FRAMES,
        width=WIDTH,
        mels=80,
        precision="float32",
        batch_size=8,
        shard_clips=32,
        pool=pool,
    )
    truth = corpus.scores()[:, [corpus.targets.index("anger")]]
    states = rng.normal(0, 1, (CLIPS, FRAMES, WIDTH)) + 0.2 * truth[:, :, None] * rng.normal(0, 1, WIDTH)
    states = states.astype(np.float16)

    def seconds(row: int) -> float:
        return 0.1 * (1 + row % 4)

    if pool == "statistics":
        lengths = torch.tensor([record.speech_frames(seconds(row)) for row in range(CLIPS)])
        states = statistics(torch.from_numpy(states), lengths).half().numpy().reshape(CLIPS, 4, WIDTH)
    fill_store(path, record, corpus, states, failed={4: "broken"}, seconds=seconds)
    return HeadsData(FeatureStore.open(path), corpus, TARGETS)


def test_ridge_on_states_is_that_of_scikit_learn_on_statistics_of_the_heard_states(data: HeadsData) -> None:
    """Whatever the experts make of the states: here they would see all of them, one after the other."""
    store = data.store
    features: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = store.rows(split)
        heard = [x[:n] for x, n in zip(store.read(rows).astype(np.float64), store.speech_frames(rows), strict=True)]
        features[split] = np.stack([np.concatenate([x.mean(0), x.min(0), x.max(0), x.std(0, ddof=1)]) for x in heard])
    scaler = StandardScaler().fit(features["train"])
    x = {split: scaler.transform(one) for split, one in features.items()}
    seen: list[tuple[int, int]] = []
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    found = states_ridge(data, spec, lambda *call: seen.append(call))
    assert (seen[0], seen[-1]) == ((0, CLIPS - 1), (CLIPS - 1, CLIPS - 1))
    for column in range(len(TARGETS)):
        truth = {split: data.truth(split)[:, column] for split in SPLITS}
        rated = {split: ~np.isnan(one) for split, one in truth.items()}
        models = [
            Ridge(alpha=alpha).fit(x["train"][rated["train"]], truth["train"][rated["train"]]) for alpha in ALPHAS
        ]
        held, given = x["validation"][rated["validation"]], truth["validation"][rated["validation"]]
        best = min(models, key=lambda model: float(np.square(model.predict(held) - given).mean()))
        np.testing.assert_allclose(found[:, column], best.predict(x["test"]), rtol=1e-4, atol=1e-4)
    assert np.corrcoef(found[:, 0], data.truth("test")[:, 0])[0, 1] > 0.3


def test_a_pooled_store_gives_the_same(make_data: MakeData) -> None:
    spec = InputSpec("statistics", "speech", FRAMES, WIDTH)
    full, pooled = (states_ridge(make_data(pool), spec, ignore) for pool in ("none", "statistics"))
    np.testing.assert_allclose(pooled, full, atol=0.02)  # statistics are kept in float16


def test_where_the_recordings_are_gone_ridge_on_the_states_is_there(
    data: HeadsData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment.model_validate({"runs": tmp_path, "evaluation": {"resamples": 5, "baselines": []}})
    job = StageContext(experiment, cast("Run", None), tmp_path / "heads.json", lambda fields: fields)
    figures, classes = run_baselines(job, data, InputSpec("statistics", "all", FRAMES, WIDTH))
    assert (list(figures), classes) == (["median", "states_ridge"], {})
    assert (figures["states_ridge"].pearson.mean.value or 0) > 0
    assert "baselines that hear the clips could not be made (AudioError: 0 bytes" in capsys.readouterr().err


def scores(noise: float) -> Scores:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 4, (60, 2)).astype(np.float32)
    predictions = truth + noise * rng.normal(0, 1, truth.shape)
    speakers = [f"s{row % 6}" for row in range(60)]
    return evaluate(truth, predictions, targets=TARGETS, speakers=speakers, config=EvaluationConfig(resamples=5))


def classified(right: int) -> ClassScores:
    truth = np.arange(60) % 2
    predicted = np.where(np.arange(60) < right, truth, 1 - truth)
    speakers: Sequence[str] = [f"s{row % 6}" for row in range(60)]
    sampled = sample_classes(
        truth, predicted, classes={"a": "A", "b": "B"}, speakers=speakers, config=EvaluationConfig(resamples=5)
    )
    assert sampled is not None
    return sampled.scores()


def result(experts: float, ridge: float, right: tuple[int, int] | None = None, **more: Scores) -> HeadsResult:
    given = (classified(right[0]), {"states_ridge": classified(right[1])}) if right else (None, {})
    baselines = {"median": scores(0.0), "states_ridge": scores(ridge), **more}
    return HeadsResult.model_construct(
        test=scores(experts), baselines=baselines, classes=given[0], baseline_classes=given[1]
    )


def test_experts_that_lose_to_ridge_on_their_own_states_are_told() -> None:
    lost, won = result(3.0, 0.5), result(0.5, 3.0)
    figures = (f"{one.pearson.mean.value:.3f}" for one in (lost.test, lost.baselines["states_ridge"]))
    assert baseline_notes(lost) == [
        f"the experts lose to ridge on the same states (states_ridge): Pearson {' against '.join(figures)}; "
        "they may need more training, or another form of input"
    ]
    assert baseline_notes(won) == []
    assert "states_ridge): UA 0.500 against 0.833; they" in baseline_notes(result(0.5, 3.0, (30, 50)))[0]
    assert ", UA 0.500 against 0.833" in baseline_notes(result(3.0, 0.5, (30, 50)))[0]
    assert baseline_notes(result(0.5, 3.0, (50, 30))) == []
    assert baseline_notes(HeadsResult.model_construct(test=scores(1.0), baselines={}, classes=None)) == []


def test_figures_of_opensmile_carry_its_licence() -> None:
    told = baseline_notes(result(0.5, 3.0, egemaps_svr=scores(1.0)))
    assert told == ["openSMILE, by audEERING, is licensed for research and other non-commercial use only"]


def test_a_baseline_that_cannot_be_computed_is_refused_before_anything_is_trained(mini_experiment: Experiment) -> None:
    extract.run(mini_experiment)
    asked = {**mini_experiment.model_dump(), "evaluation": {"baselines": ["whisper_last_mean"]}}
    with pytest.raises(RequestError, match=r"(?s)whisper_last_mean needs a Whisper that hears 30 s.*which hears 1 s"):
        heads.run(Experiment.model_validate(asked))
    assert not (mini_experiment.folder / "heads").exists()


def test_stages_that_were_done_before_baselines_could_be_chosen_stay_known() -> None:
    assert set(EvaluationConfig().distinguishing()) == {"resamples", "confidence"}
    asked = EvaluationConfig(baselines=("auto", "whisper_last_mean"))
    assert asked.distinguishing()["baselines"] == ["auto", "whisper_last_mean"]
