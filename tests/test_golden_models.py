"""What releases made, in tests/data/golden-models, still loads, predicts and serves; see tools/make_golden_models.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emonet import EmotionPipeline
from experiments.cli import main
from tests.experiments.conftest import COMMAND
from tests.ports import free_port
from tests.servers import wait_until_ready
from tools import make_golden_models

ARCHIVES = sorted(make_golden_models.GOLDEN.glob("*.tar.xz"))
# The result of a sweep names its study's storage by the whole path, which is another one here: see the test of its trials.
STAGES = [(stage, experiment) for stage, experiment in make_golden_models.STAGES if stage != "sweep"]
RELEASES = [path.name.removesuffix(".tar.xz") for path in ARCHIVES]
FLAT = "models:/emonet-voice@candidate"  # the last that was registered
KERNELS = 1e-3  # how far another processor's float32 may be off, in scores from 0 to 4
NARROW = 0.05  # and bf16, which `auto` takes where a processor has it
# As in a process that knows nothing of this repository: the version's own code is all there is of emonet.
OWN_CODE = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = model.predict(pd.DataFrame({"audio": sys.argv[2:]}))
import emonet
print(json.dumps({"code": emonet.__file__, "scores": json.loads(frame.to_json(orient="records"))}))
"""
Say = Callable[..., tuple[Any, str]]


@pytest.fixture(scope="module", params=ARCHIVES, ids=RELEASES)
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release's project, in another folder than it was made in."""
    folder = tmp_path_factory.mktemp("golden") / "project"
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def project(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, to work in."""
    monkeypatch.chdir(unpacked)
    return unpacked


@pytest.fixture
def expected(project: Path) -> dict[str, Any]:
    """What the release said."""
    found: dict[str, Any] = json.loads((project / make_golden_models.EXPECTED).read_text("utf-8"))
    return found


@pytest.fixture
def say(project: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a verb in the project; returns what it prints with `--json`, and what it tells people."""

    def run(*arguments: str) -> tuple[Any, str]:
        code, (out, err) = main([*arguments, "--json"]), capsys.readouterr()
        assert code == 0, err
        return json.loads(out), err

    return run


def close(found: Mapping[str, Any], wanted: Mapping[str, float], tolerance: float) -> bool:
    return {key: found[key] for key in wanted} == pytest.approx(dict(wanted), abs=tolerance)


def predicted(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    assert [one["error"] for one in result["predictions"]] == [None] * len(result["predictions"])
    return {one["audio"]: one["scores"] for one in result["predictions"]}


def test_there_is_a_project_from_before_the_rooms() -> None:
    assert make_golden_models.COMMIT in RELEASES
    assert sum(path.stat().st_size for path in ARCHIVES) < 500_000 * len(ARCHIVES)


def test_the_tool_writes_over_nothing() -> None:
    with pytest.raises(SystemExit, match="never written again"):
        make_golden_models.main(RELEASES[0])


@pytest.mark.parametrize(("stage", "experiment"), STAGES)
def test_a_stage_is_up_to_date(stage: str, experiment: str, project: Path, say: Say) -> None:
    kept = project / "runs" / experiment / f"{stage}.json"
    before = kept.read_bytes()
    found, told = say(stage, "--experiment", f"{experiment}.yaml")
    assert f"{stage}: up to date" in told
    assert kept.read_bytes() == before
    assert known_of(found, json.loads(before)) == json.loads(before)


def known_of(found: Any, before: Any) -> Any:
    """What was found, without the fields that came after a result was written."""
    if isinstance(before, dict):
        return {key: known_of(found[key], value) for key, value in before.items()}
    if isinstance(before, list):
        return [known_of(one, former) for one, former in zip(found, before, strict=True)]
    return found


@pytest.mark.slow
def test_a_sweep_has_all_its_trials(project: Path, say: Say) -> None:
    before = json.loads((project / "runs" / "pooled" / "sweep.json").read_bytes())
    found, told = say("sweep", "--experiment", "pooled.yaml")
    assert "3 of 3 trials finished" in told
    assert "trial 0:" not in told
    for name in ("study", "finished", "pruned", "failed", "best"):
        assert found[name] == before[name]


@pytest.mark.parametrize("experiment", ["pooled", "flat"])
def test_a_store_is_whole(experiment: str, project: Path, say: Say) -> None:
    report, _ = say("store", "verify", f"runs/{experiment}/store.zarr", "--deep")
    info, _ = say("store", "info", f"runs/{experiment}/store.zarr")
    extracted = json.loads((project / "runs" / experiment / "extract.json").read_text("utf-8"))
    assert report["problems"] == []
    for name in ("clips", "failed", "shape", "codec", "kept", "fingerprint", "largest_error", "rms_error"):
        assert report[name] == extracted[name]
    assert info["finished"]


def test_the_registry_lists_every_version(project: Path, expected: dict[str, Any], say: Say) -> None:
    listed, _ = say("registry", "list")
    names = ("name", "version", "aliases", "experiment", "corpus", "figures", "created", "former")
    assert [[one[name] for name in names] for one in listed["versions"]] == [
        [one[name] for name in names] for one in expected["versions"]
    ]
    for one in listed["versions"]:
        assert Path(one["files"]).is_relative_to(project)
        assert Path(one["files"]).is_dir()
    shown, _ = say("registry", "show", "candidate")
    lineage = json.loads((project / "runs" / "flat" / "voice" / "lineage.json").read_text("utf-8"))
    assert known_of(shown["lineage"], lineage) == lineage
    assert lineage["code"]["revision"].startswith(make_golden_models.COMMIT)


def test_a_captioner_writes(project: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    folder = project / "runs" / "pooled" / "captioner"
    model, processor = WhisperForConditionalGeneration.from_pretrained(folder), WhisperProcessor.from_pretrained(folder)
    heard = processor(np.zeros(8000, np.float32), sampling_rate=16_000, return_tensors="pt").input_features
    assert isinstance(processor.decode(model.generate(heard, max_new_tokens=4)[0]), str)


@pytest.mark.numeric
@pytest.mark.parametrize("voice", make_golden_models.VOICES)
def test_a_voice_scores_as_it_did(voice: str, project: Path, expected: dict[str, Any]) -> None:
    pipeline = EmotionPipeline.from_folder(project / voice, precision="float32", device="cpu")
    assert set(expected["scores"][voice]) == set(make_golden_models.HEARD)
    for path, wanted in expected["scores"][voice].items():
        assert set(pipeline.targets) == set(wanted)
        assert close(pipeline(path), wanted, KERNELS)


@pytest.mark.numeric
def test_predict_takes_all_that_was_made(expected: dict[str, Any], say: Say) -> None:
    heard, runs = make_golden_models.HEARD, ("--device", "cpu")
    experts = ("--experts", "runs/pooled/heads", "--encoder", "runs/pooled/captioner")
    for flags, voice in (((), 0), (experts, 0), (("--model", "models:/emonet-voice/2"), 1), (("--model", FLAT), 2)):
        result, _ = say("predict", *heard, *flags, *runs)
        scores = predicted(result)
        for path, wanted in expected["scores"][make_golden_models.VOICES[voice]].items():
            assert close(scores[path], wanted, NARROW)


@pytest.mark.numeric
@pytest.mark.slow
def test_versions_are_compared_as_they_were(expected: dict[str, Any], say: Say) -> None:
    on = ("--on", "runs/pooled/store.zarr", "--resamples", "50", "--no-baselines")
    found, _ = say("compare", "1", "2", "3", *on)
    wanted = expected["comparison"]
    assert (found["forced"], [model["version"] for model in found["models"]]) == (False, [1, 2, 3])
    for name in ("targets", "clips", "speakers"):
        assert found["comparison"][name] == wanted[name]
    for label, metrics in wanted["scores"].items():
        for metric in ("mae", "rmse"):
            scores = found["comparison"]["scores"][label][metric]["mean"]
            assert close(scores, metrics[metric]["mean"], NARROW)


@pytest.mark.numeric
def test_mlflow_loads_a_version_into_the_code_of_now(
    project: Path, expected: dict[str, Any], say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setattr(sys, "path", list(sys.path))  # to which MLflow adds the version's own code
    shown, _ = say("registry", "show", "candidate")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="this version was registered with other code")
        model = mlflow.pyfunc.load_model(shown["version"]["files"], model_config={"allow_paths": str(project)})
    frame = model.predict(pd.DataFrame({"audio": [*make_golden_models.HEARD, "none.wav"]}))
    assert frame["error"].tolist() == [None] * len(make_golden_models.HEARD) + ["no such file"]
    for row, path in enumerate(make_golden_models.HEARD):
        assert close(dict(frame.loc[row]), expected["scores"]["runs/flat/voice"][path], NARROW)


@pytest.mark.slow
@pytest.mark.numeric
def test_a_version_runs_on_its_own_code(project: Path, expected: dict[str, Any], say: Say, tmp_path: Path) -> None:
    import mlflow

    shown, _ = say("registry", "show", "candidate")
    model = shutil.copytree(shown["version"]["files"], tmp_path / "model")
    libraries = str(Path(mlflow.__file__).parent.parent)
    recordings = [str(project / path) for path in make_golden_models.HEARD]
    done = subprocess.run(  # -S: what is installed to be edited is not found; -P: nor what lies in the working folder
        [sys.executable, "-P", "-S", "-W", "ignore", "-c", OWN_CODE, str(model), *recordings],
        check=False, capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": libraries, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["code"]).is_relative_to(model / "code")
    for path, scores in zip(make_golden_models.HEARD, found["scores"], strict=True):
        assert scores["error"] is None
        assert close(scores, expected["scores"]["runs/flat/voice"][path], NARROW)


@pytest.mark.slow
@pytest.mark.numeric
def test_a_version_is_served(project: Path, expected: dict[str, Any]) -> None:
    port = free_port()
    with subprocess.Popen(
        [COMMAND, "serve", "--model", FLAT, "--port", str(port), "--allow-paths", "sounds"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background shells ignore it
    ) as server:
        try:
            wait_until_ready(server)
            body = {"recordings": [{"audio": Path(path).name} for path in make_golden_models.HEARD]}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/score", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                answers = json.loads(response.read())["results"]
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    for path, answer in zip(make_golden_models.HEARD, answers, strict=True):
        assert answer["error"] is None
        assert close(answer["scores"], expected["scores"]["runs/flat/voice"][path], NARROW)
