"""The work behind the verb `heads`: open the store, train every form of input, run the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emonet.clips import SPLITS, Clip, Corpus, Split
from emonet.configs import InputForm
from emonet.errors import RequestError
from emonet.evaluation import METRICS, Scores, evaluate
from emonet.hub import weights_identity
from emonet.schema import Schema
from experiments import console
from experiments.config import Experiment
from experiments.extract import STORE, ExtractResult
from experiments.stage import Work, resolve_source

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from lightningmodules.fitting import FittedBank


class FormScores(Schema):
    """How well the experts of one input form do."""

    validation: Scores
    """On the validation clips; the form is chosen by these."""
    test: Scores
    """On the test clips; reported, never chosen by."""


@dataclass(frozen=True)
class HeadsData:
    """The store and the corpus behind it, as far as experts are concerned.

    Args:
        store: states and scores.
        clips: of the corpus, one for each row of the store.
        rated: ids of the targets that get an expert.
    """

    store: FeatureStore
    clips: tuple[Clip, ...]
    rated: tuple[str, ...]

    def truth(self, split: Split) -> Float[np.ndarray, "clips experts"]:
        """Scores of a split's usable clips; NaN where nobody rated."""
        columns = [self.store.targets.index(target) for target in self.rated]
        return self.store.scores(self.store.rows(split))[:, columns]

    def scores(self, split: Split, predictions: Float[np.ndarray, "clips experts"], experiment: Experiment) -> Scores:
        """Compare predictions of a split's usable clips with their scores."""
        speakers = [self.clips[row].speaker for row in self.store.rows(split)]
        return evaluate(
            self.truth(split),
            predictions,
            targets=self.rated,
            speakers=speakers,
            config=experiment.evaluation,
            seed=experiment.seed,
        )


@dataclass(frozen=True)
class TriedForm:
    """A form of input that was tried: its experts, their figures, their test predictions."""

    fitted: FittedBank
    scores: FormScores
    predictions: Float[np.ndarray, "clips experts"]


def open_corpus_of(experiment: Experiment, extracted: ExtractResult) -> Corpus:
    """The experiment's corpus, checked like its captioner against what the store was extracted from.

    Raises:
        RequestError: if they are others.
    """
    from emonet.corpora import open_corpus

    with console.progress("corpus") as progress:
        corpus = open_corpus(experiment.corpus, folder=experiment.corpora, progress=progress)
    for what, expected, found in (
        ("corpus", extracted.corpus, corpus.fingerprint),
        ("captioner", extracted.captioner, weights_identity(captioner_of(experiment))),
    ):
        if expected != found:
            raise RequestError(
                f"the feature store was extracted from another {what}",
                where=extracted.store,
                expected=f"fingerprint {expected[:16]}",
                found=f"fingerprint {found[:16]}",
                hint="emonet extract, with the same --experiment and flags; and --force if the store is to be replaced",
            )
    return corpus


def open_data(experiment: Experiment, corpus: Corpus) -> HeadsData:
    """The store with its corpus.

    Raises:
        RequestError: if there is nothing to train or test on.
    """
    from cache.store import FeatureStore

    store = FeatureStore.open(experiment.folder / STORE)
    return HeadsData(store, corpus.clips, _rated(store))


def _rated(store: FeatureStore) -> tuple[str, ...]:
    known = [~np.isnan(store.scores(store.rows(split))) for split in SPLITS]
    if not len(known[2]):
        raise RequestError("there are no test clips", where=store.path, hint="give some speakers the split test")
    trainable = known[0].any(0) & known[1].any(0)
    if not trainable.any():
        raise RequestError(
            "no target is rated in both the training and the validation split",
            where=store.path,
            found=", ".join(f"{len(rows)} {split} clips" for split, rows in zip(SPLITS, known, strict=True)),
            hint="emonet corpus shows what is rated",
        )
    return tuple(target for target, has in zip(store.targets.ids, trainable, strict=True) if has)


def train_forms(job: Work, data: HeadsData, *, prefix: str = "") -> tuple[TriedForm, dict[InputForm, FormScores]]:
    """Train every form; the one with the best mean validation metric is kept, the first of equals.

    Args:
        job: whose run the curves are logged to.
        data: what to train on.
        prefix: of the curves' names.
    """
    from emonet.inputs import InputSpec
    from lightningmodules.fitting import fit_bank

    experiment, config, record = job.experiment, job.experiment.heads, data.store.record
    metric = METRICS[config.select_by]
    best: TriedForm | None = None
    forms: dict[InputForm, FormScores] = {}
    for form in dict.fromkeys(config.inputs):
        fitted = fit_bank(
            data.store,
            InputSpec(form, config.frames, record.frames, record.width),
            data.rated,
            config,
            seed=experiment.seed,
            report=lambda metrics, epoch, form=form: job.run.metrics(  # type: ignore[misc]
                {f"{prefix}{form}/{key}": value for key, value in metrics.items()}, epoch
            ),
            show=job.progress,
        )
        predictions = fitted.predict("test")
        forms[form] = FormScores(
            validation=data.scores("validation", fitted.predict("validation"), experiment),
            test=data.scores("test", predictions, experiment),
        )
        value = forms[form].validation.of(metric.name).mean.value
        if best is None or metric.beats(value, best.scores.validation.of(metric.name).mean.value):
            best = TriedForm(fitted, forms[form], predictions)
    assert best is not None  # the schema asks for one form at least
    return best, forms


def run_baselines(job: Work, data: HeadsData) -> dict[str, Scores]:
    """Test figures of the training median and ridge regressions, on the same clips, targets and resamples."""
    from emonet.baselines import acoustic_baselines, median_scores, ridge_scores
    from emonet.windows import Window

    experiment, store = job.experiment, data.store
    truth = {split: data.truth(split) for split in SPLITS}
    rows = {split: store.rows(split) for split in SPLITS}
    predictions = {"median": median_scores(truth["train"], len(rows["test"]))}
    window = Window(store.record.window_seconds)
    for name, measure in acoustic_baselines().items():
        every = np.concatenate([rows[split] for split in SPLITS])
        with job.progress(f"baseline {name}") as progress:
            features = measure([data.clips[row] for row in every], window, progress)
        train, validation, test = np.split(features, np.cumsum([len(rows[split]) for split in SPLITS])[:2])
        predictions[name] = ridge_scores((train, truth["train"]), (validation, truth["validation"]), test)
    return {name: data.scores("test", predicted, experiment) for name, predicted in predictions.items()}


def captioner_of(experiment: Experiment) -> str:
    """Folder or hub id of the captioner whose encoder made the states."""
    return resolve_source(experiment.extraction.captioner or str(experiment.folder / "captioner"), experiment)
