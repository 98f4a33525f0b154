"""Whether experts in principal coordinates are as good as those on states: on the store of an experiment."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.heads_training import quietly
from cache.store import FeatureStore
from emonet.configs import EvaluationConfig, HeadsConfig
from emonet.evaluation import Scores, evaluate
from emonet.experts import InputSpec
from emonet.runtime import ignore
from experiments.core import load
from lightningmodules.experts import TrainingCallbacks, TrainingRequest, train_experts


@dataclass(frozen=True)
class Accuracy:
    """Mean test figures of flatten experts on states and on their principal coordinates."""

    clips: int
    states_mae: float
    states_pearson: float
    principal_mae: float
    principal_pearson: float


def accuracy(folder: Path) -> Accuracy:
    """Train both on the store of a RAVDESS run, with the settings of `ravdess.yaml`.

    Args:
        folder: `runs/ravdess`.
    """
    store, config = FeatureStore.open(folder / "store.zarr"), load("ravdess").heads
    rated = tuple(t for t in store.targets.ids if not store.clips[t].isna().all())
    states, principal = (
        _scores(store, rated, HeadsConfig.model_validate({**config.model_dump(), "features": features}))
        for features in ("states", "principal")
    )
    figures = [scores.of(name).mean.value or 0.0 for scores in (states, principal) for name in ("mae", "pearson")]
    return Accuracy(states.clips, *figures)


def _scores(store: FeatureStore, rated: tuple[str, ...], config: HeadsConfig) -> Scores:
    spec = InputSpec("flatten", "all", store.record.frames, store.record.width)
    with tempfile.TemporaryDirectory() as scratch:
        watch = TrainingCallbacks(ignore, quietly, scratch=Path(scratch))
        trained = train_experts(TrainingRequest(store, spec, rated, config, seed=0), watch)
    rows = store.rows("test")
    columns = [store.targets.index(target) for target in rated]
    return evaluate(
        store.scores(rows)[:, columns],
        trained.predictions["test"],
        targets=rated,
        speakers=list(store.clips["speaker"].iloc[rows]),
        config=EvaluationConfig(resamples=200),
    )
