from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cache.store import FeatureStore
from emonet.errors import RequestError
from experiments import array, extract
from experiments.cli import main
from experiments.core import Experiment, load


def changed(experiment: Experiment, **changes: object) -> Experiment:
    values = experiment.model_dump()
    extraction = values["extraction"] | changes.pop("extraction", {})  # type: ignore[operator]
    return Experiment.model_validate(values | changes | {"extraction": extraction})


def test_the_script_says_what_slurm_and_emonet_need(
    mini_experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    result = array.run(mini_experiment, 3)
    lines = result.script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {"#SBATCH --job-name=emonet-mini", "#SBATCH --array=0-2", "#SBATCH --requeue"} <= set(lines)
    assert f'#SBATCH --output="{mini_experiment.folder.resolve()}/extract-array-%a.log"' in lines
    assert lines[-2].startswith(f"exec {sys.executable} -P -m experiments.cli extract --experiment ")
    assert lines[-1].split()[:2] == ["--num-shards", "3"]
    assert "not where its time was over: submit this again" in result.script.read_text()  # --requeue does not see to it
    assert subprocess.run(["bash", "-n", str(result.script)]).returncode == 0
    assert load(str(result.settings)) == mini_experiment
    assert set(yaml.safe_load(result.settings.read_text())) == {
        "name", "corpus", "runs", "extraction", "heads", "evaluation",
    }  # fmt: skip
    array.show(result)
    assert re.search(r"3 tasks.*\n +sbatch .*extract-array\.sh", capsys.readouterr().err)
    assert not (mini_experiment.folder / "store.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"force": True}, "--force"),
        ({"extraction": {"engine": "ray"}}, "--engine ray"),
        ({"extraction": {"num_shards": 2}}, "--num-shards"),
    ],
)
def test_what_excludes_a_job_array(mini_experiment: Experiment, changes: dict[str, object], found: str) -> None:
    with pytest.raises(RequestError, match=f"(?s)share one store.*found: +--array 2 with {found}"):
        array.run(changed(mini_experiment, **changes), 2)


def test_the_flag_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["extract", "--experiment", "quick", "--array", "4", "--shard-clips", "16"]) == 0
    assert load("runs/quick/extract-array.yaml").extraction.shard_clips == 16
    assert "4 tasks" in capsys.readouterr().err
    assert main(["extract", "--array", "0"]) == 2


@pytest.mark.slow
def test_tasks_without_slurm_make_the_store_of_one_process(mini_experiment: Experiment) -> None:
    script = array.run(mini_experiment, 2).script
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    refused = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert "submit this with sbatch" in refused.stderr
    for task in "01":
        done = subprocess.run(
            ["bash", str(script)], env={**environment, "SLURM_ARRAY_TASK_ID": task}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    store = FeatureStore.open(mini_experiment.folder / "store.zarr")
    alone = extract.run(changed(mini_experiment, name="alone"))
    assert store.fingerprint == alone.fingerprint
