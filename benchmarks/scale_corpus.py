"""A corpus of 10^6 rows: opened from its snapshot, the first time from CSV, and anew from CSV as before there were any.

The rows are parts of 64 recordings, with 40 scores, a caption and one of 64,000 speakers each. So the figures include
all parsing, checks, the fingerprint and the snapshot itself; of files only 64 headers and stamps. What a stamp costs of
each separate file is measured by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.rows import Row, publish
from emonet.targets import EMOTIONS

ROWS, QUICK_ROWS = 1_000_000, 20_000
FILES = 64
STAMPED = 20_000  # separate files
STEP = 0.05  # seconds from one part of a recording to the next
OPEN_SECONDS, FIRST_SECONDS, OPEN_GIB = 3.0, 240.0, 1.0  # aims at 10^6 rows

_CHILD = """
import json, sys, time
from pathlib import Path
from emonet.corpora import open_corpus, open_kept
how, spec, folder = sys.argv[1:]
def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
before, began, used = kib("VmRSS"), time.perf_counter(), time.process_time()
corpus = open_kept(spec, folder=Path(folder), least=0) if how == "kept" else open_corpus(spec)
corpus.fingerprint
seconds = time.perf_counter() - began
print(json.dumps({"clips": len(corpus), "fingerprint": corpus.fingerprint, "seconds": seconds,
    "processor": time.process_time() - used, "gib": (kib("VmHWM") - before) / 2**20}))
"""


def measure(out: Path, *, quick: bool) -> list[Row]:
    """Open a corpus in each way, in a process of its own.

    Args:
        out: where recordings, manifest and snapshot are made.
        quick: whether there are few rows; the aims are those of many.
    """
    rows = QUICK_ROWS if quick else ROWS
    spec = f"manifest:{make_manifest(out / 'corpus', rows)}"
    shutil.rmtree(out / "kept", ignore_errors=True)
    first = _opened("kept", spec, out)
    anew = _opened("anew", spec, out)
    kept = min((_opened("kept", spec, out) for _ in range(3)), key=lambda one: float(one["seconds"]))
    if len({(one["fingerprint"], one["clips"]) for one in (first, anew, kept)}) > 1:
        raise AssertionError("the ways open different corpora")
    named = f"{rows:,} rows"
    old = f"CSV parsed and checked anew: {anew['seconds']:.1f} s, {anew['gib']:.2f} GiB"
    return [
        _against(f"{named}: from the snapshot", kept["seconds"], "s", OPEN_SECONDS),
        Row(f"{named}: from the snapshot, processor time", kept["processor"], "s"),
        _against(f"{named}: from the snapshot, memory", kept["gib"], "GiB", OPEN_GIB),
        Row(f"{named}: from the snapshot", kept["seconds"], "s", old, anew["seconds"] / kept["seconds"]),
        _against(f"{named}: first time from CSV, with its snapshot", first["seconds"], "s", FIRST_SECONDS),
        Row(f"{named}: first time from CSV, processor time", first["processor"], "s"),
        Row(f"{named}: first time from CSV, memory", first["gib"], "GiB"),
        Row("the stamp of a separate file", stamp_seconds(out / "files") * 1e6, "µs"),
    ]


def make_manifest(folder: Path, rows: int) -> Path:
    """A manifest of so many parts of a few recordings, and these; as it is if it is already there."""
    path = folder / f"{rows}.csv"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    parts = -(-rows // FILES)
    for number in range(FILES):
        soundfile.write(folder / f"{number}.wav", np.zeros(round((parts * STEP + 1) * 1000), np.int16), 1000)
    random = np.random.default_rng(0)
    splits = ["train"] * 50 + ["validation"] * 7 + ["test"] * 7
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(",".join(["audio,id,speaker,split,language,caption,start,end", *EMOTIONS.ids]) + "\n")
        for row in range(rows):
            part, number = divmod(row, FILES)
            scores = ",".join(map(str, (random.integers(0, 41, len(EMOTIONS)) / 10).tolist()))
            who = f"s{number}-{part % 1000}"
            said = f"Somebody sounds like number {row % 5000}."
            begin = part * STEP
            file.write(f"{number}.wav,c{row},{who},{splits[number]},en,{said},{begin:.2f},{begin + 0.5:.2f},{scores}\n")
    partial.replace(path)
    return path


def stamp_seconds(folder: Path) -> float:
    """How long it takes to see of one of many files that it is as it was (seconds)."""
    from emonet.clips import Sources
    from emonet.corpora import is_true

    folder.mkdir(parents=True, exist_ok=True)
    names = [str(folder / f"{number}.wav") for number in range(STAMPED)]
    for name in names:
        Path(name).touch()
    sources = Sources()
    sources.add_recordings(names)
    began = time.perf_counter()
    if not is_true(sources):
        raise AssertionError("files have changed")
    return (time.perf_counter() - began) / STAMPED


def _against(name: str, figure: float, unit: str, aim: float) -> Row:
    return Row(name, figure, unit, f"at most {aim:.3g} {unit}", aim / figure, 1.0)


def _opened(how: str, spec: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _CHILD, how, spec, str(folder / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."})
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Measure, print, and write `runs/bench/scale-corpus.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows instead of {ROWS:,}")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/scale-corpus"))
    options = parser.parse_args()
    rows = measure(options.out, quick=options.quick)
    publish(rows, options.out.with_suffix(".json"), title="a corpus of many rows", about={"quick": options.quick})


if __name__ == "__main__":
    main()
