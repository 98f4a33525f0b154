"""What all tests share: the folder of real corpora, and recordings made on the spot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for a network
ROOT = Path(__file__).parent.parent
CORPORA = ROOT.parent / "shared" / "corpora"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Real speech beside the checkout; a test that needs it skips where it is absent."""
    if not CORPORA.is_dir():
        pytest.skip(f"no corpora at {CORPORA}")
    return CORPORA


@pytest.fixture
def make_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording: a tone with a little noise."""

    def make(name: str = "a.wav", *, seconds: float = 1.0, hertz: float = 220.0, rate: int = 16_000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(round(hertz)).normal(0, 0.01, len(time))
        sf.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) + noise, rate)
        return path

    return make


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database, made once: its migrations take seconds."""
    from mlflow import MlflowClient

    from emonet.tracking import default_uri

    runs = tmp_path_factory.mktemp("tracking")
    MlflowClient(tracking_uri=default_uri(runs)).search_experiments(max_results=1)
    return runs / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, empty_tracking: Path) -> Path:
    """A `runs` folder of its own, its tracking database ready."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_tracking, folder / "mlflow.db")
    return folder
