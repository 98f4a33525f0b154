"""`emonet pretrain` as several real processes, started by torchrun or by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments.core import Experiment
from tests.experiments.sweep.fakes import wait_for
from tests.experiments.test_stopping_verbs import marked

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.numeric, pytest.mark.timeout(900)]
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


def pretrain(experiment: Experiment, file: Path, *flags: str, launcher: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and standard error of the verb."""
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude={"sweep"})))
    command = [sys.executable, *launcher, "-m", "experiments.cli", "pretrain", "--experiment", str(file), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=file.parent, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    return done.returncode, done.stderr


@pytest.fixture
def small(mini_experiment: Experiment) -> Experiment:
    training = {"window_seconds": 1.0, "epochs": 2, "batch_size": 1, "sample_captions": 0, "hit_clips": 1}
    settings = mini_experiment.model_dump(mode="json", exclude={"sweep"})
    return Experiment.model_validate({**settings, "captioner": training})


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["by itself", "torchrun"])
def test_two_processes_are_one_verb(small: Experiment, tmp_path: Path, launcher: tuple[str, ...]) -> None:
    file = tmp_path / "mini.yaml"
    code, said = pretrain(small, file, "--devices", "2", launcher=launcher)
    assert code == 0, said
    assert said.count("epoch 2 of 2") == said.count("pretrain: done") == 1
    result = json.loads((small.folder / "pretrain.json").read_text())
    assert result["epochs"] == 2
    assert result["registered"]["version"] == 1
    assert not (small.folder / "captioner.training").exists()
    code, said = pretrain(small, file, "--devices", "2", launcher=launcher)
    assert (code, said.count("up to date")) == (0, 1), said
    if launcher:
        code, said = pretrain(small, file, "--devices", "3", launcher=launcher)
        assert code != 0
        assert said.count("error: the number of processes is not the one that was asked for") == 1


def test_a_process_of_torchrun_is_no_team_unless_asked(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two processes, say; the first is not there."""
    told = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    code, said = pretrain(small, tmp_path / "mini.yaml")
    assert (code, said.count("pretrain: done")) == (0, 1), said


def test_two_processes_end_together_and_go_on(small: Experiment, tmp_path: Path) -> None:
    """Signals to the first process and to all, the death of one; each command goes on where the one before was."""
    longer = small.captioner.model_copy(update={"epochs": 10_000})
    file = tmp_path / "mini.yaml"
    settings = small.model_copy(update={"captioner": longer}).model_dump(mode="json", exclude={"sweep"})
    file.write_text(yaml.safe_dump(settings))
    kept = "the last checkpoint is kept, if there is one, and the same command goes on from there"
    ends: list[tuple[Callable[[subprocess.Popen[bytes], Path], None], int, str]] = [
        (lambda first, _: os.kill(first.pid, signal.SIGTERM), 143, f"stopped by SIGTERM; {kept}"),
        (lambda first, _: os.killpg(first.pid, signal.SIGINT), 130, f"stopped by SIGINT; {kept}"),
        (lambda first, log: os.kill(second(first, log), signal.SIGKILL), 1, "process 1 of this training has ended"),
        (lambda first, _: os.kill(first.pid, signal.SIGKILL), -9, ""),
    ]
    for number, (end, expected, told) in enumerate(ends):
        log = tmp_path / f"{number}.log"
        with start(file, log) as first:
            # A second epoch says that steps are being made.
            wait_for(lambda log=log: log.read_text().count(" of 10000: ") > 1, 120)  # type: ignore[misc]
            end(first, log)
            began = time.monotonic()
            assert first.wait(60) == expected, log.read_text()
            assert time.monotonic() - began < 25
        wait_for(lambda log=log: not marked(log), 10)  # type: ignore[misc]
        said = log.read_text()
        assert told in said
        assert said.count("error: ") == (expected == 1)
        assert "Traceback" not in said
        assert said.count("going on from the last checkpoint") == (number > 0)


def start(file: Path, log: Path) -> subprocess.Popen[bytes]:
    """The verb with two processes, in a group of its own as under a shell."""
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "pretrain",
        "--experiment",
        str(file),
        "--captioner.devices",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EMONET_TEST": str(log)}
    with log.open("wb") as said:
        return subprocess.Popen(
            command, env=environment, cwd=file.parent, stderr=said, stdout=subprocess.DEVNULL, start_new_session=True
        )


def second(first: subprocess.Popen[bytes], log: Path) -> int:
    """The process that the first one has started to train beside it."""
    others = [int(name) for name in marked(log) if int(name) != first.pid]
    return next(one for one in others if b"lightningmodules.members" in Path(f"/proc/{one}/cmdline").read_bytes())
