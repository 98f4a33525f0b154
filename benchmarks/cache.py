"""The feature store against other ways to keep encoder states: `python -m benchmarks.cache`, or `make bench-cache`."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.formats import BATCH, SHARD, Format, peers
from benchmarks.frontier import Point, frontier_figure
from benchmarks.measure import Bench, Measured, Mode
from benchmarks.ours import metadata_store, tiers
from benchmarks.rows import Row, interleaved_seconds, publish
from benchmarks.states import StateSet, default_corpus, make, small_whisper, spread
from cache.store import FeatureStore
from emonet.clips import Corpus
from emonet.corpora import open_corpus
from experiments.core import progress, say

CAPTIONER = Path("runs/ravdess/captioner")
CLIPS = (1_000, 1_000_000)  # rows of metadata, for the time that opening takes
TABLES = (  # that are printed for each set; each takes some columns
    (
        "bytes/clip",
        "share of raw",
        "write MB/s",
        "random clips/s",
        "one core clips/s",
        "cold clips/s",
        "sequential clips/s",
        "loader clips/s",
    ),
    (
        "open ms",
        "peak memory reading MB",
        "of which mapped MB",
        "peak memory writing MB",
        "largest error",
        "RMS error",
    ),
)
WIDTH = 120  # characters that a table takes at least
NOTES = (
    f"A shuffled pass reads each clip once, in batches of {BATCH}; warm: the files are in the page cache; cold: they "
    "were dropped from it (posix_fadvise), a host's cache below this system may still hold them.",
    "Writing ends when every file is synced. Each figure is the median of interleaved passes.",
    "Every format but the feature store reads and writes with one thread, since its library offers no more; the passes "
    "on one core give all the same.",
    "WebDataset has no random access: its figure is its own shuffled stream. lilcom gives float32.",
    "HDF5's szip does not compress these values at all and is left out.",
    "Peak memory is beyond what the process held before, the batch that is read included; of it, mapped pages can be "
    "taken back by the system.",
    "`speech` keeps the states that hear the clip, exactly; the others read as those of silence, which is its error.",
)


@dataclass(frozen=True)
class Outcome:
    """What was measured on one set."""

    subject: StateSet
    shape: tuple[int, int, int]
    measured: list[Measured]

    @property
    def clip_bytes(self) -> int:
        """Of one clip, raw."""
        return self.shape[1] * self.shape[2] * 2

    def size(self, one: Measured) -> float:
        """Stored bytes per clip."""
        return one.stored / self.shape[0]

    def find(self, name: str) -> Measured | None:
        """A format by its name; None where its library is not installed."""
        return next((one for one in self.measured if name == one.format.name), None)

    def ours(self, tier: str) -> Measured:
        """The feature store in one of its tiers."""
        found = self.find(f"emonet {tier}")
        assert found is not None
        return found

    def peers(self) -> list[Measured]:
        """Everything else."""
        return [one for one in self.measured if not one.format.name.startswith("emonet")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/cache.json and cache.png."""
    options = command_line().parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    subjects, skipped = list(state_sets(options)), []
    if len(subjects) < 2:
        skipped.append(
            f"the states of a trained captioner: there is none at {options.captioner}; "
            "make pretrain EXPERIMENT=ravdess CORPUS=ravdess:PATH"
        )
    outcomes = [_measure(subject, options) for subject in subjects]
    skipped += [f"{one.name}: {one.package} is not installed" for one in peers() if one.missing]
    for line in skipped:
        say(f"left out: {line}")
    rows = [row for outcome in outcomes for row in aims(outcome)]
    rows += opening_rows(subjects[0], options.folder, repeats=options.rounds)
    known = {(row.name, row.peer) for row in rows}
    rows += [row for one in outcomes for row in comparisons(one) if (row.name, row.peer) not in known]
    about = {
        "sets": {one.subject.name: {"about": one.subject.about, "shape": one.shape} for one in outcomes},
        "notes": NOTES,
        "left out": skipped,
        "passes": {"reading": options.rounds, "writing": options.writes},
        "load average at the end": os.getloadavg(),
        "measured": {one.subject.name: figures(one) for one in outcomes},
    }
    console = Console()
    for outcome, columns in itertools.product(outcomes, TABLES):
        console.print(_table(outcome, columns), width=max(WIDTH, console.width))
    publish(rows, options.folder / "cache.json", title="the feature store against its peers", about=about)
    for image in filter(None, (options.folder / "cache.png", options.image)):
        frontier_figure({_title(one): points(one) for one in outcomes}, image)
        print(f"written: {image}")


def state_sets(options: argparse.Namespace) -> Iterator[StateSet]:
    """The sets to measure: of a trained captioner, where there is one, and of Whisper small's shape."""
    from emonet.encoders import FrozenEncoder

    corpus: Corpus = open_corpus(options.corpus)
    if (options.captioner / "config.json").is_file():
        some = spread(corpus, options.captioner_clips)
        encoder = FrozenEncoder.load(str(options.captioner))
        about = (
            f"{len(some)} clips of {corpus.name} through the encoder of a captioner trained on it, {encoder.precision}"
        )
        with progress("states of the captioner") as callback:
            yield make("captioner", about, encoder, some, options.folder, progress=callback)
    some = spread(corpus, options.clips)
    encoder = small_whisper()
    about = (
        f"{len(some)} clips of {corpus.name}, padded to 30 s, through an encoder of Whisper small's shape (12 layers, "
        f"width 768) with random weights (seed 0), {encoder.precision}"
    )
    with progress("states of Whisper small's shape") as callback:
        yield make("small", about, encoder, some, options.folder, progress=callback)


def aims(outcome: Outcome) -> Iterator[Row]:
    """The comparisons that the project holds itself to."""
    name, lossless, none = outcome.subject.name, outcome.ours("lossless"), outcome.ours("none")
    smallest = min((one for one in outcome.peers() if one.format.exact), key=outcome.size)
    ratio = smallest.stored / lossless.stored
    yield Row(f"{name}: size, lossless", outcome.size(lossless), "bytes/clip", smallest.format.name, ratio, 0.98)
    # The default against both as people use them best, then raw bytes against raw bytes.
    for ours, peer in (
        (lossless, "HDF5, gzip 4"),
        (lossless, "HDF5, gzip 9"),
        (lossless, "datasets, Array2D"),
        (none, "HDF5, raw"),
        (none, "datasets, Array2D"),
    ):
        for mode in ("random", "cold"):
            yield from _reads(outcome, ours, mode, peer, 2.0)
    yield from _reads(outcome, none, "random", "np.memmap", 0.7)
    for one in (lossless, none):
        rate, plain = one.rate("loader"), one.rate("sequential")
        tier = one.format.name.removeprefix("emonet ")
        yield Row(f"{name}: shuffled loader, {tier}", rate, "clips/s", "reads in order", rate / plain, 0.9)


def comparisons(outcome: Outcome) -> Iterator[Row]:
    """The default tier against every library: size, writing and reading."""
    name, ours, mega = outcome.subject.name, outcome.ours("lossless"), outcome.clip_bytes / 1e6
    modes: tuple[Mode, ...] = ("random", "one core", "cold", "sequential")
    for one in (one for one in outcome.peers() if one.format.main):
        peer = one.format.name
        yield Row(f"{name}: size, lossless", outcome.size(ours), "bytes/clip", peer, one.stored / ours.stored)
        yield Row(f"{name}: write, lossless", ours.writes() * mega, "MB/s", peer, ours.writes() / one.writes())
        for mode in modes:
            yield from _reads(outcome, ours, mode, peer, None)


def opening_rows(subject: StateSet, folder: Path, *, repeats: int) -> Iterator[Row]:
    """How long opening takes with a thousand and with a million clips in the table."""
    some = range(min(BATCH, len(subject.corpus)))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        few, many = (metadata_store(Path(scratch), subject, clips) for clips in CLIPS)
        calls = {
            "open": (lambda: FeatureStore.open(few), lambda: FeatureStore.open(many)),
            f"open and read {len(some)} clips": (
                lambda: FeatureStore.open(few).read(some),
                lambda: FeatureStore.open(many).read(some),
            ),
        }
        for name, (small, large) in calls.items():
            seconds = interleaved_seconds({"few": small, "many": large}, repeats=10 * repeats, warmup=3)
            first, second = (statistics.median(seconds[which]) for which in ("few", "many"))
            yield Row(f"{name}, {CLIPS[1]:,} rows", second * 1e3, "ms", f"{CLIPS[0]:,} rows", first / second, 0.5)


def figures(outcome: Outcome) -> dict[str, dict[str, object]]:
    """Everything that was measured, for JSON: format -> figure with its unit -> value."""
    return {
        one.format.name: {
            "version": one.format.version,
            "works with": one.format.threads,
            "bytes/clip": round(outcome.size(one)),
            "share of raw": round(outcome.size(one) / outcome.clip_bytes, 4),
            "write MB/s": round(one.writes() * outcome.clip_bytes / 1e6, 1),
            **{f"{mode} clips/s": round(one.rate(mode), 1) for mode in one.reading},
            "open ms": round(one.opening() * 1e3, 3),
            "peak memory reading MB": round(max(done.peak for done in one.first) / 1e6, 1),
            "of which mapped MB": round(max(done.mapped for done in one.first) / 1e6, 1),
            "peak memory writing MB": round(max(done.peak for done in one.writing) / 1e6, 1),
            "largest error": one.largest_error,
            "RMS error": one.rms_error,
        }
        for one in outcome.measured
    }


def points(outcome: Outcome) -> list[Point]:
    """The formats as points of the picture."""
    return [
        Point(
            one.format.name,
            outcome.size(one),
            one.rate("random"),
            ours=one.format.name.startswith("emonet"),
            exact=one.format.exact,
        )
        for one in outcome.measured
    ]


def _measure(subject: StateSet, options: argparse.Namespace) -> Outcome:
    formats: list[Format] = [*(one for one in peers() if not one.missing), *tiers(subject)]
    work = options.folder / "cache-work"
    shutil.rmtree(work, ignore_errors=True)  # gigabytes, where a run was killed
    work.mkdir()
    try:
        with progress(f"formats on {subject.name}", "steps") as callback:
            bench = Bench(formats, subject.file, work, progress=callback)
            measured = bench.run(writes=options.writes, rounds=options.rounds)
    finally:
        shutil.rmtree(work)
    frames, width = subject.load_silence().shape
    return Outcome(subject, (len(subject.corpus), frames, width), measured)


def _reads(outcome: Outcome, ours: Measured, mode: Mode, peer: str, reach: float | None) -> Iterator[Row]:
    other = outcome.find(peer)
    if other is None:
        return
    words = {"random": "random reads", "cold": "random reads, cold", "one core": "random reads, one core"}
    name = f"{outcome.subject.name}: {words.get(mode, 'reads in order')}, {ours.format.name.removeprefix('emonet ')}"
    yield Row(name, ours.rate(mode), "clips/s", other.format.name, ours.rate(mode) / other.rate(mode), reach)


def _table(outcome: Outcome, columns: Sequence[str]) -> Table:
    table = Table(title=_title(outcome))
    table.add_column("format", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in figures(outcome).items():
        shown: list[Any] = [values.get(column) for column in columns]
        table.add_row(name, *("" if value is None else f"{value:,.5g}" for value in shown))
    return table


def _title(outcome: Outcome) -> str:
    clips, frames, width = outcome.shape
    return f"{outcome.subject.name}: {clips} clips of {frames} x {width}"


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--corpus", default=default_corpus(), help="real speech (default: %(default)s)")
    parser.add_argument("--captioner", type=Path, default=CAPTIONER, help="folder (default: %(default)s)")
    parser.add_argument(
        "--captioner-clips", type=int, default=1440, help="through the captioner (default: %(default)s)"
    )
    parser.add_argument("--clips", type=int, default=3 * SHARD, help="at 1500 x 768 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="reading passes of each kind (default: %(default)s)")
    parser.add_argument("--writes", type=int, default=2, help="writing passes (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"), help="for states and results")
    parser.add_argument(
        "--image", type=Path, help="a second place for the picture, e.g. docs/images/cache-frontier.png"
    )
    return parser


if __name__ == "__main__":
    main()
