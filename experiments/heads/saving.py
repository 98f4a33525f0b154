"""Saving what the verb `heads` makes: experts, test predictions, the voice model, a version in the registry.

Experts and predictions are written as soon as they are trained. All that follows is made from these files and from the
result, so that it can be made again without training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emonet.evaluation import CLASS_METRICS, METRIC_NAMES, Estimate
from emonet.runtime import durable
from emonet.schema import Registered
from experiments.core import Experiment, StageContext, decoration
from experiments.heads.card_facts import card_facts
from experiments.heads.forms import HeadsData, TriedForm, captioner_of
from experiments.heads.reference import population_of

if TYPE_CHECKING:
    import pandas as pd

    from emonet.checkpoints import ExpertsInfo, Familiarity
    from emonet.experts import InputSpec
    from emonet.tracking import Lineage
    from experiments.heads.verb import HeadsResult
    from lightningmodules.experts import TrainedExperts

EXPERTS = "heads"
PREDICTIONS = "predictions.parquet"
VOICE = "voice"


def save(data: HeadsData, best: TriedForm, familiarity: Familiarity | None, folder: Path) -> None:
    """Write experts, their calibration, their reference and the test predictions, whole or not at all.

    Args:
        data: what the experts were trained on.
        best: the experts.
        familiarity: what their training clips are like, as far as that is known.
        folder: replaced if it exists.
    """
    from emonet.checkpoints import write_experts

    experts = best.trained.experts()
    with durable.replacing(folder) as partial:
        write_experts(_info(data, best), lambda _: next(experts), partial)
        next(experts, None)  # there is none; but experts that were lifted are checked once more at their end
        if best.calibration is not None:
            best.calibration.write(partial)
        if familiarity is not None:
            familiarity.write(partial)
        _write_predictions(data, best.trained, partial / PREDICTIONS)


def predictions_of(done: HeadsResult) -> Float[np.ndarray, "clips experts"]:
    """Of the test clips, in the store's order, as `save` wrote them."""
    import pandas as pd

    table = pd.read_parquet(done.experts / PREDICTIONS)
    return table[[f"prediction.{target}" for target in done.rated]].to_numpy(np.float32)


def publish(job: StageContext, data: HeadsData, done: HeadsResult, voice: Path) -> Registered:
    """Put the voice model together, with its lineage and card, and register it.

    Args:
        job: whose run it belongs to.
        data: what the experts were trained on.
        done: the result so far.
        voice: folder of the voice model; replaced if it exists.

    Raises:
        EmonetError: if the disk is full, or the registry cannot be used.
    """
    from emonet.inference import assemble
    from emonet.registry import card, register_voice
    from emonet.tracking import lineage

    assemble(captioner_of(job.experiment), done.experts, voice)
    clips = data.store.clips.iloc[data.store.rows()]
    origin, summary = _lineage(job.experiment, data, clips), ""
    lineage.write(voice, origin, clips)
    with decoration("the model card"):
        facts = card_facts(job.experiment, data, done, origin)
        card.write_card(voice, facts)
        summary = card.summary(facts)
    means: dict[str, Estimate] = {name: done.test.of(name).mean for name in METRIC_NAMES}
    if done.classes is not None:
        means |= {name: done.classes.of(name) for name in CLASS_METRICS}
    metrics = {f"test_{name}": mean.value for name, mean in means.items() if mean.value is not None}
    return register_voice(job.run, voice, done.rated, metrics, origin.tags(), summary)


def _lineage(experiment: Experiment, data: HeadsData, clips: pd.DataFrame) -> Lineage:
    from emonet.tracking import Lineage

    record = data.store.record
    return Lineage.of(
        clips,
        experiment=experiment.name,
        corpus=record.corpus,
        corpus_fingerprint=record.corpus_fingerprint,
        targets=data.store.targets.to_json(),
        window_seconds=record.window_seconds,
        store_fingerprint=data.store.fingerprint,
        encoder=record.encoder,
        encoder_digest=record.encoder_digest,
        seed=experiment.seed,
        settings=experiment.heads.model_dump(mode="json"),
    )


def _info(data: HeadsData, best: TriedForm) -> ExpertsInfo:
    from emonet.checkpoints import ExpertsInfo

    trained, uncertainty = best.trained, best.uncertainty
    store, spec, record = data.store, trained.spec, data.store.record
    return ExpertsInfo(
        targets=store.targets.subset(trained.targets).to_json(),
        ensemble=1 if uncertainty is None else uncertainty.figures.members,
        intervals=None if uncertainty is None else uncertainty.intervals,
        population=population_of(data, trained, best.calibration),
        form=spec.form,
        pool_over=spec.pool_over,
        queries=spec.queries,
        window_seconds=record.window_seconds,
        frames=spec.frames,
        width=spec.width,
        encoder_layers=record.layers,
        layers=_heard(record.layers, spec),
        layer_mix=dict(trained.layer_mix),
        hidden=trained.hidden,
        encoder_digest=record.encoder_digest,
        store_fingerprint=store.fingerprint,
        validation_mae=dict(trained.validation_mae),
        best_epoch=dict(trained.best_epoch),
        classes={
            label: target
            for label, target in data.corpus.classes.items()
            if target is None or target in trained.targets
        },
    )


def _heard(layers: tuple[int, ...] | None, spec: InputSpec) -> tuple[int, ...] | None:
    return None if layers is None or spec.picked is None else tuple(layers[place] for place in spec.picked.positions)


def _write_predictions(data: HeadsData, trained: TrainedExperts, path: Path) -> None:
    predictions, spread = trained.predictions["test"], trained.spread.get("test")
    table = data.store.clips.iloc[data.store.rows("test")][["id", "speaker", "language"]].reset_index(drop=True)
    truth = data.truth("test")
    if data.corpus.classes:
        table["label"] = data.labels("test")
    for column, target in enumerate(data.rated):
        table[f"truth.{target}"] = truth[:, column]
        table[f"prediction.{target}"] = predictions[:, column]
        if spread is not None:
            table[f"spread.{target}"] = spread[:, column]
    durable.write(path, table.to_parquet())
