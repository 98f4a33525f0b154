"""The verb `store compare-codecs`: what each codec tier saves in bytes and costs in the experts' test figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field
from rich.table import Table

from emonet.clips import Corpus
from emonet.configs import CodecTier
from emonet.errors import RequestError
from emonet.evaluation import METRICS, Estimate, Scores, difference
from emonet.schema import Schema
from experiments.core import Experiment, StageResult, Work, console, require_result, run_stage
from experiments.extract import STORE, ExtractResult
from experiments.heads import (
    HeadsData,
    best_of,
    digest_of_weights,
    open_corpus_of,
    open_data,
    scratch_folder,
    stacked,
    train_forms,
)

if TYPE_CHECKING:
    from cache.maintenance import StoreReport
    from cache.store import FeatureStore

FOLDER = "codecs"
_NAMED = 12  # digits of a fingerprint that name a folder


@dataclass(frozen=True, slots=True)
class Way:
    """A way to keep states: a codec tier, and which states are kept."""

    codec: CodecTier
    kept: Literal["all", "speech"] = "all"

    @property
    def label(self) -> str:
        """What tables and folders call it."""
        return self.codec if self.kept == "all" else f"{self.codec}-{self.kept}"


REFERENCE = Way("lossless")
WAYS = (REFERENCE, Way("bfloat"), Way("int8"), Way("lossless", "speech"), Way("int8", "speech"))


class _Trained(NamedTuple):
    """What is kept of the experts of one way.

    Args:
        form: of their input, as validation chose it.
        test: their figures.
        predictions: of the test clips.
    """

    form: str
    test: Scores
    predictions: Float[np.ndarray, "clips experts"]


class CodecScores(Schema):
    """One way to keep states."""

    bytes_per_clip: float = Field(ge=0)
    """Stored size of a clip with states (bytes)."""
    share: float = Field(ge=0)
    """Stored size over that of float16 (0 to 1)."""
    largest_error: float = Field(ge=0)
    """Largest difference between a state as computed and as it reads."""
    rms_error: float = Field(ge=0)
    """Root mean square of these differences as a share of that of the states."""
    form: str
    """The input form that validation chose."""
    test: Scores
    """The experts' test figures."""
    mae_change: Estimate
    """Mean test MAE less that of `lossless`, with the interval of the difference."""
    pearson_change: Estimate
    """Mean test Pearson correlation less that of `lossless`, with the interval of the difference."""


class CodecsResult(StageResult):
    """What `emonet store compare-codecs` found."""

    ways: dict[str, CodecScores]
    """By codec tier; with `-speech` where only states that hear the clip are kept."""


def run(experiment: Experiment) -> CodecsResult:
    """Store the experiment's states in every way, train the same experts on each, and compare them on the test clips.

    Raises:
        RequestError: if `extract` has not finished, or its store is not lossless with all states kept.
    """
    extracted = require_result(experiment, "extract", ExtractResult)
    corpus = open_corpus_of(experiment, extracted)
    inputs = {
        "store": extracted.fingerprint,
        "heads": experiment.heads.model_dump(mode="json", exclude={"memory"}),
        "weights": digest_of_weights(corpus),
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": experiment.seed,
        "ways": [way.label for way in WAYS],
    }
    return run_stage(experiment, "codecs", CodecsResult, inputs, [], lambda job: _work(job, corpus), relog=_relog)


def show(result: CodecsResult) -> None:
    """The table on stderr."""
    table = Table(
        title=f"{result.experiment}: ways to keep states, on {next(iter(result.ways.values())).test.clips} test clips",
        caption="share of float16; below each figure its bootstrap interval; changes against lossless, with the "
        "interval of the difference",
        title_justify="left",
        caption_justify="left",
    )
    for column in (
        "",
        "bytes a clip",
        "of float16",
        "largest error",
        "RMS error",
        "MAE",
        "change",
        "Pearson",
        "change",
    ):
        table.add_column(column)
    for label, way in result.ways.items():
        table.add_row(
            label,
            f"{way.bytes_per_clip:,.0f}",
            f"{way.share:.1%}",
            f"{way.largest_error:.3g}",
            f"{way.rms_error:.2%}",
            stacked(way.test.mae.mean),
            stacked(way.mae_change, signed=True),
            stacked(way.test.pearson.mean),
            stacked(way.pearson_change, signed=True),
        )
    console.console.print(table)


def _work(job: Work, corpus: Corpus) -> Mapping[str, Any]:
    from cache.maintenance import verify
    from cache.store import FeatureStore

    data = open_data(job.experiment, corpus)
    _require_lossless(data.store)
    job.commit()
    folder = _folder(job.experiment, data.store)
    reference: _Trained | None = None
    ways: dict[str, CodecScores] = {}
    for way in WAYS:
        path = _stored(job, data.store, corpus, way, folder)
        there = HeadsData(FeatureStore.open(path), data.corpus, data.rated)
        trained = _train(job, there, way)
        reference = reference or trained
        ways[way.label] = _scores(job.experiment, there, verify(path), trained, reference)
        _log(job, way.label, ways[way.label])
        if path.is_relative_to(folder):  # else it is the experiment's own
            shutil.rmtree(path)
    shutil.rmtree(folder.parent, ignore_errors=True)
    return {"ways": ways}


def _train(job: Work, data: HeadsData, way: Way) -> _Trained:
    """Train the experts on one way to keep states; of the bank nothing stays in memory."""
    heads = job.experiment.heads
    job.say(f"experts on [bold]{way.label}[/]")
    with scratch_folder(job.experiment.folder, "codecs") as scratch:
        forms = train_forms(job, data, scratch, prefix=f"{way.label}/")
    tried = best_of({form: forms[form] for form in heads.inputs}, METRICS[heads.select_by])
    return _Trained(tried.trained.spec.form, tried.scores.test, tried.trained.predictions["test"])


def _require_lossless(store: FeatureStore) -> None:
    if (store.record.codec, store.record.kept) not in {("lossless", "all"), ("none", "all")}:
        raise RequestError(
            "codecs are compared on a store that has lost nothing",
            where=store.path,
            expected="codec lossless or none, frames all",
            found=f"codec {store.record.codec}, frames {store.record.kept}",
            hint="emonet extract --codec lossless --frames all --force",
        )


def _folder(experiment: Experiment, store: FeatureStore) -> Path:
    """Where the stores of a run lie; what a killed run left is kept if it was made of the same states."""
    parent = experiment.folder / FOLDER
    folder = parent / store.fingerprint[:_NAMED]
    for leftover in parent.iterdir() if parent.is_dir() else ():
        if not leftover.is_dir():
            leftover.unlink()
        elif leftover != folder or experiment.force:
            shutil.rmtree(leftover)
    return folder


def _stored(job: Work, store: FeatureStore, corpus: Corpus, way: Way, folder: Path) -> Path:
    """The store in that way: the experiment's own, or one made from it."""
    if (store.record.codec, store.record.kept) == (way.codec, way.kept):
        return job.experiment.folder / STORE
    from cache.maintenance import transcode

    path = folder / f"{way.label}.zarr"
    with job.progress(f"storing as {way.label}") as progress:
        transcode(store, corpus, path, way.codec, kept=way.kept, progress=progress)
    return path


def _scores(
    experiment: Experiment, data: HeadsData, stored: StoreReport, trained: _Trained, reference: _Trained
) -> CodecScores:
    readable = stored.clips - stored.failed
    truth, speakers = data.truth("test"), data.speakers("test")
    changes = {
        f"{metric}_change": difference(
            truth,
            trained.predictions,
            reference.predictions,
            metric=metric,
            speakers=speakers,
            config=experiment.evaluation,
            seed=experiment.seed,
        )
        for metric in ("mae", "pearson")
    }
    return CodecScores(
        bytes_per_clip=stored.bytes_stored / readable,
        share=stored.bytes_stored / stored.bytes_raw,
        largest_error=stored.largest_error,
        rms_error=stored.rms_error,
        form=trained.form,
        test=trained.test,
        **changes,
    )


def _relog(job: Work, done: CodecsResult) -> None:
    for label, scores in done.ways.items():
        _log(job, label, scores)


def _log(job: Work, label: str, scores: CodecScores) -> None:
    figures = {
        "bytes_per_clip": scores.bytes_per_clip,
        "rms_error": scores.rms_error,
        "test_mae": scores.test.mae.mean.value,
        "test_pearson": scores.test.pearson.mean.value,
    }
    job.run.metrics({f"{label}/{name}": value for name, value in figures.items() if value is not None})
