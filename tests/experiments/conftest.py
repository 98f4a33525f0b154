"""An experiment whose extraction and heads take a second or two."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.core import Experiment
from tests.experiments.compare.fixtures import (
    comparing,
    examining,
    flags_of,
    good,
    poor,
    registered,
    two_versions,
    world,
)
from tests.tiny import write_encoder

__all__ = ["comparing", "examining", "flags_of", "good", "poor", "registered", "two_versions", "world"]  # fixtures
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "validation", **dict.fromkeys("efghi", "test")}
CONFIG = {
    "heads": {"inputs": ["flatten", "statistics", "attention"], "epochs": 4, "batch_size": 8},
    "evaluation": {"resamples": 50},
}


SHADOWS = (
    "queue",
    "socket",
    "string",
    "emonet",
    "experiments",
    "cache",
    "mlflow",
    "uvicorn",
    "optuna",
    "torch",
    "yaml",
)
COMMAND = str(Path(sys.executable).parent / "emonet")


@pytest.fixture
def somebodys_project(tmp_path: Path) -> Path:
    """A folder to work in, whose modules have the names of those that verbs and servers import."""
    folder = tmp_path / "somebodys project"
    for name in SHADOWS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('my own {name}')\n")
    return folder


@pytest.fixture
def mini_experiment(tmp_path: Path, runs: Path, make_wav: Callable[..., Path]) -> Experiment:
    """Nine speakers with four tones each, one of them broken; anger rises with the pitch, fear lacks scores."""
    rows = []
    for number, (speaker, split) in enumerate(SPLITS.items()):
        for take in range(4):
            path = make_wav(f"{speaker}{take}.wav", seconds=0.3 + 0.1 * take, hertz=150 + 60 * take + number)
            fear = float(number % 5) if take % 2 else None
            awe = 1.0 if split == "test" else None  # rated where no expert can learn it
            row = {"audio": str(path), "speaker": speaker, "split": split, "anger": take, "fear": fear, "awe": awe}
            rows.append({key: value for key, value in row.items() if value is not None})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = write_encoder(tmp_path / "encoder")
    extraction = {"captioner": str(encoder), "batch_size": 8, "shard_clips": 16}
    return Experiment.model_validate(
        {"name": "mini", "corpus": f"manifest:{manifest}", "runs": runs, "extraction": extraction, **CONFIG}
    )
