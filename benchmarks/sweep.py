"""A sweep of all experts against a plain script, and with one and two workers: `python -m benchmarks.sweep`."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.heads import alone_in_a_process
from benchmarks.rows import Row, publish, seconds_of
from benchmarks.sweep_peer import PlainTrial, plain_trial
from benchmarks.sweep_trials import Bookkeeping, bookkeeping, wall_seconds
from emonet.errors import EmonetError
from experiments import sweep
from experiments.core import Experiment, console, load

WORKERS = 2
AIM = 600.0  # seconds of a sweep
KEPT = ("captioner", "store.zarr", "pretrain.json", "extract.json")  # of an experiment's folder: what a sweep reads
NOTES = (
    "The sweep: `emonet sweep` as it is, its default space, TPE and median pruning; the best trial's full training is "
    "not part of it.",
    "The plain script: a DataLoader of two processes that reads a clip's flattened states in every epoch, one module "
    "per expert, one AdamW; some batches are measured, a trial is as many as it has. The fixed trials train the same "
    "experts, on all principal coordinates of the same states.",
    "Fixed trials: no pruning, and no expert stops before the last epoch; stores are open and inputs prepared before "
    "the clock starts, as they are for all trials of a sweep but the first.",
    "Bookkeeping: trials that take no time themselves; MLflow is written beside the trials, not within them.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/sweep.json."""
    options = command_line().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        experiment = borrowed(options.experiment, options.runs, Path(name))
        trials = fixed_trials(options.fixed, options.epochs, options.batch)
        path = experiment.folder / "store.zarr"
        console.say("a plain script")
        plain = alone_in_a_process(plain_trial, path, options.batch, options.batches)
        console.say(f"{len(trials)} fixed trials")
        taken = {
            (workers, threads): wall_seconds(experiment, trials, workers=workers, threads=threads)
            for workers, threads in ((WORKERS, 1), (1, 1), (1, WORKERS))
        }
        console.say("bookkeeping")
        noted = bookkeeping(elsewhere(experiment, Path(name) / "noted"), trials=options.fixed, epochs=options.epochs)
        rows = [] if options.trials == 0 else [sweep_row(experiment, options.trials)]
        rows += trial_rows(taken, plain, options) + bookkeeping_rows(noted, taken[WORKERS, 1] * WORKERS / len(trials))
    about = {
        "notes": NOTES,
        "experiment": options.experiment,
        "trials": options.trials,
        "fixed trials": options.fixed,
        "epochs of these": options.epochs,
        "seconds by workers and threads": {f"{w} x {t}": seconds for (w, t), seconds in taken.items()},
        "torch": torch.__version__,
        "load average at the end": os.getloadavg(),
    }
    publish(rows, options.out, title=f"Sweeps of the experts of {options.experiment}", about=about)


def borrowed(name: str, runs: Path, scratch: Path) -> Experiment:
    """A copy of an experiment that has been extracted, in which trials may be made; the studies start anew.

    Raises:
        EmonetError: if it has not.
    """
    experiment = load(name)
    folder = scratch / "runs" / experiment.name
    missing = [one for one in KEPT if not (runs / experiment.name / one).exists()]
    if missing:
        raise EmonetError(
            "the experiment has no finished store",
            where=runs / experiment.name,
            expected=", ".join(KEPT),
            found=f"no {', '.join(missing)}",
            hint=f"make pretrain extract EXPERIMENT={name}",
        )
    folder.mkdir(parents=True)
    for one in KEPT:
        source = runs / experiment.name / one
        if source.is_dir():
            shutil.copytree(source, folder / one, ignore=shutil.ignore_patterns("principal"))
        else:
            shutil.copy(source, folder / one)
    if (runs / "corpora").is_dir():
        (scratch / "runs" / "corpora").symlink_to((runs / "corpora").resolve())
    return elsewhere(experiment, scratch / "runs")


def elsewhere(experiment: Experiment, runs: Path) -> Experiment:
    """The experiment with another folder for what it writes."""
    runs.mkdir(parents=True, exist_ok=True)
    return Experiment.model_validate({**experiment.model_dump(), "runs": runs})


def fixed_trials(count: int, epochs: int, batch_size: int) -> list[Mapping[str, Any]]:
    """Settings that cost the same: published widths on all principal coordinates, with other rates and dropout."""
    return [
        {
            "heads.inputs": ["flatten"],
            "heads.features": "principal",
            "heads.rank": "all",
            "heads.epochs": epochs,
            "heads.patience": epochs,
            "heads.batch_size": batch_size,
            "heads.learning_rate": 1e-4 * 1.5**number,
            "heads.dropout": [0.0, 0.1 + 0.02 * number],
        }
        for number in range(count)
    ]


def sweep_row(experiment: Experiment, trials: int) -> Row:
    """A whole search with two workers."""
    settings = {"trials": trials, "workers": WORKERS, "final": "no"}
    values = {**experiment.model_dump(), "sweep": {**experiment.sweep.model_dump(), **settings}}
    searched = Experiment.model_validate(values)
    seconds = seconds_of(lambda: sweep.run(searched))
    aim = AIM * trials / 50
    return Row(f"{trials} trials, {WORKERS} workers, pruned", seconds, "s", f"{aim:.0f} s", aim / seconds, reach=1.0)


def trial_rows(taken: Mapping[tuple[int, int], float], plain: PlainTrial, options: argparse.Namespace) -> list[Row]:
    """Fixed trials with two workers, against a plain script and against one worker."""
    count, both = options.fixed, taken[WORKERS, 1]
    hourly, plainly = 3600 * count / both, 3600 / plain.seconds(options.epochs)
    name = f"{count} trials of {options.epochs} epochs, {WORKERS} workers of 1 thread"
    return [
        Row(f"trials of {options.epochs} epochs, {WORKERS} workers", hourly, "an hour",
            f"a plain script (extrapolated from {plain.measured} batches)", hourly / plainly, reach=50.0),
        Row("the same, a plain script", plainly, "an hour (extrapolated)"),
        Row(name, both, "s", "1 worker of 1 thread", taken[1, 1] / both, reach=1.7),
        Row(name, both, "s", f"1 worker of {WORKERS} threads", taken[1, WORKERS] / both),
    ]  # fmt: skip


def bookkeeping_rows(noted: Bookkeeping, trial: float) -> list[Row]:
    """What a trial's notes cost, beside the trial itself."""
    name = f"notes of a trial of {noted.epochs} epochs"
    peer = "the trial itself"
    return [
        Row(f"{name}, Optuna", 1000 * noted.study, "ms", peer, trial / noted.study),
        Row(f"{name}, MLflow", 1000 * noted.tracking, "ms", peer, trial / noted.tracking),
    ]


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--experiment", default="sandbox", help="one that has been extracted (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where it lies (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=50, help="of the whole sweep; 0 leaves it out")
    parser.add_argument("--fixed", type=int, default=8, help="fixed trials (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="of fixed trials (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="clips per step of the plain script, as in the trials")
    parser.add_argument("--batches", type=int, default=6, help="of the plain script, measured (default: %(default)s)")
    parser.add_argument("--scratch", type=Path, help="for a copy of the store (default: the system's)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/sweep.json"), help="where the rows go")
    return parser


if __name__ == "__main__":
    main()
