"""The verb `heads`: one expert per rated target, tested on unseen speakers, saved and registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from emonet.clips import SPLITS, Corpus, Split
from emonet.configs import CalibrationKind, InputForm
from emonet.evaluation import ClassScores, EnsembleFigures, Scores
from emonet.schema import Registered
from experiments.core import (
    Experiment,
    StageContext,
    StageResult,
    console,
    decoration,
    require_result,
    run_stage,
)
from experiments.extract import ExtractResult
from experiments.heads.baselines import baseline_notes, run_baselines, wanted_baselines
from experiments.heads.classes import digest_of_labels
from experiments.heads.forms import (
    FormScores,
    HeadsData,
    TriedForm,
    digest_of_weights,
    open_corpus_of,
    open_data,
    scratch_folder,
    train_forms,
)
from experiments.heads.input_ladder import GroupComparison, compare_forms, forms_table, groups_table
from experiments.heads.layers import layer_weights
from experiments.heads.learnable import notes
from experiments.heads.reference import familiarity_of
from experiments.heads.saving import EXPERTS, PREDICTIONS, VOICE, predictions_of, publish, save
from experiments.heads.selection import best_of, require_inductive, selected_by

if TYPE_CHECKING:
    from cache.store import ExtractionRecord


class HeadsResult(StageResult):
    """What `emonet heads` trained, and how good it is."""

    targets: tuple[str, ...]
    """Ids of all targets of the store."""
    rated: tuple[str, ...]
    """Those rated in the training and the validation split: each has an expert."""
    skipped: tuple[str, ...]
    """Those with scores, but not in both splits: they have no expert."""
    input: InputForm
    """The form of input chosen on the validation split."""
    forms: dict[InputForm, FormScores]
    """Every form that was tried."""
    comparison: tuple[GroupComparison, ...] = ()
    """With `compare_inputs`: how much the forms differ, over all targets and by arousal."""
    calibration: Literal["none"] | CalibrationKind = "none"
    """What becomes of the experts' scores; test figures are of calibrated ones."""
    test: Scores
    """Test figures of the chosen experts."""
    uncertainty: EnsembleFigures | None = None
    """Spread of the chosen experts' ensembles, and how often the truth lies within their intervals."""
    baselines: dict[str, Scores] = Field(default_factory=dict)
    """Test figures of simple models, by name: median, mel_ridge, states_ridge and those of `evaluation.baselines`."""
    classes: ClassScores | None = None
    """Test figures of the class that the chosen experts' argmax gives; None where clips have no classes."""
    baseline_classes: dict[str, ClassScores] = Field(default_factory=dict)
    """The same of the most frequent class (majority), and of the argmax over each regression."""
    clips: dict[Split, int]
    """Usable clips by split (count)."""
    experts: Path
    """Folder of the saved experts."""
    registered: Registered | None = None
    """The version of `emonet-voice`; None where the training is done, and its model was not registered yet."""

    @property
    def settled(self) -> bool:
        """Whether the model is registered."""
        return self.registered is not None


def run(
    experiment: Experiment, *, out: Path | None = None, parent: str | None = None, parts: Sequence[Path] = ()
) -> HeadsResult:
    """Train, or join, test, save and register all experts of the experiment's feature store.

    Args:
        experiment: the resolved configuration.
        out: folder for experts, voice model, report and result; by default the experiment's own.
        parent: id of the MLflow run that this one is a part of.
        parts: folders of parts that are trained already.

    Raises:
        RequestError: if the experts could not be saved, `extract` has not finished or belongs to another corpus or
            captioner, or no target is rated in both the training and the validation split.
    """
    corpus, inputs = origin(experiment)
    folder = out or experiment.folder
    outputs = [folder / EXPERTS / PREDICTIONS, folder / VOICE]

    def work(job: StageContext) -> Mapping[str, Any]:
        return _work(job, corpus, folder, parts)

    def resume(job: StageContext, done: HeadsResult) -> Mapping[str, Any]:
        return _finish(job, done, open_data(experiment, corpus), folder)

    return run_stage(experiment, "heads", HeadsResult, inputs, outputs, work, out=folder, parent=parent, resume=resume)


def origin(experiment: Experiment) -> tuple[Corpus, dict[str, Any]]:
    """The corpus behind the store, and everything that fixes the outcome.

    Raises:
        RequestError: if `extract` has not finished or belongs to another corpus or captioner.
    """
    require_inductive(experiment.heads)
    extracted = require_result(experiment, "extract", ExtractResult)
    corpus = open_corpus_of(experiment, extracted)
    return corpus, {
        "corpus": extracted.corpus,
        "store": extracted.fingerprint,
        "heads": experiment.heads.fixing,
        "weights": digest_of_weights(corpus),
        **digest_of_labels(corpus),
        "evaluation": experiment.evaluation.distinguishing(),
        "seed": experiment.seed,
    }


def show(result: HeadsResult) -> None:
    """The table of test figures on stderr."""
    from emonet.checkpoints import read_info
    from experiments.heads.table import class_figures, class_rows, figures

    console.console.print(figures(result))
    if result.classes is not None:
        console.console.print(class_figures(result.experiment, class_rows(result)))
    if result.uncertainty is not None:
        console.say(str(result.uncertainty))
    if (mix := layer_weights(read_info(result.experts))) is not None:
        console.say(str(mix))
    for note in baseline_notes(result):
        console.say(f"[yellow]note[/] {console.name(note)}")
    if result.comparison:
        names = {target.id: target.name for target in read_info(result.experts).target_spec}
        console.console.print(forms_table({form: tried.test for form, tried in result.forms.items()}, names))
        console.console.print(groups_table(result.comparison))


def _work(job: StageContext, corpus: Corpus, folder: Path, parts: Sequence[Path]) -> Mapping[str, Any]:
    experiment = job.experiment
    data = open_data(experiment, corpus)
    if data.skipped:
        skipped = console.name(", ".join(data.skipped))
        job.say(f"no expert, since not rated in both the training and the validation split: {skipped}")
    wanted_baselines(job, data)
    for note in notes(data, experiment.heads):
        job.say(f"[yellow]note[/] {console.name(note)}")
    comparison: tuple[GroupComparison, ...] = ()
    with scratch_folder(folder) as scratch:
        tried = train_forms(job, data, scratch, parts)
        wanted = {form: tried[form] for form in experiment.heads.inputs}  # not those that are there to compare
        best = best_of(wanted, experiment.heads)
        familiarity = familiarity_of(job, data, best.trained.spec)
        job.commit()
        save(data, best, familiarity, folder / EXPERTS)
    with decoration("the comparison of forms"):
        comparison = _comparison(experiment, data, tried)
    done: HeadsResult = job.keep(
        {
            "targets": data.store.targets.ids,
            "rated": data.rated,
            "skipped": data.skipped,
            "input": best.trained.spec.form,
            "forms": {form: one.scores for form, one in tried.items()},
            "comparison": comparison,
            "calibration": experiment.heads.calibration,
            "test": best.scores.test,
            "uncertainty": None if best.uncertainty is None else best.uncertainty.figures,
            "classes": best.scores.classes,
            "clips": {split: len(data.store.rows(split)) for split in SPLITS},
            "experts": folder / EXPERTS,
        }
    )
    return _finish(job, done, data, folder)


def _finish(job: StageContext, done: HeadsResult, data: HeadsData, folder: Path) -> Mapping[str, Any]:
    """What follows the training, from what it left on disk: baselines, report, logs, and the registered model."""
    from emonet.checkpoints import read_info

    if not done.baselines:
        with decoration("the baselines"):
            baselines, classes = run_baselines(job, data, read_info(done.experts).spec)
            done = job.keep({**dict(done), "baselines": baselines, "baseline_classes": classes})
    with decoration("the report"):
        job.run.artifact(_report(job.experiment, data, done, folder), "report")
    energies = {f"{form}/energy": one.energy for form, one in done.forms.items() if one.energy is not None}
    job.run.metrics(energies)
    if done.uncertainty is not None:
        job.run.metrics(done.uncertainty.flat())
    logged: list[tuple[str, Scores | ClassScores]] = [("test", done.test)]
    logged += [("test", done.classes)] if done.classes is not None else []
    logged += [(f"baseline/{name}", scores) for name, scores in done.baselines.items()]
    logged += [(f"baseline/{name}", scores) for name, scores in done.baseline_classes.items()]
    for label, scores in logged:
        job.run.metrics({f"{label}/{key}": value for key, value in scores.flat().items()})
    job.run.artifact(done.experts / PREDICTIONS)
    return {**dict(done), "registered": publish(job, data, done, folder / VOICE)}


def _states(record: ExtractionRecord) -> str:
    """How many states of what a clip has, in words."""
    layers = f" of layers {' '.join(map(str, record.layers))}" if record.layers else ""
    pooled = ", of which statistics are kept" if record.pool != "none" else ""
    return f"{record.frames} of {record.width} values{layers}, {record.window_seconds:g} s{pooled}"


def _comparison(
    experiment: Experiment, data: HeadsData, tried: Mapping[InputForm, TriedForm]
) -> tuple[GroupComparison, ...]:
    if not experiment.heads.compare_inputs:
        return ()
    return compare_forms(
        data.truth("test"),
        {form: one.trained.predictions["test"] for form, one in tried.items()},
        targets=data.rated,
        speakers=data.speakers("test"),
        config=experiment.evaluation,
        seed=experiment.seed,
    )


def _report(experiment: Experiment, data: HeadsData, done: HeadsResult, folder: Path) -> Path:
    from emonet.checkpoints import read_info
    from experiments.heads.report import Findings, write_report
    from experiments.heads.table import class_rows, rows

    record, info = data.store.record, read_info(done.experts)
    widths = "-".join(str(width) for width in info.hidden)
    facts = {
        "Corpus": record.corpus,
        "Clips": ", ".join(f"{done.clips[split]} {split}" for split in SPLITS),
        "Encoder": f"{record.encoder} (weights {record.encoder_digest[:12]})",
        "States": _states(record),
        "Experts": f"{len(done.rated)} of {len(done.targets)} targets, {widths}, {done.input}",
        "Calibration": done.calibration,
        **({} if done.uncertainty is None else {"Ensemble": f"{done.uncertainty.members} experts of each target"}),
        "Chosen by": selected_by(experiment.heads),
        "Intervals": f"{done.test.resampled} resampled",
        "Store": data.store.fingerprint[:12],
        "Seed": str(experiment.seed),
    }
    findings = Findings(
        rows=rows(done.input, done.forms, done.baselines),
        classes=class_rows(done),
        spec=data.store.targets.subset(done.rated),
        truth=data.truth("test"),
        predictions=predictions_of(done),
        note=data.store.note,
        remarks=baseline_notes(done),
        facts=facts,
        layers=layer_weights(info),
        uncertainty=done.uncertainty,
    )
    return write_report(experiment, findings, folder / "report")
