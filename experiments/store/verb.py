"""The verbs `store info`, `verify`, `repair`, `export` and `copy`: what one does with a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.clips import Corpus, Rejection
from emonet.errors import EmonetError, RequestError
from emonet.objects import is_url
from emonet.runtime import expanded
from experiments.core import Experiment, console, open_spec, resolve_source
from experiments.extract import lost_where

if TYPE_CHECKING:
    from cache.maintenance import CopyReport, ExportReport, RepairReport, StoreInfo, StoreReport
    from cache.store import ExtractionRecord
    from emonet.encoders import ReadyEncoder
    from experiments.arguments import (
        StoreArguments,
        StoreCopyArguments,
        StoreExportArguments,
        StoreRepairArguments,
        StoreVerifyArguments,
    )

_SHOWN = 10  # clips and problems that people see; --json carries all


def info(arguments: StoreArguments) -> StoreInfo:
    """What a store is made of; it need not be finished, and no chunk is read.

    Raises:
        RequestError: if there is no store.
    """
    from cache.maintenance import describe
    from cache.store import place

    return describe(place(arguments.store))


def show_info(found: StoreInfo) -> None:
    """A few lines on stderr."""
    record = found.record
    states = f"{record.frames} states of {_step(record)}"
    kept = states if record.pool == "none" else f"{record.shape[1]} statistics over {states}"
    lines = {
        "corpus": record.corpus,
        "note": found.note,
        "encoder": f"{record.encoder}, {record.precision}, {console.counted(record.batch_size, 'clip')} a pass",
        "layers": ", ".join(map(str, record.layers)) if record.layers else "the last",
        "shape": f"{console.counted(record.clips, 'clip')} x {kept} x {record.width}, float16",
        "codec": record.codec + (", only states that hear the clip are kept" if record.kept == "speech" else ""),
        "size": f"{_megabytes(found.bytes_stored)} of {_megabytes(found.bytes_raw)}"
        + ("" if found.share is None else f" ({found.share:.1%})"),
        "errors": f"largest {found.largest_error:.3g}, RMS {found.rms_error:.2%} of the states': "
        + lost_where(record.codec, record.kept)
        if found.largest_error
        else "",
        "clips": ", ".join(f"{split} {clips:,}" for split, clips in found.splits.items()),
        "speakers": "" if found.speakers is None else f"{found.speakers:,}",
        "audio": f"{found.hours:.2f} h",
        "no states": console.counted(found.failed, "clip") if found.failed else "",
        "targets": f"{len(found.targets)}, rated: {', '.join(found.rated) or 'none'}" if found.finished else "",
        "finished": _finished(found),
        "principal": "; ".join(found.principal),
        "fingerprint": found.fingerprint or "",
    }
    console.say(f"[bold]{console.name(found.store)}[/]")
    for name, line in lines.items():
        if line:
            console.say(f"  {name:<13}{console.name(line)}")


def verify(arguments: StoreVerifyArguments) -> StoreReport:
    """Check a store.

    Raises:
        RequestError: if there is no store, or its extraction did not finish.
        EmonetError: if its table is missing or damaged.
    """
    from cache.maintenance import describe, verify
    from cache.store import TABLE, how_to_repair, place

    path = place(arguments.store)
    if not (path / TABLE).exists():
        found = describe(path)
        if found.shards == found.record.shards:
            raise EmonetError(
                "the table of clips is missing, though every shard is there",
                where=path / TABLE,
                hint=how_to_repair(path),
            )
    with console.progress("reading" if arguments.deep else "checking") as progress:
        return verify(path, deep=arguments.deep, progress=progress)


def show_verify(report: StoreReport) -> None:
    """What was found, on stderr."""
    from cache.store import how_to_repair

    console.say(
        f"{console.name(report.store)}: {_shape(report)} "
        f"of {console.name(report.corpus)}, {report.failed} without states, {_megabytes(report.bytes_stored)}"
    )
    _list("[yellow]no states[/]", report.failures)
    for problem in report.problems:
        console.say(f"  [bold red]problem[/] {console.name(problem)}")
    if report.problems:
        console.say(f"  try:      {console.name(how_to_repair(report.store))}")
    else:
        console.say("whole: every chunk was read back" if report.deep else "whole; --deep reads every chunk back")


def repair(arguments: StoreRepairArguments) -> RepairReport:
    """Make a store whole; only shards that are damaged are extracted again.

    Raises:
        RequestError: if there is no store, or its corpus or encoder cannot be opened or is another one.
        EmonetError: if another process writes the store.
    """
    from cache.maintenance import Sources, repair

    sources = Sources(
        corpus=lambda record: _open_corpus(record, arguments), encoder=lambda record: _load_encoder(record, arguments)
    )
    return repair(arguments.store, sources, console.progress)


def show_repair(report: RepairReport) -> None:
    """What was done, on stderr."""
    if not report.problems:
        console.say(f"{console.name(report.store)}: whole: every chunk was read back; nothing was changed")
        return
    for problem in report.problems:
        console.say(f"  [yellow]was wrong[/] {console.name(problem)}")
    done = []
    if report.clips:
        shards = f" (shards {', '.join(map(str, report.shards))})" if report.shards else ""
        done.append(f"extracted again: {console.counted(len(report.clips), 'clip')}{shards}")
    if report.written:
        done.append(f"written again: {', '.join(report.written)}")
    if report.removed:
        done.append(f"removed: {', '.join(report.removed)}")
    console.say(f"{console.name(report.store)}: {console.name('; '.join(done) or 'nothing was changed')}")
    _list("[yellow]no states[/]", report.failures)
    if report.different:
        console.say(
            f"  [yellow]note[/] shards {', '.join(map(str, report.different))} do not hold the same bits as before, as "
            "after a change of machine; emonet heads trains again"
        )
    for problem in report.remaining:
        console.say(f"  [bold red]problem[/] {console.name(problem)}")
    if not report.remaining:
        console.say("whole: every chunk was read back")


def export(arguments: StoreExportArguments) -> ExportReport:
    """Write states and table for other programs.

    Raises:
        RequestError: if there is no finished store, nothing to export, or the folder already exists.
        EmonetError: if the store is damaged, or the disk is full.
    """
    from cache.maintenance import export
    from cache.store import FeatureStore

    store = FeatureStore.open(arguments.store)
    with console.progress("writing") as progress:
        return export(
            store, arguments.out, arguments.format, split=arguments.split, force=arguments.force, progress=progress
        )


def show_export(report: ExportReport) -> None:
    """What was written, on stderr."""
    files = report.files[0] if len(report.files) == 1 else f"{len(report.files)} {report.format} files"
    console.say(
        f"{console.name(report.out)}: {_shape(report)}, float16, "
        f"in {files} ({_megabytes(report.bytes)}), with clips.parquet and export.json"
    )
    _list("[yellow]left out[/]", report.left_out)


def copy(arguments: StoreCopyArguments) -> CopyReport:
    """Copy a store; a copy that was stopped goes on.

    Raises:
        RequestError: if there is no finished store, or something else is where the copy shall lie.
        EmonetError: if a shard is damaged, or another process writes the copy.
    """
    from cache.maintenance import copy_store
    from cache.store import place

    places = (place(one if is_url(one) else expanded(one)) for one in (arguments.source, arguments.target))
    with console.progress("copying") as progress:
        return copy_store(*places, force=arguments.force, check=not arguments.unchecked, progress=progress)


def show_copy(report: CopyReport) -> None:
    """What was copied, on stderr."""
    console.say(
        f"{console.name(report.target)}: {console.counted(report.clips, 'clip')} in "
        f"{console.counted(report.shards, 'shard')} of {console.name(report.source)}, "
        f"{_megabytes(report.bytes)} copied in {report.seconds:.1f} s ({report.megabytes_per_second:,.1f} MB/s)"
    )
    if report.resumed:
        console.say(f"  resumed: {report.resumed:,} of {console.counted(report.shards, 'shard')} were there")
    copied = report.shards - report.resumed
    if report.checked and copied:
        console.say(f"whole: {'every shard' if not report.resumed else 'what was copied now'} was read back")
    elif not copied:
        console.say("nothing to copy: markers and sizes are right; emonet store verify --deep reads it back")
    else:
        console.say("emonet store verify --deep reads it back")


def _open_corpus(record: ExtractionRecord, arguments: StoreRepairArguments) -> Corpus:
    from cache.store import read_attributes, read_classes

    (_, targets, _), classes = read_attributes(arguments.store), read_classes(arguments.store)
    spec, folder = arguments.corpus or record.corpus, arguments.runs / "corpora"
    try:
        return open_spec(spec, folder, targets, classes)
    except RequestError as error:
        if arguments.corpus is not None:
            raise
        raise _not_here("corpus", spec, error, "--corpus SPEC") from error


def _load_encoder(record: ExtractionRecord, arguments: StoreRepairArguments) -> ReadyEncoder:
    from emonet.encoders import NarrowError, open_heard

    source = arguments.captioner or record.encoder
    try:
        place = resolve_source(source, Experiment(runs=arguments.runs))
        return open_heard(
            place,
            "this store was made from",
            layers=record.layers,
            window_seconds=record.window_seconds,
            precision="bf16" if record.precision == "bf16" else "float32",
        )
    except NarrowError:
        raise
    except RequestError as error:
        if arguments.captioner is not None:
            raise
        raise _not_here("captioner", source, error, "--captioner SOURCE") from error


def _not_here(what: str, source: str, error: RequestError, flag: str) -> RequestError:
    return RequestError(
        f"the {what} that this store was made from cannot be opened: {error.what}",
        where=source,
        found=f"working folder {Path.cwd()}",
        hint=f"{flag} if it lies elsewhere now, or the folder in which emonet extract was run",
    )


def _list(label: str, clips: tuple[Rejection, ...]) -> None:
    for clip in clips[:_SHOWN]:
        console.say(f"  {label} {console.name(clip.id)}: {console.name(clip.reason)}")
    if len(clips) > _SHOWN:
        console.say(f"  ... and {len(clips) - _SHOWN} more; --json lists all")


def _finished(found: StoreInfo) -> str:
    from cache.store import how_to_repair

    shards = console.counted(found.record.shards, "shard")
    if found.finished:
        return f"yes, in {shards}"
    if found.shards == found.record.shards:
        return f"no: the table of clips is missing, though every shard is there: {how_to_repair(found.store)}"
    return f"no: {found.shards:,} of {shards}, {found.clips:,} of {found.record.clips:,} clips are there"


def _shape(report: StoreReport | ExportReport) -> str:
    clips, rows, width = report.shape
    return f"{console.counted(clips, 'clip')} x {rows} {'states' if report.pool == 'none' else 'statistics'} x {width}"


def _step(record: ExtractionRecord) -> str:
    return f"{1000 * record.window_seconds / record.frames:.4g} ms"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
