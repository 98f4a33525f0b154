"""The GPU check: all that emonet does on a GPU, at full size, against what the GPU can: `make gpu-check`.

At most 8 minutes, without a network or a corpus. Each part runs in a process of its own, for as long as it may; one
that fails is told, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_setting import FULL, SMALL, Setting
from benchmarks.rows import Row, publish
from benchmarks.surroundings import whisper_base
from emonet.errors import EmonetError, RequestError
from emonet.runtime import resolve_device
from experiments.core import say

NOTES = (
    "ratio: the share of the limit that is reached. matmul rates: the best of products of the encoder's shapes and of "
    "square ones, in this run; memory rate: bytes read and written by a copy.",
    "A second row stands where the memory's rate allows less than the matmul rate: weights, and in training their "
    "moments, count as read and written once.",
    "extraction: from files to a store on disk, all of it; clips of 2 to 9 s in windows of 30 s.",
    "Experts of the Small size on flattened states. Inputs are on the device, but for those out of the store.",
    "Weights are random, but for those of Whisper base where its folder is at hand.",
)


@dataclass(frozen=True)
class Part:
    """Something to check.

    Args:
        work: the function that does it, `module:function`; only its own process imports that.
        limit: seconds that it may take, start included.
    """

    work: str
    limit: float

    def run(self, setting: Setting) -> list[Row]:
        """Do it."""
        module, function = self.work.split(":")
        call: Callable[[Setting], list[Row]] = getattr(importlib.import_module(module), function)
        return call(setting)


PARTS: dict[str, Part] = {
    "limits": Part("benchmarks.gpu_device:limits", 60),
    "tests": Part("benchmarks.gpu_device:run_tests", 120),
    "extraction, base": Part("benchmarks.gpu_whisper:extract_with_base", 90),
    "extraction, small": Part("benchmarks.gpu_whisper:extract_with_small", 120),
    "experts out of the store": Part("benchmarks.gpu_experts:train_from_store", 90),
    "experts in a bank": Part("benchmarks.gpu_experts:train_in_bank", 90),
    "forward": Part("benchmarks.gpu_experts:forward", 60),
    "captioner": Part("benchmarks.gpu_whisper:train_captioner", 60),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, print the table, write runs/bench/gpu.json.

    Returns:
        0; 1 if a part failed, such as a test; 2 if there is no GPU.
    """
    asked = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line().parse_args(asked)
    try:
        device = resolve_device(options.device)
    except RequestError:
        hint = "python -m benchmarks.gpu_check --device cpu --small"
        print(f"there is no such device here: {options.device}; {hint} tries the check itself", file=sys.stderr)
        return 2
    if options.folder is not None:  # the process of a part
        work_on(options.parts[0], setting_of(options, device, options.folder))
        return 0
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        rows, outcomes = run_parts(options, asked, Path(scratch))
    about = {
        "notes": NOTES,
        "device": str(device),
        "small": options.small,
        "parts": outcomes,
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    publish(rows, options.out, title="what emonet makes of this device", about=about)
    failed = {name: outcome for name, outcome in outcomes.items() if outcome["failed"]}
    for name, outcome in failed.items():
        print(f"failed: {name}: {outcome['failed']}", file=sys.stderr)
    return 1 if failed else 0


def setting_of(options: argparse.Namespace, device: torch.device, folder: Path) -> Setting:
    """What was asked for."""
    base = options.base or (None if options.small else whisper_base())
    return Setting(device, SMALL if options.small else FULL, folder, base, tuple(options.tests))


def work_on(name: str, setting: Setting) -> None:
    """Do one part, and leave its rows, or why there are none, in the folder."""
    found: dict[str, object] = {"rows": [], "failed": ""}
    try:
        found["rows"] = [asdict(row) for row in PARTS[name].run(setting)]
    except EmonetError as error:
        found["failed"] = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 whatever it is, the other parts go on
        found["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
    (setting.folder / f"{name}.json").write_text(json.dumps(found))


def run_parts(
    options: argparse.Namespace, asked: Sequence[str], scratch: Path
) -> tuple[list[Row], dict[str, dict[str, object]]]:
    """All rows; and of each part how long it took and why it failed, if it did."""
    deadline = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    outcomes: dict[str, dict[str, object]] = {}
    for name in options.parts:
        say(name)
        started = time.monotonic()
        seconds = min(PARTS[name].limit, deadline - started)
        found = in_a_process(name, asked, scratch, seconds)
        rows += [Row(**row) for row in found["rows"]]
        outcomes[name] = {"seconds": round(time.monotonic() - started, 1), "failed": found["failed"]}
    return rows, outcomes


def in_a_process(name: str, asked: Sequence[str], folder: Path, seconds: float) -> dict[str, Any]:
    """What a part leaves that gets so many seconds in a process of its own, which then ends with all that it started.

    Args:
        name: of the part.
        asked: the arguments of this process.
        folder: for what parts leave.
        seconds: that it gets.
    """
    if seconds <= 0:
        return {"rows": [], "failed": "no time was left for it"}
    said, left = folder / f"{name}.txt", folder / f"{name}.json"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_check", *asked, "--parts", name, "--folder", str(folder)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"rows": [], "failed": f"it did not end within {seconds:.0f} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if left.is_file():
        found: dict[str, Any] = json.loads(left.read_text())
        return found
    words = said.read_text("utf-8", errors="replace").strip().splitlines()
    return {"rows": [], "failed": f"its process ended with code {code}: {words[-1] if words else 'without a word'}"}


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the check itself")
    parser.add_argument("--minutes", type=float, default=8.0, help="that it may take (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all of them")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="where tests are (default: %(default)s)")
    parser.add_argument("--base", type=Path, help="folder of Whisper base (default: where a checkout may have it)")
    parser.add_argument("--scratch", type=Path, help="for 8 GB of states (default: the system's)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu.json"), help="where the rows go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
