"""What a million clips cost, and what several machines bring: `python -m benchmarks.scale`, or `make bench-scale`.

Each part is a module `benchmarks.scale_PART` with `measure(out, quick=...)`. One that fails is told; the others go on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.extract import versions
from benchmarks.rows import Row, publish
from emonet.evaluation import COLOURS, DPI, FAINT, INK
from experiments.core import say

PARTS = ("corpus", "store", "ray", "extraction", "captioner", "objects", "plan")
_SIZE = re.compile(r"(?P<what>.+): (?P<clips>[\d,]+) clips")  # the name of a row whose cost is of so many clips
NOTES = (
    "store: a simulation with tiny states, written by the store's own writer; each act in a process of its own.",
    "extraction: real decoding, encoding and writing with a tiny encoder; start-up is taken out (benchmarks/"
    "scale_extraction.py says how).",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write runs/bench/scale.json.

    Returns:
        1 if a part failed, else 0.
    """
    options = command_line().parse_args(arguments)
    rows, took, failed = measure_parts(options.only or PARTS, options.out.parent / "scale-work", quick=options.quick)
    about = {
        "notes": NOTES,
        "quick": options.quick,
        "seconds": {part: round(seconds, 1) for part, seconds in took.items()},
        "failed": failed,
        "versions": versions(),
        "load average at the end": os.getloadavg(),
    }
    publish(rows, options.out, title="a million clips, several machines", about=about)
    if options.image is not None and (curves := costs(rows)):
        draw(curves, options.image)
        print(f"written: {options.image}")
    for part, why in failed.items():
        print(f"failed: {part}: {why}", file=sys.stderr)
    return 1 if failed else 0


def measure_parts(
    parts: Sequence[str], work: Path, *, quick: bool
) -> tuple[list[Row], dict[str, float], dict[str, str]]:
    """What the parts measure.

    Args:
        parts: by name; one whose module is not there is left out, and told.
        work: a folder for what they write; gone afterwards.
        quick: a minute or so in place of many, with figures that say little.

    Returns:
        Rows, seconds that each part took, and why parts failed.
    """
    rows: list[Row] = []
    took: dict[str, float] = {}
    failed: dict[str, str] = {}
    for part in parts:
        name = f"benchmarks.scale_{part}"
        if importlib.util.find_spec(name) is None:
            say(f"left out: {part}, there is no {name}")
            continue
        say(f"{part} ...")
        shutil.rmtree(work, ignore_errors=True)  # gigabytes, where a run was killed
        work.mkdir(parents=True)
        started = time.perf_counter()
        try:
            rows += importlib.import_module(name).measure(work, quick=quick)
        except Exception as error:  # noqa: BLE001 - whatever it is: the figures of the others are not lost
            traceback.print_exc()
            failed[part] = f"{type(error).__name__}: {error}"
        finally:
            took[part] = time.perf_counter() - started
            shutil.rmtree(work, ignore_errors=True)
    return rows, took, failed


def costs(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """What is measured in ms/clip for several numbers of clips: name -> clips and seconds, ascending."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.unit == "ms/clip" and (named := _SIZE.fullmatch(row.name)):
            clips = int(named["clips"].replace(",", ""))
            found[named["what"]].append((clips, row.figure * clips / 1e3))
    return {name: sorted(points) for name, points in found.items() if len(points) > 1}


def draw(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Cost against clips, log to log, with a line of slope 1 through the last point of each curve."""
    figure = Figure(figsize=(6.4, 4.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        clips, seconds = zip(*points, strict=True)
        axis.loglog(clips, [seconds[-1] * some / clips[-1] for some in clips], ":", color=INK, linewidth=0.8)
        axis.loglog(clips, seconds, "o-", color=colour, markersize=5, linewidth=1.2, label=name)
    axis.set_xlabel("clips", fontsize=8)
    axis.set_ylabel("processor seconds, start-up taken out (dotted: slope 1)", fontsize=8)
    axis.grid(color=FAINT, linewidth=0.5)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be given several times")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/scale.json"), help="(default: %(default)s)")
    parser.add_argument("--image", type=Path, help="draw cost against clips, e.g. docs/images/scale-cost.png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
