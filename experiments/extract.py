"""The verb `extract`: the frozen encoder's states of every clip, in the experiment's feature store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from cache.extraction import ExtractionReport
from cache.store import Place, StorePlace, marked_shards, place
from emonet.clips import Corpus
from emonet.configs import CodecTier
from emonet.errors import EmonetError, RequestError
from emonet.objects import is_url
from emonet.runtime import expanded
from experiments.core import (
    Experiment,
    StageContext,
    StageResult,
    console,
    identity_of,
    named_encoder,
    open_experiments_corpus,
    rejected,
    resolve_source,
    run_stage,
    show_sounds,
    with_window,
)

STORE = "store.zarr"
EXACT: tuple[CodecTier, ...] = ("none", "lossless")  # tiers that read as computed
NOT_IN_THE_BYTES = (
    "encoder", "captioner", "workers", "devices", "num_shards", "shard_index", "max_failed", "decode_timeout", "copies",
    "compile", "store", "engine", "address", "processors_per_worker",
)  # fmt: skip
"""Fields of the configuration that do not fix what is in the store; the encoder's weights stand for themselves."""


class ExtractResult(ExtractionReport, StageResult):
    """What `emonet extract` made."""

    store: StorePlace
    """The feature store."""
    corpus: str
    """Fingerprint of the corpus."""
    captioner: str
    """SHA-256 over the captioner's weights, or the digest of a plug-in's encoder; of an older emonet, a hub id."""
    rejected: dict[str, str] = Field(default_factory=dict)
    """Recordings that were left out of the corpus: id -> reason."""
    shards: int = 0
    """Of the store (count)."""
    resumed: int = 0
    """Of these, those that were there when this run began (count)."""


@dataclass(frozen=True)
class _Markers:
    """The markers of a store, which are there if all are; listed, since each look of its own may be a request."""

    path: Place
    shards: int

    def exists(self) -> bool:
        return marked_shards(self.path) >= set(range(self.shards))


def store_of(experiment: Experiment) -> Place:
    """Where the experiment's feature store lies: in its folder, or where `extraction.store` says."""
    named = experiment.extraction.store
    if named is None:
        return experiment.folder / STORE
    asked = place(named if is_url(named) else expanded(named))
    return asked if asked.name.endswith(".zarr") else asked / f"{experiment.name}/{STORE}"


def run(experiment: Experiment) -> ExtractResult:
    """Extract the experiment's corpus into its feature store (`store_of`); several processes at once share the work.

    Raises:
        RequestError: if there is no captioner, plug-in or device of the name, the corpus cannot be used, or the store
            has another origin.
        EmonetError: if too many clips cannot be read, the disk is full, or the store that is there is damaged.
    """
    source = named_encoder(experiment) or _own(experiment)
    resolved = resolve_source(source, experiment)
    corpus = open_experiments_corpus(experiment)
    experiment = with_window(experiment, "extraction", corpus)
    path = store_of(experiment)
    identity = identity_of(resolved)

    def work(job: StageContext) -> Mapping[str, Any]:
        return {**_extract(job, corpus, source, resolved, path), "captioner": identity}

    inputs = {
        "corpus": corpus.fingerprint,
        "captioner": identity,
        "extraction": experiment.extraction.distinguishing(exclude=NOT_IN_THE_BYTES),
    }
    shards = -(-len(corpus) // experiment.extraction.shard_clips)
    outputs = [path / "clips.parquet", _Markers(path, shards)]
    check = partial(_check, path)
    return run_stage(experiment, "extract", ExtractResult, inputs, outputs, work, shared=True, check=check, relog=_log)


def show(result: ExtractResult) -> None:
    """A summary on stderr."""
    clips, frames, width = result.shape
    kept = ", frames: speech" if result.kept == "speech" else ""
    rows = "states" if result.pool == "none" else "statistics"
    console.say(
        f"{console.name(result.store)}: {console.counted(clips, 'clip')} x {frames} {rows} x {width}, "
        f"{result.failed} failed, "
        f"{result.bytes_stored / 1e6:.1f} MB stored as {result.codec}{kept} ({result.bytes_raw / 1e6:.1f} MB raw)"
    )
    if result.rms_error:
        console.say(
            f"  {lost_where(result.codec, result.kept)}: {100 * result.rms_error:.3g} % of the states' RMS, "
            f"up to {result.largest_error:.3g}"
        )
    _show_run(result)
    if not result.complete:
        there = result.bytes_raw // (frames * width * 2) + result.failed
        console.say(
            f"  [yellow]this part is done, the store is not[/]: {there} of {clips} clips are there; "
            "the part that ends last completes it"
        )
    show_sounds(result.sounds)
    for node, share in result.nodes.items():
        workers = console.counted(share.workers, "worker")
        speed = console.rate(share.clips_per_second, "clips") if share.clips_per_second else "0 clips/s"
        console.say(f"  {console.name(node)}: {console.counted(share.clips, 'clip')} by {workers}, {speed}")
    for lost in result.lost:
        console.say(f"  [yellow]lost[/] {console.name(lost)}; others did its work")
    for failure in result.failures[:10]:
        console.say(f"  [yellow]left out[/] {console.name(failure.id)}: {console.name(failure.reason)}")
    if result.failed > 10:
        console.say(f"  ... and {result.failed - 10} more; all are in extract.json")


def lost_where(codec: CodecTier, kept: str) -> str:
    """Why states read otherwise than they were computed."""
    by_codec = "" if codec in EXACT else "by the codec"
    in_silence = "where only silence is heard" if kept == "speech" else ""
    return "lost " + " and ".join(filter(None, (by_codec, in_silence)))


def _show_run(result: ExtractResult) -> None:
    """What this run found and did."""
    if result.resumed:
        console.say(f"  resumed: {result.resumed:,} of {console.counted(result.shards, 'shard')} were there")
    if 0 < result.extracted < result.clips:
        console.say(f"  this run did {result.extracted:,} of {result.clips:,} clips")
    if result.clips_per_second:
        tflops = f"{result.encoder_tflops:.3g} TFLOP/s " if result.encoder_tflops else ""  # of a plug-in's: not known
        console.say(
            f"  {console.rate(result.clips_per_second, 'clips')}, encoder {tflops}in {result.precision}, "
            f"at work {100 * result.encoder_share:.0f} % of the time, {result.megabytes_per_second:.1f} MB/s written"
        )


def _own(experiment: Experiment) -> str:
    folder = experiment.folder / "captioner"
    if not (folder / "config.json").is_file() or not (experiment.folder / "pretrain.json").is_file():
        raise RequestError(
            f"the experiment {experiment.name!r} has no trained captioner yet",
            where=folder,
            hint="emonet pretrain, with the same --experiment and flags; or --extraction.captioner ID_OR_FOLDER",
        )
    return str(folder)


def _extract(job: StageContext, corpus: Corpus, source: str, resolved: str, path: Place) -> Mapping[str, Any]:
    shards = -(-len(corpus) // job.experiment.extraction.shard_clips)
    there = 0 if job.experiment.force else len(marked_shards(path) & set(range(shards)))
    report = _fill(job, corpus, source, resolved, path)
    if report.complete:
        _check(path)
    _log(job, report)
    return {
        "store": path,
        "corpus": corpus.fingerprint,
        "rejected": rejected(corpus),
        "shards": shards,
        "resumed": there,
        **report.model_dump(mode="json", exclude={"seconds"}),
    }


def _log(job: StageContext, report: ExtractionReport) -> None:
    counts = {"clips", "failed", "bytes_raw", "bytes_stored"}
    speeds = {"clips_per_second", "encoder_tflops", "encoder_share", "megabytes_per_second"}
    job.run.metrics(report.model_dump(include=counts | speeds))
    job.run.text(report.model_dump_json(indent=2, include=set(ExtractionReport.model_fields)), "extraction.json")
    job.run.tags({"store": report.fingerprint})


def _fill(job: StageContext, corpus: Corpus, source: str, resolved: str, path: Place) -> ExtractionReport:
    """Run the extraction in this process, or with the workers of a cluster."""
    from cache.extraction import choose, extract_on_ray
    from cache.writing import Notices
    from emonet.runtime import has_ray

    config, force = job.experiment.extraction, job.experiment.force
    devices = choose(config)
    # A store that already exists is finished as it was begun, or refused: then the former result describes it still.
    notices = Notices(job.commit, waiting=lambda: job.say("another process prepares the store; this one waits for it"))
    if config.engine == "ray" or (len(devices) > 1 and has_ray()):
        where = config.address or ("this machine" if not devices else f"a worker on each of {', '.join(devices)}")
        job.say(f"encoder of {console.name(source)}: Ray cluster, {console.name(where)}")
        with job.progress("encoding") as progress:
            return extract_on_ray(
                corpus, resolved, path, config,
                source=source, devices=devices, force=force, progress=progress, notices=notices, say=job.say,
            )  # fmt: skip
    if len(devices) > 1:
        job.say(f"[yellow]one of {len(devices)} GPUs is used[/]; pip install 'emonet[ray]', and all of them are")
    from cache.extraction import encoder_settings, extract
    from emonet.encoders import inner_layers, open_encoder

    device = devices[0] if devices else None
    encoder = open_encoder(resolved, device=device, **encoder_settings(config))
    inner = inner_layers(encoder)
    layers = "" if inner is None else f", layers {' '.join(map(str, inner))}"
    job.say(
        f"encoder of {console.name(source)}: {encoder.window.seconds:g} s -> {encoder.frames} states x "
        f"{encoder.width}{layers}, {encoder.precision} on {encoder.device.type}"
    )
    with job.progress("encoding") as progress:
        return extract(corpus, encoder, path, config, source=source, force=force, progress=progress, notices=notices)


def _check(path: Place) -> None:
    """Look at a finished store without reading a chunk.

    Raises:
        EmonetError: if something is wrong with it.
    """
    from cache.maintenance import LEFTOVER, verify
    from cache.store import how_to_repair

    # `emonet heads` may be writing principal coordinates into it.
    problems = [problem for problem in verify(path).problems if not problem.endswith(LEFTOVER)]
    if problems:
        shown = [f"    - {problem}" for problem in problems[:10]]
        more = [f"    ... and {len(problems) - 10} more"] if len(problems) > 10 else []
        what = "\n".join(["the store is not whole", *shown, *more])
        raise EmonetError(what, where=path, hint=how_to_repair(path))
