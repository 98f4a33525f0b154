"""Training and running full-size experts against the usual way: `python -m benchmarks.heads`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.heads_accuracy import Accuracy, accuracy
from benchmarks.heads_costs import cost_figure
from benchmarks.heads_forward import BATCHES, Forward, run_forward
from benchmarks.heads_store import Stores
from benchmarks.heads_training import BATCH, Coordinates, Epoch, Memory, alone, in_bank, in_coordinates, peak
from benchmarks.rows import Row, publish
from benchmarks.states import default_corpus
from emonet.configs import HIDDEN
from emonet.corpora import open_corpus
from emonet.experts import InputSpec
from emonet.targets import EMOTIONS
from emonet.training import GIB, Precision, plan_training
from experiments.core import console

EPOCHS = 20
FULL = InputSpec("flatten", "all", 1500, 768)
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed", "bf16")
ONE_BY_ONE, COORDINATES = "one by one", "principal coordinates"
NOTES = (
    "One by one: a float32 module and torch.optim.AdamW as they come, batches of 64 read from the store; one expert is "
    "measured, 40 take 40 times as long.",
    "In a bank: a group of 8 is measured; 40 take five times its steps, and each group of the plan reads the store.",
    "An epoch over other numbers of clips: reading grows with them, the time of a step stays.",
    "Principal coordinates: nothing is extrapolated; reading, products, decomposition and all epochs of all experts.",
    "Before each, the store's files are dropped from this system's memory; each runs in a process of its own.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/heads.json."""
    options = command_line().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        forward = alone_in_a_process(run_forward, scratch / "published", options.experts, options.rounds)
        with console.progress("states") as progress:
            corpus = open_corpus(options.corpus)
            stores = Stores(corpus, max(options.sizes), options.out.parent, scratch / "stores", progress=progress)
        rows = forward_rows(forward, options.experts)
        training, costs = measure_training(stores, options)
        rows += training
        if options.experiment.is_dir():
            rows += accuracy_rows(alone_in_a_process(accuracy, options.experiment))
    about = {
        "notes": NOTES,
        "states": stores.about,
        "experts": options.experts,
        "costs in seconds": costs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load average at the end": os.getloadavg(),
    }
    publish(rows, options.out, title=f"{options.experts} Small experts at full size", about=about)
    if options.image:
        title = f"{EPOCHS} epochs of {options.experts} Small experts, two cores"
        cost_figure(costs, options.image, title=title, ours=COORDINATES)
        print(f"written: {options.image}")


def alone_in_a_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Call `work` in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure_training(stores: Stores, options: argparse.Namespace) -> tuple[list[Row], dict[str, dict[int, float]]]:
    """Rows of an epoch, of a whole training, of lifting and of memory; and what a training costs by clips."""
    path, experts = stores.of(options.clips), options.experts
    single: Epoch = alone_in_a_process(alone, path)
    banks: dict[str, Epoch] = {p: alone_in_a_process(in_bank, path, p, options.group) for p in PRECISIONS}
    principal: dict[int, Coordinates] = {
        clips: alone_in_a_process(in_coordinates, stores.of(clips), EPOCHS, experts) for clips in options.sizes
    }
    memory: Memory = alone_in_a_process(peak, path, "float32", options.group)
    costs: dict[str, dict[int, float]] = {ONE_BY_ONE: {c: EPOCHS * experts * single.seconds(c) for c in options.sizes}}
    for precision, epoch in banks.items():
        costs[f"bank, {precision}"] = {c: EPOCHS * _banked(epoch, precision, c, experts)[0] for c in options.sizes}
    costs[COORDINATES] = {clips: one.basis + one.epochs for clips, one in principal.items()}
    rows = epoch_rows(single, banks, options.clips, experts)
    rows += cost_rows(costs, principal[options.clips], options.clips)
    error = abs(memory.peak / memory.planned - 1)
    rows.append(Row("peak memory", memory.peak / GIB, "GiB", "the plan's prediction", 1 - error, reach=0.85))
    return rows, costs


def _banked(epoch: Epoch, precision: str, clips: int, experts: int) -> tuple[float, int]:
    """Seconds of an epoch of all experts in banks, and how often the store is read."""
    plan = plan_training(
        FULL,
        HIDDEN["small"],
        experts,
        batch_size=BATCH,
        clips=clips,
        states_bytes=0,
        memory_bytes=round(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        precision=precision,  # type: ignore[arg-type]
    )
    steps = -(-clips // BATCH) * epoch.step * experts / epoch.experts
    return plan.passes * epoch.reading * clips / epoch.clips + steps, plan.passes


def forward_rows(forward: Forward, experts: int) -> list[Row]:
    """One row for each bank and batch, and the error of each bank."""
    rows = []
    for (name, clips), seconds in forward.seconds.items():
        if name == ONE_BY_ONE:
            rows.append(Row(f"forward, {clips} clips, {name}", 1000 * seconds, "ms"))
            continue
        ratio = forward.seconds[ONE_BY_ONE, clips] / seconds
        reach = 3.0 if clips == max(BATCHES) else 1.5
        peer = f"{experts} float32 modules {ONE_BY_ONE}"
        rows.append(Row(f"forward, {clips} clips, bank in {name}", 1000 * seconds, "ms", peer, ratio, reach))
    for name, error in forward.errors.items():
        rows.append(Row(f"largest error of {name}", 100 * error, "% of the scores' deviation"))
    for name, size in forward.bytes.items():
        rows.append(Row(f"memory of weights, {name}", size / 1e9, "GB", ONE_BY_ONE, forward.bytes[ONE_BY_ONE] / size))
    return rows


def epoch_rows(single: Epoch, banks: Mapping[str, Epoch], clips: int, experts: int) -> list[Row]:
    """An epoch of all experts in each precision, and how little of the store is read."""
    separate = experts * single.seconds(clips)
    rows = [Row(f"an epoch, {clips} clips, {experts} runs", separate, "s (extrapolated)")]
    for precision, epoch in banks.items():
        seconds, passes = _banked(epoch, precision, clips, experts)
        name = f"an epoch, {clips} clips, bank in {precision}"
        rows.append(Row(name, seconds, "s (extrapolated)", f"{experts} separate runs", separate / seconds, reach=3.0))
        rows.append(Row(f"{name}: bytes read", passes, "times the store", f"{experts} separate runs", experts / passes))
    return rows


def cost_rows(costs: Mapping[str, Mapping[int, float]], principal: Coordinates, clips: int) -> list[Row]:
    """A whole training in coordinates against the other ways, and lifting."""
    seconds = costs[COORDINATES][clips]
    name = f"{EPOCHS} epochs, {clips} clips, {COORDINATES}"
    rows = []
    for way, points in costs.items():
        if way != COORDINATES:
            reach = 500.0 if way == ONE_BY_ONE else 100.0
            rows.append(Row(name, seconds, "s", f"{way} (extrapolated)", points[clips] / seconds, reach))
    rows += [
        Row("of it: reading, products, decomposition", principal.basis, "s"),
        Row("of it: training", principal.epochs, "s"),
        Row("lifting all experts, besides", principal.lifting, "s"),
        Row("lifted experts", principal.difference, "of the deviation", "in coordinates, at most 1e-3",
            1e-3 / max(principal.difference, 1e-9), reach=1.0),
    ]  # fmt: skip
    return rows


def accuracy_rows(found: Accuracy) -> list[Row]:
    """Test figures on coordinates against those on states."""
    about = f"flatten on states, {found.clips} test clips"
    return [
        Row("test MAE, principal", found.principal_mae, "", about, found.states_mae / found.principal_mae, reach=0.98),
        Row("test Pearson, principal", found.principal_pearson, "", f"{about}, +0.02",
            (found.principal_pearson + 0.02) / found.states_pearson, reach=1.0),
        Row("test MAE, states", found.states_mae, ""),
        Row("test Pearson, states", found.states_pearson, ""),
    ]  # fmt: skip


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=__doc__)
    parser.add_argument("--corpus", default=default_corpus(), help="real speech (default: %(default)s)")
    parser.add_argument("--experts", type=int, default=len(EMOTIONS), help="of the Small size (default: %(default)s)")
    parser.add_argument("--group", type=int, default=8, help="experts in the measured bank (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=1000, help="of the rows; one of --sizes (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000, 2000], help="of the picture")
    parser.add_argument("--rounds", type=int, default=5, help="of the forward passes (default: %(default)s)")
    parser.add_argument(
        "--experiment", type=Path, default=Path("runs/ravdess"), help="whose store and captioner tell the accuracy"
    )
    parser.add_argument("--scratch", type=Path, help="for 12 GB of experts and 7 GB of stores (default: the system's)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/heads.json"), help="where the rows go")
    parser.add_argument("--image", type=Path, help="PNG: what a training costs against the number of clips")
    return parser


if __name__ == "__main__":
    main()
