from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sweep import AIM, bookkeeping_rows, borrowed, command_line, fixed_trials, trial_rows
from benchmarks.sweep_peer import PlainTrial, plain_trial
from benchmarks.sweep_trials import Bookkeeping, bookkeeping
from cache.store import ExtractionRecord
from emonet.clips import Clip, Corpus, Split
from emonet.errors import EmonetError
from experiments.core import Experiment, load, merged


def test_a_plain_trial_is_extrapolated_from_its_batches() -> None:
    plain = PlainTrial(step=0.5, judged=0.25, steps=10, batches=4, measured=3)
    assert plain.seconds(2) == pytest.approx(2 * (5.0 + 1.0))
    options = argparse.Namespace(fixed=8, epochs=2)
    hourly, plainly, *workers = trial_rows({(2, 1): 0.4, (1, 1): 0.72, (1, 2): 0.5}, plain, options)
    assert hourly.figure == pytest.approx(3600 * 8 / 0.4)
    assert plainly.figure == pytest.approx(3600 / 12)
    assert hourly.ratio == pytest.approx(8 * 12 / 0.4)
    assert "extrapolated from 3 batches" in hourly.peer
    assert [(row.peer, row.ratio, row.verdict) for row in workers] == [
        ("1 worker of 1 thread", pytest.approx(1.8), "met"),
        ("1 worker of 2 threads", pytest.approx(1.25), ""),
    ]
    optuna, mlflow = bookkeeping_rows(Bookkeeping(0.05, 0.025, 20), 10.0)
    assert (optuna.figure, optuna.ratio, mlflow.figure, mlflow.ratio) == (50.0, 200.0, 25.0, 400.0)


def test_fixed_trials_are_valid_and_none_stops_early() -> None:
    experiment = load("sandbox")
    settings = [merged(experiment, params).heads for params in fixed_trials(12, 5, 64)]
    assert len({one.learning_rate for one in settings}) == 12
    assert {(one.epochs, one.patience, one.features, one.rank) for one in settings} == {(5, 5, "principal", "all")}
    assert max(one.dropout[1] for one in settings) < 0.5


def test_an_experiment_must_have_been_extracted(tmp_path: Path) -> None:
    with pytest.raises(EmonetError, match=r"(?s)no finished store.*make pretrain extract EXPERIMENT=sandbox"):
        borrowed("sandbox", tmp_path, tmp_path / "scratch")


def test_the_default_is_what_was_asked_for() -> None:
    options = command_line().parse_args([])
    assert (options.trials, AIM) == (50, 600.0)
    assert options.out == Path("runs/bench/sweep.json")


def test_a_plain_trial_is_measured(fill_store: Callable[..., str], tmp_path: Path) -> None:
    splits: list[Split] = ["train"] * 10 + ["validation"] * 4
    clips = tuple(
        Clip(f"c/{row}", b"x", split, split, scores={"anger": row % 5, "fear": 1.0}) for row, split in enumerate(splits)
    )
    record = ExtractionRecord(
        corpus="made", corpus_fingerprint="f", clips=len(clips), encoder="none", encoder_digest="d",
        window_seconds=0.5, frames=25, width=4, mels=80, precision="float32", batch_size=1, shard_clips=8,
    )  # fmt: skip
    states = np.random.default_rng(0).normal(0, 1, record.shape).astype(np.float16)
    fill_store(tmp_path / "s.zarr", record, Corpus("made", clips), states)
    plain = plain_trial(tmp_path / "s.zarr", 4, 1)
    assert (plain.steps, plain.batches, plain.measured) == (3, 1, 1)
    assert plain.seconds(1) > 0


@pytest.mark.slow
def test_notes_are_measured(runs: Path) -> None:
    noted = bookkeeping(Experiment(runs=runs), trials=2, epochs=2)
    assert 0 < noted.study < 10
    assert 0 < noted.tracking < 10
