"""Whole projects over targets of one's own: recordings, a manifest that rates them, the set's file, the experiment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from emonet.captioner import model as captioner
from emonet.captioner.model import Size
from experiments.core import Experiment

SPLITS = {"a": "train", "b": "train", "c": "train", "d": "validation", "e": "test", "f": "test", "g": "test"}


def make_project(
    targets: Sequence[dict[str, object]],
    folder: Path,
    runs: Path,
    make_wav: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Experiment:
    """Seven speakers with four tones each, whose scores rise with the pitch, each on the scale of its target."""
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    monkeypatch.chdir(folder)
    Path("mine.yaml").write_text(yaml.safe_dump(list(targets)))
    rows = []
    for number, (speaker, split) in enumerate(SPLITS.items()):
        for take in range(4):
            path = make_wav(f"{speaker}{take}.wav", seconds=0.4, hertz=150 + 60 * take + number)
            row = {"audio": path.name, "speaker": speaker, "split": split}
            for place, target in enumerate(targets):
                low, high = float(str(target["low"])), float(str(target["high"]))
                row[str(target["id"])] = low + (high - low) * ((take + place * number) % 4) / 3
            rows.append(row)
    Path("m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Experiment.model_validate(
        {
            "name": "own",
            "corpus": "manifest:m.jsonl",
            "targets": "mine.yaml",
            "runs": runs,
            "captioner": {"window_seconds": 1.0, "epochs": 1, "batch_size": 4, "sample_captions": 2},
            "extraction": {"batch_size": 8, "shard_clips": 16},
            "heads": {"inputs": ["statistics"], "epochs": 2, "batch_size": 8},
            "evaluation": {"resamples": 5},
        }
    )
