"""A registered version is all that a machine needs: it is installed by its own requirements, with no checkout there.

Takes minutes and 2 GB of disk: `make test-install`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emonet import EmotionPipeline
from emonet.checkpoints import Calibration
from emonet.checkpoints.calibration import Curve
from emonet.registry import register_voice, resolve
from emonet.tracking import default_uri, start_run

PROGRAM = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = model.predict(pd.DataFrame({"audio": sys.argv[2:]}))
import emonet
scores = json.loads(frame.to_json(orient="records"))
print(json.dumps({"code": emonet.__file__, "modules": sorted(sys.modules), "scores": scores}))
"""


def without_ours() -> dict[str, str]:
    """This environment without what leads to this checkout or to a registry; where pip finds packages stays."""
    ours = ("PYTHON", "PYTEST", "MLFLOW_", "EMONET_", "VIRTUAL_ENV", "COV_")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


@pytest.mark.install
@pytest.mark.timeout(1800)
def test_a_version_runs_where_nothing_of_this_repository_is(
    voice: Path, runs: Path, make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    calibrated = tmp_path / "calibrated"
    shutil.copytree(voice, calibrated)
    curve = Curve(predicted=(-9, 3), calibrated=(-8, 4), clips=60)
    Calibration(kind="affine", curves={"anger": curve}).write(calibrated / "experts")
    here = EmotionPipeline.from_folder(calibrated)
    with start_run(
        default_uri(runs), experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        register_voice(run, calibrated, here.targets, {})
    there, model = tmp_path / "there", tmp_path / "there" / "model"
    shutil.copytree(resolve("models:/emonet-voice@champion", default_uri(runs)), model)
    (there / "empty").mkdir()
    recording = make_wav("there/a.wav")
    text = base64.b64encode(recording.read_bytes()).decode()

    venv, environment = there / "venv", without_ours()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, env=environment)
    python = str(venv / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(model / "requirements.txt")]
    subprocess.run(install, check=True, env=environment, cwd=there / "empty")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PROGRAM, str(model), str(recording), text, "missing.wav"],
        check=False, env=environment, cwd=there / "empty", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["code"]).is_relative_to(model)
    assert not {"cache", "experiments", "datamodules", "lightningmodules", "torchaudio"} & set(found["modules"])
    by_path, by_text, missing = found["scores"]
    assert by_text == by_path
    assert by_path.pop("error") is None
    assert "hum or a tone" in by_path.pop("notices")
    assert by_path == pytest.approx(here(recording), abs=1e-6)
    assert missing == dict.fromkeys(here.targets) | {"notices": None, "error": "no such file"}
