from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.sweep.retry import UnansweredError
from tests.experiments.sweep.test_studies import on, opened


@contextmanager
def full_disk(bytes_left: int, *files: Path) -> Iterator[None]:
    """No file of this process grows beyond the largest of some files and a few bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in files)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("bytes_left", [0, 100])
def test_a_full_disk_loses_no_trial(bytes_left: int, tmp_path: Path) -> None:
    experiment = on(tmp_path, pruner="none", patience=0.3, heartbeat=60)
    study = opened(experiment)
    for error in (1.0, 0.9):
        attempt = study.attempt()
        assert attempt is not None
        attempt.complete({"mae": error}, {})
    attempt = study.attempt()
    assert attempt is not None
    files = tmp_path.glob("runs/optuna.db*")
    message = r"(?s)storage has not answered.*every trial that was finished"
    with full_disk(bytes_left, *files), pytest.raises(UnansweredError, match=message):
        attempt.complete({"mae": 0.5}, {"noted": "x" * 100_000})
    assert [record.state for record in opened(experiment).records()][:2] == ["complete", "complete"]
    assert attempt.complete({"mae": 0.5}, {}), "there is room again"
    assert [record.values["mae"] for record in opened(experiment).records()] == [1.0, 0.9, 0.5]
