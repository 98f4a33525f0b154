from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ODD = [
    "manifest:/x/my data/clips.csv",
    "manifest:/x/why?/*.csv",
    "manifest:/x/Gefühle/[a].csv",
    "manifest:/x/$HOME/$$/$(CORPUS)/${id}.csv",
    'manifest:/x/it\'s "mine"/`id` \\ #1; exit 3 & | <.csv',
]

Make = Callable[..., list[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make for real, with another command in the place of emonet: the words that reach it."""
    found = shutil.which("make")
    if found is None:
        pytest.skip("no make")
    program = tmp_path / "emonet"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    # Not as a part of the make that may have started the tests.
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}

    def run(*arguments: str, **environment: str) -> list[str]:
        asked = [found, "--silent", "--old-file", ".venv/.ready", f"RUN={program}", *arguments]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT, env=settings | environment)
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["extract", "EXPERIMENT=ravdess", "CORPUS=ravdess:x"],
            "extract --experiment ravdess --corpus ravdess:x --json",
        ),
        (["corpus", "CORPUS=manifest:m.csv"], "corpus manifest:m.csv --json"),
        (["corpus"], "corpus sandbox --json"),
        (["sweep", "WORKERS=4"], "sweep --experiment sandbox --json --workers 4"),
        (["compare", "ON=emodb:x"], "compare @champion @candidate --on emodb:x --json"),
        (["verify", "EXPERIMENT=a/mine.yaml"], "store verify runs/mine/store.zarr --deep --json"),
        (["dashboard", "EXPERIMENT=mine"], "dashboard --experiment mine --json"),
    ],
)
def test_targets_pass_on_what_is_typed(make: Make, arguments: list[str], command: str) -> None:
    assert make(*arguments, "ARGS=--json") == command.split()


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_reach_the_command_unbroken(make: Make, odd: str) -> None:
    for verb in ("pretrain", "extract", "heads", "sweep"):
        expected = [verb, "--experiment", f"{odd}.yaml", "--corpus", odd]
        assert make(verb, f"CORPUS={odd}", f"EXPERIMENT={odd}.yaml") == expected
    assert make("corpus", f"CORPUS={odd}") == make("corpus", CORPUS=odd) == ["corpus", odd]
    assert make("compare", f"ON={odd}")[-1] == odd
    assert make("dashboard", f"EXPERIMENT={odd}")[-1] == odd


def test_the_store_of_an_experiment_in_an_odd_folder(make: Make) -> None:
    assert make("verify", "EXPERIMENT=/my data/why $x/mine v1.2.yaml")[2] == "runs/mine v1.2/store.zarr"


def test_arguments_are_words_of_the_shell(make: Make) -> None:
    expected = ["serve", "--model", "my model", "--port", "5002"]
    assert make("serve", "ARGS=--model 'my model' --port 5002") == expected
