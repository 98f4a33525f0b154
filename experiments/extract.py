"""The verb `extract`: the frozen encoder's states of every clip, in the experiment's feature store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.markup import escape

from cache.record import marker_file
from emonet.clips import Corpus, Rejection
from emonet.errors import EmonetError, RequestError
from emonet.hub import weights_identity
from experiments import console
from experiments.config import Experiment
from experiments.stage import StageResult, Work, resolve_source, run_stage

STORE = "store.zarr"


class ExtractResult(StageResult):
    """What `emonet extract` made."""

    store: Path
    """The feature store."""
    clips: int
    """Clips of the corpus, readable or not (count)."""
    failed: int
    """Clips that could not be read (count)."""
    failures: tuple[Rejection, ...]
    """Which, and why."""
    shape: tuple[int, int, int]
    """Clips, frames of 20 ms, width."""
    bytes_raw: int
    """Size of the states before compression (bytes)."""
    bytes_stored: int
    """Size of the shards on disk (bytes)."""
    clips_per_second: float = Field(ge=0)
    """Clips that this run extracted, per second; 0 if they were all there."""
    fingerprint: str
    """SHA-256 over what the store was made from and what it holds."""
    corpus: str
    """Fingerprint of the corpus."""
    captioner: str
    """SHA-256 over the captioner's weights, or its hub id."""


def run(experiment: Experiment) -> ExtractResult:
    """Extract the experiment's corpus into `runs/NAME/store.zarr`.

    Raises:
        RequestError: if there is no captioner, the corpus cannot be used, or the store has another origin.
        EmonetError: if no clip can be read, the disk is full, or another process writes the store.
    """
    from emonet.corpora import open_corpus

    source = experiment.extraction.captioner or _own(experiment)
    place = resolve_source(source, experiment)
    with console.progress("corpus") as progress:
        corpus = open_corpus(experiment.corpus, folder=experiment.corpora, progress=progress)
    path = experiment.folder / STORE

    def work(job: Work) -> Mapping[str, Any]:
        return _extract(job, corpus, source, place, path)

    inputs = {
        "corpus": corpus.fingerprint,
        "captioner": weights_identity(place),
        "extraction": experiment.extraction.model_dump(mode="json", exclude={"captioner"}),
    }
    shards = -(-len(corpus) // experiment.extraction.shard_clips)
    outputs = [path / "clips.parquet", *(marker_file(path, shard) for shard in range(shards))]
    return run_stage(experiment, "extract", ExtractResult, inputs, outputs, work)


def show(result: ExtractResult) -> None:
    """A summary on stderr."""
    clips, frames, width = result.shape
    console.say(
        f"{result.store}: {clips} clips x {frames} states x {width}, {result.failed} failed, "
        f"{result.bytes_stored / 1e6:.1f} MB stored ({result.bytes_raw / 1e6:.1f} MB raw)"
    )
    for failure in result.failures[:10]:
        console.say(f"  [yellow]left out[/] {escape(failure.id)}: {escape(failure.reason)}")
    if result.failed > 10:
        console.say(f"  ... and {result.failed - 10} more; all are in extract.json")


def _own(experiment: Experiment) -> str:
    folder = experiment.folder / "captioner"
    if not (folder / "config.json").is_file() or not (experiment.folder / "pretrain.json").is_file():
        raise RequestError(
            f"the experiment {experiment.name!r} has no trained captioner yet",
            where=folder,
            hint="emonet pretrain, with the same --experiment and flags; or --extraction.captioner ID_OR_FOLDER",
        )
    return str(folder)


def _extract(job: Work, corpus: Corpus, source: str, place: str, path: Path) -> Mapping[str, Any]:
    from cache.extraction import extract
    from cache.verify import verify
    from emonet.encoder import FrozenEncoder

    experiment, config = job.experiment, job.experiment.extraction
    encoder = FrozenEncoder.load(place, precision=config.precision)
    job.say(
        f"encoder of {escape(source)}: {encoder.window.seconds:g} s -> {encoder.window.frames} states x "
        f"{encoder.width}, {encoder.precision} on {encoder.device.type}"
    )
    if experiment.force or not path.exists():
        job.commit()  # else the store is finished as it was begun, or refused
    with job.progress("encoding") as progress:
        report = extract(corpus, encoder, path, config, source=source, force=experiment.force, progress=progress)
    checked = verify(path)
    if checked.problems:
        raise EmonetError(
            "the store is not whole: " + checked.problems[0], where=path, hint=f"emonet verify {path} --deep"
        )
    job.run.metrics(
        {
            "clips": report.clips,
            "failed": report.failed,
            "bytes_raw": report.bytes_raw,
            "bytes_stored": report.bytes_stored,
            "clips_per_second": report.clips_per_second,
        }
    )
    job.run.text(report.model_dump_json(indent=2), "extraction.json")
    job.run.tags({"store": report.fingerprint})
    return {
        "store": path,
        "corpus": corpus.fingerprint,
        "captioner": weights_identity(place),
        **report.model_dump(mode="json", exclude={"seconds"}),
    }
