"""`emonet heads --folds`: an evaluation over folds of speakers; no model is saved or registered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException
from pydantic import ValidationError

from emonet.baselines import STATES
from emonet.clips import Corpus, Fold, Folds, hold_out
from emonet.errors import RequestError
from emonet.experts import POOLED_FORMS
from emonet.runtime import durable
from emonet.schema import digest
from emonet.version import __version__
from experiments.core import Experiment, StageContext, console, decoration, require_result, run_stage
from experiments.extract import ExtractResult, store_of
from experiments.folds.figures import tested
from experiments.folds.results import EXPERTS, FoldFacts, FoldsResult
from experiments.folds.training import MEDIAN, DoneFold, FoldTrainer
from experiments.heads import MAJORITY, digest_of_labels, digest_of_weights, open_corpus_of

FOLDER, PREDICTIONS, PARTS = "folds", "predictions.parquet", ".folds-"


def run(experiment: Experiment, asked: str) -> FoldsResult:
    """Train and test experts fold by fold over the experiment's feature store.

    Args:
        experiment: the resolved configuration.
        asked: a number of folds, `loso`, a file, or `emobox:FOLDER`.

    Raises:
        RequestError: if `extract` has not finished or belongs to another corpus or captioner, there are no such folds,
            or a fold has nothing to train, choose or test by.
    """
    from cache.store import FeatureStore
    from emonet.corpora import open_folds

    _require_foldable(experiment)
    extracted = require_result(experiment, "extract", ExtractResult)
    corpus = open_corpus_of(experiment, extracted)
    store = FeatureStore.open(store_of(experiment), nearby=experiment.folder)
    folds = open_folds(asked, corpus).usable(np.isin(np.arange(len(corpus)), store.rows()))
    inputs = {
        "corpus": extracted.corpus,
        "store": extracted.fingerprint,
        "heads": experiment.heads.fixing,
        "weights": digest_of_weights(corpus),
        **digest_of_labels(corpus),
        "evaluation": experiment.evaluation.distinguishing(exclude={"baselines"}),
        "seed": experiment.seed,
        "division": _digest(folds),
    }
    folder = experiment.folder / FOLDER
    parts = experiment.folder / f"{PARTS}{digest([inputs, __version__])[:16]}"

    def work(job: StageContext) -> Mapping[str, Any]:
        _tell_what_is_held_out(job, asked, folds, corpus)
        done = _train(job, FoldTrainer(job, store, corpus), folds.folds, parts)
        job.commit()
        table = pd.concat([one.table for one in done], ignore_index=True)
        folder.mkdir(parents=True, exist_ok=True)
        durable.write(folder / PREDICTIONS, table.to_parquet())
        result: FoldsResult = job.keep(_fields(experiment, corpus, asked, folds, done, table))
        shutil.rmtree(parts)
        return tell(job, result)

    def tell(job: StageContext, result: FoldsResult) -> Mapping[str, Any]:
        _log(job, result, store.note, folder)
        return {**dict(result), "told": True}

    return run_stage(experiment, "folds", FoldsResult, inputs, [folder / PREDICTIONS], work, resume=tell)


def show(result: FoldsResult) -> None:
    """The tables of test figures on stderr."""
    from experiments.folds.table import tables

    for table in tables(result):
        console.console.print(table)
    for mark in result.marks:
        console.say(f"[bold yellow]{mark}[/]")


def _require_foldable(experiment: Experiment) -> None:
    """Check that folds can do what is asked of experts.

    Raises:
        RequestError: if they cannot.
    """
    config = experiment.heads
    if config.num_shards > 1:
        raise RequestError(
            "an evaluation over folds is not split into parts",
            expected="--folds, or --heads.num-shards",
            found=f"--folds and --heads.num-shards {config.num_shards}",
            hint="leave out one of the two",
        )
    if config.compare_inputs:
        raise RequestError(
            "--folds compares no forms of input by emotion",
            expected="forms to choose from within each fold: --heads.inputs statistics attention",
            found="--heads.compare-inputs",
            hint="leave out one of the two",
        )
    if config.standardise == "speaker" and not set(config.inputs) <= POOLED_FORMS:
        raise RequestError(
            "each speaker's clips can be standardised by themselves as statistics alone",
            expected="--heads.inputs statistics",
            found=f"--heads.inputs {' '.join(config.inputs)}, --heads.standardise speaker",
        )


def _digest(folds: Folds) -> str:
    """SHA-256 over what is tested, trained on and chosen by in each fold."""
    return digest([[fold.name, *(rows.tolist() for rows in (fold.test, fold.train, fold.validation))]
                   for fold in folds.folds])  # fmt: skip


def _tell_what_is_held_out(job: StageContext, asked: str, folds: Folds, corpus: Corpus) -> None:
    """Say, and tag, what is odd about the folds and their validation clips before any training."""
    few = [fold.name for fold in folds.folds if hold_out(fold, corpus.clips)[1] == "clips"]
    notes = list(folds.remarks)
    if few:
        notes.append(f"one training speaker in the folds {', '.join(few)}: clips of that speaker are held out")
    for note in notes:
        job.say(f"[yellow]note[/] {console.name(note)}")
    marks = {
        "transductive": job.experiment.heads.standardise == "speaker",
        "speakers_shared": any(fold.shared(corpus.clips) for fold in folds.folds),
    }
    job.run.tags({"folds": asked, **{name: json.dumps(value) for name, value in marks.items()}})


def _train(job: StageContext, trainer: FoldTrainer, folds: Sequence[Fold], parts: Path) -> list[DoneFold]:
    """Fold after fold; those that a killed run has finished are taken as they are."""
    for leftover in parts.parent.glob(f"{PARTS}*"):  # of other settings or another version, or not wanted any more
        if leftover != parts or job.experiment.force:
            shutil.rmtree(leftover)
    parts.mkdir(exist_ok=True)
    done: list[DoneFold] = []
    with job.progress("training and testing folds", "folds") as progress:
        progress(0, len(folds))
        for number, fold in enumerate(folds):
            kept = _kept(parts, number)
            if kept is None:
                kept = trainer.run(fold, parts)
                durable.write(parts / f"{number}.parquet", kept.table.to_parquet())
                durable.write(parts / f"{number}.json", kept.facts.model_dump_json().encode())  # the last: it is whole
            done.append(kept)
            progress(len(done), len(folds))
        progress(len(folds), len(folds))
    return done


def _kept(parts: Path, number: int) -> DoneFold | None:
    """A fold that a killed run has finished; None where it has not, or what it left cannot be read."""
    try:
        facts = FoldFacts.model_validate_json((parts / f"{number}.json").read_bytes())
        return DoneFold(facts, pd.read_parquet(parts / f"{number}.parquet"))
    except (OSError, ValidationError, ArrowException):
        return None


def _fields(
    experiment: Experiment, corpus: Corpus, asked: str, folds: Folds, done: Sequence[DoneFold], table: pd.DataFrame
) -> dict[str, Any]:
    """The fields of the result."""
    has = {target for one in done for target in one.facts.rated}
    rated = tuple(target for target in corpus.targets.ids if target in has)
    found = {name: tested(name, table, rated, corpus, experiment) for name in (MAJORITY, MEDIAN, STATES, EXPERTS)}
    experts = found.pop(EXPERTS)
    return {
        **dict(experts.figures),
        "asked": asked,
        "folds": tuple(one.facts for one in done),
        "rated": rated,
        "transductive": experiment.heads.standardise == "speaker",
        "shared_speakers": tuple(sorted({name for one in done for name in one.facts.shared_speakers})),
        "remarks": folds.remarks,
        "calibration": experiment.heads.calibration,
        "test": experts.scores,
        "classes": experts.classes,
        "baselines": {name: one.figures for name, one in found.items() if one.scores or one.classes},
        "predictions": experiment.folder / FOLDER / PREDICTIONS,
    }


def _log(job: StageContext, result: FoldsResult, note: str, folder: Path) -> None:
    """Log the figures, and write the report."""
    from experiments.folds.report import write_report

    for label, figures in result.rows.items():
        prefix = "folds" if label == EXPERTS else f"folds/baseline/{label}"
        job.run.metrics({f"{prefix}/{name}": value for name, value in figures.flat().items()})
    with decoration("the report"):
        job.run.artifact(write_report(job.experiment, result, note, folder / "report"), "folds/report")
    job.run.artifact(result.predictions, "folds")
