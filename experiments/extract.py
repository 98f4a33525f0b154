"""The verb `extract`: the frozen encoder's states of every clip, in the experiment's feature store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from cache.record import marker_file
from cache.report import ExtractionReport
from emonet.clips import Corpus
from emonet.errors import EmonetError, RequestError
from emonet.hub import weights_identity
from experiments import console
from experiments.config import Experiment
from experiments.stage import StageResult, Work, resolve_source, run_stage

STORE = "store.zarr"
NOT_IN_THE_BYTES = (
    "captioner", "workers", "devices", "num_shards", "shard_index", "max_failed", "decode_timeout", "compile",
)  # fmt: skip
"""Fields of the configuration that do not fix what is in the store; the captioner's weights stand for themselves."""


class ExtractResult(ExtractionReport, StageResult):
    """What `emonet extract` made."""

    store: Path
    """The feature store."""
    corpus: str
    """Fingerprint of the corpus."""
    captioner: str
    """SHA-256 over the captioner's weights, or its hub id."""


def run(experiment: Experiment) -> ExtractResult:
    """Extract the experiment's corpus into `runs/NAME/store.zarr`; several processes at once share the work.

    Raises:
        RequestError: if there is no captioner or no such device, the corpus cannot be used, or the store has another
            origin.
        EmonetError: if too many clips cannot be read, or the disk is full.
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
        "extraction": experiment.extraction.model_dump(mode="json", exclude=set(NOT_IN_THE_BYTES)),
    }
    shards = -(-len(corpus) // experiment.extraction.shard_clips)
    outputs = [path / "clips.parquet", *(marker_file(path, shard) for shard in range(shards))]
    return run_stage(experiment, "extract", ExtractResult, inputs, outputs, work, shared=True)


def show(result: ExtractResult) -> None:
    """A summary on stderr."""
    clips, frames, width = result.shape
    console.say(
        f"{result.store}: {clips} clips x {frames} states x {width}, {result.failed} failed, "
        f"{result.bytes_stored / 1e6:.1f} MB stored as {result.codec} ({result.bytes_raw / 1e6:.1f} MB raw)"
    )
    if result.rms_error:
        console.say(
            f"  lost by the codec: {100 * result.rms_error:.3g} % of the states' RMS, up to {result.largest_error:.3g}"
        )
    if result.clips_per_second:
        console.say(
            f"  {console.rate(result.clips_per_second, 'clips')}, encoder {result.encoder_tflops:.3g} TFLOP/s in "
            f"{result.precision}, at work {100 * result.encoder_share:.0f} % of the time, "
            f"{result.megabytes_per_second:.1f} MB/s written"
        )
    if not result.complete:
        there = result.bytes_raw // (frames * width * 2) + result.failed
        console.say(
            f"  [yellow]this part is done, the store is not[/]: {there} of {clips} clips are there; "
            "the part that ends last completes it"
        )
    for lost in result.lost:
        console.say(f"  [yellow]ended early[/] {escape(lost)}; the others did its work")
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
    report = _fill(job, corpus, source, place, path)
    if report.complete:
        _check(path)
    counts = {"clips", "failed", "bytes_raw", "bytes_stored"}
    speeds = {"clips_per_second", "encoder_tflops", "encoder_share", "megabytes_per_second"}
    job.run.metrics(report.model_dump(include=counts | speeds))
    job.run.text(report.model_dump_json(indent=2), "extraction.json")
    job.run.tags({"store": report.fingerprint})
    return {
        "store": path,
        "corpus": corpus.fingerprint,
        "captioner": weights_identity(place),
        **report.model_dump(mode="json", exclude={"seconds"}),
    }


def _fill(job: Work, corpus: Corpus, source: str, place: str, path: Path) -> ExtractionReport:
    """Run the extraction in this process, or in one on each device."""
    from cache.devices import choose, extract_on
    from cache.notices import Notices

    config, force = job.experiment.extraction, job.experiment.force
    devices = choose(config)
    # A store that is there already is finished as it was begun, or refused: then the former result describes it still.
    notices = Notices(job.commit, waiting=lambda: job.say("another process prepares the store; this one waits for it"))
    if len(devices) > 1:
        job.say(f"encoder of {escape(source)}: a process on each of {', '.join(devices)}")
        with job.progress("encoding") as progress:
            return extract_on(
                devices, corpus, place, path, config, source=source, force=force, progress=progress, notices=notices
            )
    from cache.extraction import extract
    from emonet.encoder import FrozenEncoder

    device = devices[0] if devices else None
    encoder = FrozenEncoder.load(place, precision=config.precision, device=device, compile=config.compile)
    job.say(
        f"encoder of {escape(source)}: {encoder.window.seconds:g} s -> {encoder.window.frames} states x "
        f"{encoder.width}, {encoder.precision} on {encoder.device.type}"
    )
    with job.progress("encoding") as progress:
        return extract(corpus, encoder, path, config, source=source, force=force, progress=progress, notices=notices)


def _check(path: Path) -> None:
    from cache.verify import verify

    checked = verify(path)
    if checked.problems:
        raise EmonetError(
            "the store is not whole: " + checked.problems[0], where=path, hint=f"emonet store repair {path}"
        )
