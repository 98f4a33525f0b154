"""The verb `heads`: one expert per rated emotion, tested on unseen speakers, saved and registered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from emonet import durable
from emonet.clips import SPLITS, Corpus, Split
from emonet.configs import InputForm
from emonet.evaluation import METRIC_NAMES, METRICS, Scores
from emonet.schema import Registered
from experiments import console
from experiments.config import Experiment
from experiments.extract import ExtractResult
from experiments.heads_training import (
    FormScores,
    HeadsData,
    TriedForm,
    captioner_of,
    open_corpus_of,
    open_data,
    run_baselines,
    train_forms,
)
from experiments.stage import StageResult, Work, require_result, run_stage

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from emonet.checkpoints import ExpertsInfo
    from lightningmodules.fitting import FittedBank

EXPERTS = "heads"
PREDICTIONS = "predictions.parquet"
VOICE = "voice"


class HeadsResult(StageResult):
    """What `emonet heads` trained, and how good it is."""

    targets: tuple[str, ...]
    """Ids of all targets of the store."""
    rated: tuple[str, ...]
    """Those rated in the training and the validation split: each has an expert; the others have none."""
    input: InputForm
    """The form of input chosen on the validation split."""
    forms: dict[InputForm, FormScores]
    """Every form that was tried."""
    test: Scores
    """Test figures of the chosen experts."""
    baselines: dict[str, Scores]
    """Test figures of median, mel_ridge and, where openSMILE is installed, opensmile_ridge."""
    clips: dict[Split, int]
    """Usable clips by split (count)."""
    experts: Path
    """Folder of the saved experts."""
    registered: Registered
    """The version of `emonet-voice`."""


def run(experiment: Experiment) -> HeadsResult:
    """Train, test, save and register the experts of the experiment's feature store.

    Raises:
        RequestError: if `extract` has not finished or belongs to another corpus or captioner, or no target is rated
            in both the training and the validation split.
    """
    extracted = require_result(experiment, "extract", ExtractResult)
    corpus = open_corpus_of(experiment, extracted)
    folder = experiment.folder / EXPERTS
    inputs = {
        "corpus": extracted.corpus,
        "store": extracted.fingerprint,
        "heads": experiment.heads.model_dump(mode="json", exclude={"memory_gib"}),
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": experiment.seed,
    }
    outputs = [folder / PREDICTIONS, experiment.folder / VOICE]
    return run_stage(experiment, "heads", HeadsResult, inputs, outputs, lambda job: _work(job, corpus, folder))


def show(result: HeadsResult) -> None:
    """The table of test figures on stderr."""
    from experiments.heads_table import figures

    console.console.print(figures(result))


def _work(job: Work, corpus: Corpus, folder: Path) -> Mapping[str, Any]:
    experiment = job.experiment
    data = open_data(experiment, corpus)
    best, forms = train_forms(job, data)
    baselines = run_baselines(job, data)
    chosen = forms[best.fitted.bank.spec.form]
    registered = _save(job, data, best, folder)
    for label, scores in {"test": chosen.test, **{f"baseline/{name}": s for name, s in baselines.items()}}.items():
        job.run.metrics(_flat(label, scores))
    result = {
        "targets": data.store.targets.ids,
        "rated": data.rated,
        "input": best.fitted.bank.spec.form,
        "forms": forms,
        "test": chosen.test,
        "baselines": baselines,
        "clips": {split: len(data.store.rows(split)) for split in SPLITS},
        "experts": folder,
        "registered": registered,
    }
    _report(experiment, data, best, result)
    job.run.artifact(experiment.folder / "report", "report")
    return result


def _save(job: Work, data: HeadsData, best: TriedForm, folder: Path) -> Registered:
    """Write the experts, the voice model and the test predictions, and register the voice model."""
    from emonet.checkpoints import save_bank
    from emonet.pipeline import assemble

    experiment = job.experiment
    job.commit()
    save_bank(best.fitted.bank, _info(data.store, best.fitted), folder)
    voice = assemble(captioner_of(experiment), folder, experiment.folder / VOICE)
    _write_predictions(data, best.predictions, folder / PREDICTIONS)
    job.run.artifact(folder / PREDICTIONS)
    test = best.scores.test
    metrics = {f"test_{name}": value for name in METRIC_NAMES if (value := test.of(name).mean.value) is not None}
    return job.run.register_voice(voice, data.rated, metrics)


def _info(store: FeatureStore, fitted: FittedBank) -> ExpertsInfo:
    from emonet.checkpoints import ExpertsInfo

    spec, record = fitted.bank.spec, store.record
    return ExpertsInfo(
        targets=store.targets.subset(fitted.bank.targets).to_json(),
        form=spec.form,
        pool_over=spec.pool_over,
        queries=spec.queries,
        window_seconds=record.window_seconds,
        frames=spec.frames,
        width=spec.width,
        preset=fitted.bank.preset,
        encoder_digest=record.encoder_digest,
        store_fingerprint=store.fingerprint,
        validation_mae=dict(fitted.validation_mae),
        best_epoch=dict(fitted.best_epoch),
    )


def _write_predictions(data: HeadsData, predictions: Float[np.ndarray, "clips experts"], path: Path) -> None:
    table = data.store.clips.iloc[data.store.rows("test")][["id", "speaker", "language"]].reset_index(drop=True)
    truth = data.truth("test")
    for column, target in enumerate(data.rated):
        table[f"truth.{target}"] = truth[:, column]
        table[f"prediction.{target}"] = predictions[:, column]
    durable.write(path, table.to_parquet())


def _report(experiment: Experiment, data: HeadsData, best: TriedForm, result: Mapping[str, Any]) -> None:
    from experiments.heads_table import rows
    from experiments.report import Findings, write_report

    record, spec = data.store.record, best.fitted.bank.spec
    clips = result["clips"]
    facts = {
        "Corpus": record.corpus,
        "Clips": ", ".join(f"{clips[split]} {split}" for split in SPLITS),
        "Encoder": f"{record.encoder} (weights {record.encoder_digest[:12]})",
        "States": f"{record.frames} of {record.width} values, {record.window_seconds:g} s",
        "Experts": f"{len(data.rated)} of {len(data.store.targets)} targets, {experiment.heads.preset}, {spec.form}",
        "Chosen by": f"mean validation {METRICS[experiment.heads.select_by].label}",
        "Intervals": f"{best.scores.test.resampled} resampled",
        "Store": data.store.fingerprint[:12],
        "Seed": str(experiment.seed),
    }
    findings = Findings(
        rows=rows(result["input"], result["forms"], result["baselines"]),
        spec=data.store.targets.subset(data.rated),
        truth=data.truth("test"),
        predictions=best.predictions,
        note=data.store.note,
        facts=facts,
    )
    write_report(experiment, findings)


def _flat(label: str, scores: Scores) -> dict[str, float]:
    found = {}
    for name in METRIC_NAMES:
        metric = scores.of(name)
        for key, estimate in {"mean": metric.mean, **metric.per_target}.items():
            if estimate.value is not None:
                found[f"{label}/{name}/{key}"] = estimate.value
    return found
