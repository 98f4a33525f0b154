"""A package of other people brings a corpus, an encoder and a scorer: installed in an environment of its own, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tests" / "plugin"
GUIDE = ROOT / "docs" / "plugins.md"
FILES = ("pyproject.toml", "emonet_toy/corpus.py", "emonet_toy/encoder.py", "emonet_toy/scorer.py")
EXPERIMENT = """
corpus: birds:birds
extraction: {encoder: "bands:8", workers: 1}
heads: {inputs: [statistics], epochs: 2, batch_size: 8}
evaluation: {resamples: 20}
"""

SERVED = """
import sys
from pathlib import Path
import mlflow
(model,) = Path("runs/mlartifacts").rglob("MLmodel")
print(mlflow.pyfunc.load_model(str(model.parent)).predict({"audio": [sys.argv[1]]}).iloc[0].to_json())
"""


class Environment:
    """A fresh Python that sees what this one has installed, and packages of its own.

    Args:
        folder: where to make it; commands run in the folder `work` beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
        seen = [str(ROOT), *site.getsitepackages(), *(path for path in sys.path if path.endswith("site-packages"))]
        (own / "running.pth").write_text("\n".join(dict.fromkeys(seen)))

    def pip(self, *words: str | Path) -> None:
        """Install or remove packages, without an index."""
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "--quiet",
            "--disable-pip-version-check",
            *words,
        ]
        subprocess.run(command, check=True, capture_output=True)

    def emonet(self, *words: str, code: int = 0) -> str:
        """What the command line writes: on stdout if there is something, else on stderr."""
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [self.python, "-m", "experiments.cli", *words],
            check=False, cwd=self.work, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    def json(self, *words: str, code: int = 0) -> Any:
        """The result of a verb."""
        return json.loads(self.emonet(*words, "--json", code=code))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the package, and with recordings of five birds, one of them too short for its scorer."""
    folder = tmp_path_factory.mktemp("fresh")
    fresh = Environment(folder)
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__"))
    fresh.pip("install", "--no-index", "--no-deps", "--no-build-isolation", folder / "package")
    (fresh.work / "birds").mkdir()
    rng, time = np.random.default_rng(0), np.arange(12_800) / 16_000
    for number, bird in enumerate(("auk", "crow", "dove", "owl", "wren")):
        for score in range(5):
            tone = (0.02 + 0.08 * score) * np.sin(2 * np.pi * (200 + 20 * number) * time)
            samples = tone + rng.normal(0, 0.003, len(time))
            sf.write(fresh.work / "birds" / f"{bird}_anger_{score}_1.wav", samples, 16_000)
    sf.write(fresh.work / "birds" / "wren_anger_1_2.wav", rng.normal(0, 0.01, 3000), 16_000)
    (fresh.work / "birds.yaml").write_text(EXPERIMENT)
    return fresh


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_package_brings_a_corpus_an_encoder_and_a_scorer(fresh: Environment) -> None:
    loud, short = "birds/wren_anger_4_1.wav", "birds/wren_anger_1_2.wav"
    report = fresh.json("corpus", "birds:birds", "--listen", "0")
    assert (report["clips"], report["speakers"]) == (26, 5)

    store = fresh.json("extract", "--experiment", "birds.yaml")
    assert store["shape"] == [26, 25, 8]
    info = fresh.emonet("store", "info", "runs/birds/store.zarr")
    assert re.search(r"encoder +plugin:bands:8, float32", info)
    assert "25 states of 40 ms" in info
    heads = fresh.json("heads", "--experiment", "birds.yaml")
    assert heads["rated"] == ["anger"]

    by_version, by_parts = (
        fresh.json("predict", loud, *words)["predictions"][0]["scores"]
        for words in ((), ("--experts", "runs/birds/heads", "--encoder", "plugin:bands:8"))
    )
    assert by_version == by_parts
    heard, refused = fresh.json("predict", loud, short, "--scorer", "loudness:12", code=1)["predictions"]
    assert heard["scores"]["anger"] == pytest.approx(12 * 0.34 / 2**0.5, abs=0.05)
    assert (heard["seconds"], refused["error"]) == (None, "shorter than 0.3 s")

    words = ("compare", "scorer:loudness:7", "runs/birds/voice", "--on", "birds:birds", "--resamples", "20")
    found = fresh.json(*words)
    comparison = found["comparison"]
    assert list(comparison["scores"])[:3] == ["scorer:loudness:7", "birds/voice", "median"]
    assert comparison["clips"] == 5
    assert comparison["scores"]["scorer:loudness:7"]["mae"]["mean"]["low"] is not None
    refusals = (
        "left out for all models, since scorer:loudness:7 refuses them: 1 of 6 clips; the first is birds/wren_anger_1_2"
    )
    assert any(warning.startswith(refusals) for warning in found["warnings"])

    message = fresh.emonet("heads", "--experiment", "birds.yaml", "--extraction.encoder", "bands:16", code=2)
    assert "--extraction.encoder bands:8, as the store" in message
    assert "only a registered version can be promoted" in fresh.emonet(*words, "--promote", code=2)

    served = subprocess.run(
        [fresh.python, "-c", SERVED, loud], cwd=fresh.work, capture_output=True, text=True, check=True
    )
    assert json.loads(served.stdout.splitlines()[-1])["anger"] == pytest.approx(by_version["anger"], abs=1e-5)

    fresh.pip("uninstall", "--yes", "emonet-toy")
    for words, needed in {
        ("predict", loud): "pip install emonet-toy==0.1",
        ("corpus", "birds:birds"): "there is no corpus of the kind 'birds'",
    }.items():
        assert needed in fresh.emonet(*words, code=2)
    requirements = next((fresh.work / "runs" / "mlartifacts").rglob("requirements.txt")).read_text()
    assert "emonet-toy==0.1" in requirements.splitlines()


@pytest.mark.parametrize("name", FILES)
def test_the_guide_shows_the_package_that_is_tested(name: str) -> None:
    shown = dict(re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```\n", GUIDE.read_text("utf-8"), re.DOTALL))
    assert shown[name] == (PACKAGE / name).read_text("utf-8"), "docs/plugins.md holds other code than tests/plugin"
