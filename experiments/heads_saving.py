"""What the verb `heads` leaves: experts, voice model, test predictions, a version in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emonet import durable
from emonet.evaluation import METRIC_NAMES, Scores
from emonet.schema import Registered
from experiments.config import Experiment
from experiments.heads_training import HeadsData, TriedForm, captioner_of
from experiments.stage import Work
from experiments.voice_card import card_facts

if TYPE_CHECKING:
    import pandas as pd

    from cache.store import FeatureStore
    from emonet.checkpoints import ExpertsInfo
    from emonet.lineage import Lineage
    from lightningmodules.training import TrainedExperts

EXPERTS = "heads"
PREDICTIONS = "predictions.parquet"
VOICE = "voice"


def save(job: Work, data: HeadsData, best: TriedForm, baselines: Mapping[str, Scores], folder: Path) -> Registered:
    """Write the experts, the voice model with its lineage and card, and the test predictions; register the voice model.

    Args:
        job: whose outputs they are.
        data: what the experts were trained on.
        best: the experts.
        baselines: test figures of the baselines, for the card.
        folder: gets the folders `heads` and `voice`.
    """
    from emonet import card, lineage
    from emonet.checkpoints import write_experts
    from emonet.pipeline import assemble
    from emonet.registry import register_voice

    job.commit()
    kept, experts = folder / EXPERTS, best.trained.experts()
    with durable.replacing(kept) as partial:
        write_experts(_info(data.store, best.trained), lambda _: next(experts), partial)
        next(experts, None)  # there is none; but experts that were lifted are checked once more at their end
        if best.calibration is not None:
            best.calibration.write(partial)
    voice = assemble(captioner_of(job.experiment), kept, folder / VOICE)
    clips = data.store.clips.iloc[data.store.rows()]
    origin = _lineage(job.experiment, data, clips)
    lineage.write(voice, origin, clips)
    facts = card_facts(job.experiment, data, best, baselines, origin)
    card.write_card(voice, facts)
    _write_predictions(data, best.trained.predictions["test"], kept / PREDICTIONS)
    job.run.artifact(kept / PREDICTIONS)
    test = best.scores.test
    metrics = {f"test_{name}": value for name in METRIC_NAMES if (value := test.of(name).mean.value) is not None}
    return register_voice(job.run, voice, data.rated, metrics, origin.tags(), card.summary(facts))


def _lineage(experiment: Experiment, data: HeadsData, clips: pd.DataFrame) -> Lineage:
    from emonet.lineage import Lineage

    record = data.store.record
    return Lineage.of(
        clips,
        experiment=experiment.name,
        corpus=record.corpus,
        corpus_fingerprint=record.corpus_fingerprint,
        window_seconds=record.window_seconds,
        store_fingerprint=data.store.fingerprint,
        encoder=record.encoder,
        encoder_digest=record.encoder_digest,
        seed=experiment.seed,
        settings=experiment.heads.model_dump(mode="json"),
    )


def _info(store: FeatureStore, trained: TrainedExperts) -> ExpertsInfo:
    from emonet.checkpoints import ExpertsInfo

    spec, record = trained.spec, store.record
    return ExpertsInfo(
        targets=store.targets.subset(trained.targets).to_json(),
        form=spec.form,
        pool_over=spec.pool_over,
        queries=spec.queries,
        window_seconds=record.window_seconds,
        frames=spec.frames,
        width=spec.width,
        hidden=trained.hidden,
        encoder_digest=record.encoder_digest,
        store_fingerprint=store.fingerprint,
        validation_mae=dict(trained.validation_mae),
        best_epoch=dict(trained.best_epoch),
    )


def _write_predictions(data: HeadsData, predictions: Float[np.ndarray, "clips experts"], path: Path) -> None:
    table = data.store.clips.iloc[data.store.rows("test")][["id", "speaker", "language"]].reset_index(drop=True)
    truth = data.truth("test")
    for column, target in enumerate(data.rated):
        table[f"truth.{target}"] = truth[:, column]
        table[f"prediction.{target}"] = predictions[:, column]
    durable.write(path, table.to_parquet())
