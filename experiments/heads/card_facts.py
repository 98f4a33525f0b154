"""Facts of the model card of trained experts: from the store, the configuration and the lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emonet.clips import SPLITS
from experiments.core import Experiment
from experiments.heads.forms import HeadsData
from experiments.heads.layers import layer_weights

if TYPE_CHECKING:
    from emonet.registry import CardFacts, CorpusFacts
    from emonet.tracking import Lineage
    from experiments.heads.verb import HeadsResult

SECONDS = 3600.0  # of an hour
_SHOWN_ELSEWHERE = ("corpus", "encoder_digest")
_UNKNOWN = "und"  # the language code of clips that state none


def card_facts(experiment: Experiment, data: HeadsData, done: HeadsResult, lineage: Lineage) -> CardFacts:
    """The facts of the experts that an experiment has trained.

    Args:
        experiment: the resolved configuration.
        data: what they were trained on.
        done: where they are, and their figures.
        lineage: of the voice model.
    """
    from emonet.checkpoints import read_calibration, read_info
    from emonet.registry import CardFacts

    record, info = data.store.record, read_info(done.experts)
    settings = experiment.heads.model_dump(mode="json", exclude={*experiment.heads.how_fields})
    mix = layer_weights(info)
    widths = "-".join(map(str, info.hidden))
    return CardFacts(
        name=f"emonet-voice, experiment {experiment.name}",
        origin="trained",
        targets=info.target_spec,
        window_seconds=record.window_seconds,
        encoder=record.encoder,
        encoder_digest=record.encoder_digest,
        corpus=_corpus(data),
        test=done.test,
        baselines=done.baselines,
        classes=done.classes,
        baseline_classes=done.baseline_classes,
        confidence=experiment.evaluation.confidence,
        calibration=read_calibration(done.experts),
        uncertainty=done.uncertainty,
        settings={
            "input": info.form,
            "layers": f"{widths}-1",
            **{name: _shown(value) for name, value in settings.items()},
            **({} if mix is None else {"layer mix": str(mix)}),
        },
        fingerprints={
            name.replace("_", " "): value for name, value in lineage.tags().items() if name not in _SHOWN_ELSEWHERE
        },
    )


def _corpus(data: HeadsData) -> CorpusFacts:
    from emonet.registry import CorpusFacts, SplitFacts

    clips = data.store.clips.iloc[data.store.rows()]
    by_split = {split: clips[clips["split"] == split] for split in SPLITS}
    return CorpusFacts(
        name=data.store.record.corpus,
        note=data.store.note,
        languages={
            str(code): int(count)
            for code, count in clips["language"].fillna("").replace(_UNKNOWN, "").value_counts().items()
        },
        splits={
            split: SplitFacts(len(some), some["speaker"].nunique(), float(some["seconds"].sum()) / SECONDS)
            for split, some in by_split.items()
        },
    )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not set"
    return "not set" if value is None else str(value)
