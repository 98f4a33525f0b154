"""What a device gives at best, measured, and whether the tests pass on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Literal
from xml.etree import ElementTree as ET

import torch

from benchmarks.gpu_limits import Limits, timed
from benchmarks.gpu_setting import LIMITS, Setting
from benchmarks.peers import MatmulRate
from benchmarks.rows import Row
from emonet.errors import EmonetError

Arithmetic = Literal["bf16", "TF32", "float32"]
ARITHMETICS: tuple[Arithmetic, ...] = ("bf16", "TF32", "float32")


TEST_SECONDS = 60  # of one test
NOTHING_RAN = 5  # pytest's code where no test was found


def limits(setting: Setting) -> list[Row]:
    """What the device gives at best: products of an encoder's shapes and square ones, and a copy."""
    device, scale, products = setting.device, setting.scale, dict[str, float]()
    for name in ARITHMETICS:
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        with _float32_as("tf32" if name == "TF32" else "ieee"):
            rate = MatmulRate(device, dtype, frames=setting.spec.frames, width=setting.spec.width)
            for _ in range(scale.rounds):
                rate.measure()
            products[name] = rate.best
    source = torch.zeros(scale.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copying = timed(lambda: target.copy_(source), device, 3 * scale.rounds)
    found = Limits(products, 2 * scale.copied / copying)
    (setting.folder / LIMITS).write_text(json.dumps(asdict(found)))
    return found.rows()


@contextmanager
def _float32_as(precision: str) -> Iterator[None]:
    backend = torch.backends.cuda.matmul
    before = backend.fp32_precision
    backend.fp32_precision = precision
    try:
        yield
    finally:
        backend.fp32_precision = before


def run_tests(setting: Setting) -> list[Row]:
    """All tests that need a GPU.

    Raises:
        EmonetError: if one fails, or none is there; with their names.
    """
    report = setting.folder / "tests.xml"
    asked = ["-m", "gpu", "-q", f"--timeout={TEST_SECONDS}", f"--junitxml={report}", "-p", "no:cacheprovider"]
    asked += ["-p", "no:benchmark"]  # where that plugin is installed, it warns beside xdist, and warnings are errors
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked, *setting.tests], capture_output=True, text=True, check=False
    )
    if not report.is_file():
        raise EmonetError("the tests did not start", found=_last(done.stderr or done.stdout))
    cases = list(ET.parse(report).iter("testcase"))
    failed = [one.get("name", "") for one in cases if one.find("failure") is not None or one.find("error") is not None]
    skipped = sum(one.find("skipped") is not None for one in cases)
    passed = len(cases) - len(failed) - skipped
    if done.returncode not in (0, NOTHING_RAN) and not failed:
        raise EmonetError(f"the tests ended with code {done.returncode}", found=_last(done.stderr or done.stdout))
    if failed:
        raise EmonetError(f"{len(failed)} of {len(cases)} gpu tests failed", found=", ".join(failed))
    if not passed and setting.device.type == "cuda":
        raise EmonetError("not one gpu test ran", found=f"{skipped} skipped")
    return [Row("gpu tests passed", passed, "tests"), Row("gpu tests skipped", skipped, "tests")]


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["nothing was said"])[-1]
