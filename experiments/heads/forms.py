"""Forms of input, the work behind the verb `heads`: open the store, train each form."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Float, Float32

from emonet.clips import SPLITS, Corpus, Split, values_of
from emonet.configs import InputForm
from emonet.errors import RequestError
from emonet.evaluation import ClassScores, Scores, evaluate
from emonet.schema import Schema
from experiments.core import Experiment, StageContext, console, named_encoder, open_quietly, resolve_source
from experiments.extract import ExtractResult, store_of
from experiments.heads.classes import class_labels, class_scores
from experiments.heads.selection import require_selectable
from experiments.heads.store_check import require_origin
from experiments.heads.uncertainty import Uncertainty, fit_uncertainty

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from emonet.checkpoints import Calibration
    from emonet.training import TrainingPlan
    from lightningmodules.experts import TrainedExperts, TrainingRequest


SCRATCH = ".experts-"


class FormScores(Schema):
    """How well the experts of one input form do."""

    validation: Scores
    """On the validation clips, not calibrated; the form is chosen by these, or by UA."""
    test: Scores
    """On the test clips, calibrated if the experts are; reported, never chosen by."""
    classes: ClassScores | None = None
    """On the test clips, by argmax over the experts of the classes; None where clips have none."""
    validation_classes: ClassScores | None = None
    """The same on the validation clips, not calibrated."""
    energy: float | None = None
    """Share of the states' variance that principal coordinates held (0 to 1); None where experts saw the states."""


@dataclass(frozen=True)
class HeadsData:
    """The store and the corpus behind it, as far as experts are concerned.

    Args:
        store: states and scores.
        corpus: that the store was made from; clip by clip the store's rows.
        rated: ids of the targets that get an expert.
    """

    store: FeatureStore
    corpus: Corpus
    rated: tuple[str, ...]

    @classmethod
    def of(cls, store: FeatureStore, corpus: Corpus, where: object = None) -> HeadsData:
        """A store's clips with an expert for each target that is rated in both the training and the validation split.

        Args:
            store: states and scores.
            corpus: that the store was made from.
            where: what an error names; by default the store.

        Raises:
            RequestError: if there is no such target.
        """
        return cls(store, corpus, _rated(store, corpus, where or store.path))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Targets that somebody rated, but not in both the training and the validation split."""
        return tuple(target for target in self.corpus.rated if target not in self.rated)

    def speakers(self, split: Split) -> list[str]:
        """Who speaks in each of a split's usable clips."""
        return self._of_rows("speaker", split)

    def labels(self, split: Split) -> list[str | None]:
        """The class of each of a split's usable clips, as the corpus names it; None where it has none."""
        return self._of_rows("label", split)

    def _of_rows(self, name: str, split: Split) -> list[Any]:
        values = values_of(self.corpus.clips, name)
        return [values[row] for row in self.store.rows(split)]

    def truth(self, split: Split) -> Float[np.ndarray, "clips experts"]:
        """Scores of a split's usable clips; NaN where nobody rated."""
        columns = [self.store.targets.index(target) for target in self.rated]
        return self.store.scores(self.store.rows(split))[:, columns]

    def weights(self) -> Float32[np.ndarray, "stored experts"] | None:
        """How much each clip of the store counts for each expert; None where all count 1."""
        columns = [self.corpus.targets.index(target) for target in self.rated]
        weights = self.corpus.weights()[:, columns]
        return None if (weights == 1).all() else weights

    def scores(self, split: Split, predictions: Float[np.ndarray, "clips experts"], experiment: Experiment) -> Scores:
        """Compare predictions of a split's usable clips with their scores."""
        return evaluate(
            self.truth(split),
            predictions,
            targets=self.rated,
            speakers=self.speakers(split),
            config=experiment.evaluation,
            seed=experiment.seed,
        )


@dataclass(frozen=True)
class TriedForm:
    """A form of input that was tried.

    Args:
        trained: its experts; predictions of test clips are calibrated if the experts are, others are not.
        scores: their figures.
        calibration: what becomes of their scores, if anything.
        uncertainty: what their spread says, where each target has several.
    """

    trained: TrainedExperts
    scores: FormScores
    calibration: Calibration | None = None
    uncertainty: Uncertainty | None = None


def open_corpus_of(experiment: Experiment, extracted: ExtractResult) -> Corpus:
    """The experiment's corpus, checked like its captioner against what the store was extracted from.

    Raises:
        RequestError: if they are others.
    """
    corpus = open_quietly(experiment)
    require_origin(experiment, extracted, corpus, captioner_of(experiment))
    return corpus


def open_data(experiment: Experiment, corpus: Corpus, *, tested: bool = True) -> HeadsData:
    """The store with its corpus.

    Args:
        experiment: whose store it is.
        corpus: that the store was made from.
        tested: whether there must be test clips.

    Raises:
        RequestError: if there is nothing to train or test on.
    """
    from cache.store import FeatureStore

    store = FeatureStore.open(store_of(experiment), nearby=experiment.folder)
    if tested and not len(store.rows("test")):
        raise RequestError("there are no test clips", where=store.path, hint="give some speakers the split test")
    return HeadsData.of(store, corpus)


def _rated(store: FeatureStore, corpus: Corpus, where: object) -> tuple[str, ...]:
    train, validation = (~np.isnan(store.scores(store.rows(split))) for split in ("train", "validation"))
    trainable = (train & (corpus.weights()[store.rows("train")] > 0)).any(0) & validation.any(0)
    if not trainable.any():
        raise RequestError(
            "no target is rated in both the training and the validation split",
            where=where,
            found=", ".join(f"{len(store.rows(split))} {split} clips" for split in SPLITS),
            hint="emonet corpus shows what is rated",
        )
    return tuple(target for target, has in zip(store.targets.ids, trainable, strict=True) if has)


def digest_of_weights(corpus: Corpus) -> str | None:
    """SHA-256 over how much each score counts; None where all count the same."""
    weights = corpus.weights()
    return None if (weights == 1).all() else hashlib.sha256(weights.tobytes()).hexdigest()


@contextmanager
def scratch_folder(place: Path, mine: str = "") -> Iterator[Path]:
    """An empty folder in `place` for experts that wait, on the disk where they will be kept.

    Args:
        place: where.
        mine: part of its name, which no other process uses at the same time.
    """
    for leftover in place.glob(f"{SCRATCH}{mine}*"):  # a killed run's; no other runs this stage now
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{mine}", dir=place) as folder:
        yield Path(folder)


def requests(job: StageContext, data: HeadsData) -> dict[InputForm, TrainingRequest]:
    """What is to be trained, form by form.

    Raises:
        RequestError: if the store does not serve a form, or forms are to be chosen by UA, and no validation clip has a
            class.
    """
    from datamodules.expert_inputs import spec_of
    from lightningmodules.experts import TrainingRequest

    config, seed = job.experiment.heads, job.experiment.seed
    require_selectable(data, config)
    labels, weights = class_labels(data), data.weights()
    wanted: tuple[InputForm, ...] = get_args(InputForm) if config.compare_inputs else config.inputs
    specs = {form: spec_of(data.store, form, config) for form in wanted}  # refused before any trains
    return {
        form: TrainingRequest(data.store, spec, data.rated, config, seed, weights, predicted=SPLITS, labels=labels)
        for form, spec in specs.items()
    }


def train_form(job: StageContext, form: InputForm, request: TrainingRequest, scratch: Path) -> TrainedExperts:
    """Train the experts of one form.

    Args:
        job: whose run the curves are logged to.
        form: of the input.
        request: what is to be trained.
        scratch: an empty folder for experts that wait.
    """
    from lightningmodules.experts import TrainingCallbacks, train_experts

    (scratch / form).mkdir()

    def report(metrics: Mapping[str, float], epoch: int) -> None:
        job.run.metrics({f"{form}/{key}": value for key, value in metrics.items()}, epoch)

    watch = TrainingCallbacks(report, job.progress, scratch / form, job.say, partial(_log_plan, job, form))
    return train_experts(request, watch)


def train_forms(
    job: StageContext, data: HeadsData, scratch: Path, parts: Sequence[Path] = ()
) -> dict[InputForm, TriedForm]:
    """Train the experts of every form, or join them.

    Args:
        job: whose run the curves are logged to.
        data: what to train on.
        scratch: an empty folder for experts that wait; those of a form can be written as long as it is there.
        parts: folders of parts that are trained already, of all forms.

    Raises:
        RequestError: if forms are to be chosen by UA, and no validation clip has a class.
    """
    from lightningmodules.experts import join_parts

    experiment, config = job.experiment, job.experiment.heads
    tried = dict[InputForm, TriedForm]()
    for form, request in requests(job, data).items():
        if parts:
            trained = join_parts(request, [part / form for part in parts])
        else:
            trained = train_form(job, form, request, scratch)
        trained, calibration = calibrated(job, data, trained)
        validation, test = (
            data.scores(split, trained.predictions[split], experiment) for split in ("validation", "test")
        )
        classes = {
            split: class_scores(data, split, trained.predictions[split], experiment) for split in ("validation", "test")
        }
        scores = FormScores(
            validation=validation,
            test=test,
            classes=classes["test"],
            validation_classes=classes["validation"],
            energy=trained.energy,
        )
        uncertainty = fit_uncertainty(data, trained, calibration, config.ensemble)
        tried[form] = TriedForm(trained, scores, calibration, uncertainty)
    return tried


def calibrated(
    job: StageContext, data: HeadsData, trained: TrainedExperts
) -> tuple[TrainedExperts, Calibration | None]:
    """Experts whose predictions of test clips are calibrated, where that is asked for.

    Those of validation clips stay: the curves were fitted on them, and would make a form look better than it is.

    Args:
        job: whose experiment says so; told which experts are not.
        data: what they were trained on.
        trained: the experts.
    """
    kind = job.experiment.heads.calibration
    if kind == "none":
        return trained, None
    from emonet.checkpoints import fit_calibration

    spec = data.store.targets.subset(trained.targets)
    calibration = fit_calibration(kind, trained.predictions["validation"], data.truth("validation"), spec)
    for target, note in calibration.notes.items():
        job.say(f"{target} is not calibrated: {console.name(note)}")
    test = calibration.apply(trained.predictions["test"], trained.targets).astype(np.float32)
    return replace(trained, predictions={**trained.predictions, "test": test}), calibration


def _log_plan(job: StageContext, label: str, plan: TrainingPlan) -> None:
    figures = {"groups": len(plan.groups), "passes": plan.passes, "gib": plan.peak_bytes / 2**30}
    job.run.metrics({f"{label}/plan/{name}": value for name, value in figures.items()})


def captioner_of(experiment: Experiment) -> str:
    """Folder or hub id of the captioner whose encoder made the states, or `plugin:NAME[:ARGUMENT]`."""
    return resolve_source(named_encoder(experiment) or str(experiment.folder / "captioner"), experiment)
