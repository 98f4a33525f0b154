from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["extract", "EXPERIMENT=ravdess", "CORPUS=ravdess:x"],
            "extract --experiment ravdess --corpus ravdess:x --json",
        ),
        (["corpus", "CORPUS=manifest:m.csv"], "corpus manifest:m.csv --json"),
        (["corpus"], "corpus sandbox --json"),
        (["sweep", "WORKERS=4"], "sweep --experiment sandbox  --json --workers 4"),
        (["compare", "ON=emodb:x"], "compare @champion @candidate --on emodb:x --json"),
        (["verify", "EXPERIMENT=a/mine.yaml"], "store verify runs/mine/store.zarr --deep --json"),
    ],
)
def test_targets_pass_on_what_is_typed(arguments: list[str], command: str) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make")
    asked = [make, "--dry-run", "--old-file", ".venv/.ready", *arguments, "ARGS=--json"]
    # Not as a part of the make that may have started the tests.
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT, env=settings)
    assert done.stdout.split("\n")[-2].strip() == f".venv/bin/emonet {command}"
