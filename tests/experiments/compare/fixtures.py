"""What the tests of comparing share: a small world of models, and the verb on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from experiments.arguments import CompareArguments
from experiments.compare import verb as compare
from experiments.compare.verb import CompareResult
from experiments.compare.work import Compared
from tests.experiments.model_registry import World, make_world, register


def write_wav(path: Path, seconds: float, hertz: float) -> None:
    time = np.arange(round(seconds * 16_000)) / 16_000
    sf.write(path, 0.3 * np.sin(2 * np.pi * hertz * time), 16_000)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), write_wav)


@pytest.fixture(scope="session")
def poor(world: World) -> Path:
    return world.voice(world.folder / "poor", 4.0)


@pytest.fixture(scope="session")
def good(world: World) -> Path:
    return world.voice(world.folder / "good", 1.5)


Compare = Callable[..., CompareResult]
Examine = Callable[..., Compared]


@pytest.fixture
def flags_of(world: World, runs: Path) -> Callable[..., CompareArguments]:
    def arguments(*models: object, on: object = None, **flags: object) -> CompareArguments:
        defaults = {"resamples": 20, "baselines": False, "runs": runs, "on": str(on or world.store)}
        return CompareArguments(models=tuple(map(str, models)), **{**defaults, **flags})

    return arguments


@pytest.fixture
def comparing(flags_of: Callable[..., CompareArguments]) -> Compare:
    """The whole verb: figures, page, MLflow."""
    return lambda *models, **flags: compare.run(flags_of(*models, **flags))


@pytest.fixture
def examining(flags_of: Callable[..., CompareArguments]) -> Examine:
    """The figures alone."""
    return lambda *models, **flags: compare.examine(flags_of(*models, **flags))[0]


@pytest.fixture(scope="session")
def two_versions(good: Path, poor: Path, empty_tracking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a registry with a poor champion and a good candidate; not to be changed, nor its files."""
    runs = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_tracking, runs / "mlflow.db")
    assert [register(poor, runs), register(good, runs)] == [1, 2]
    return runs / "mlflow.db"


@pytest.fixture
def registered(two_versions: Path, runs: Path) -> Path:
    shutil.copy(two_versions, runs / "mlflow.db")
    return runs
