"""Real processes of the verbs, ended by signals: the MLflow run is closed, one line says how to go on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from experiments import extract
from experiments.core import Experiment
from tests.experiments.sweep.fakes import wait_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# Imports once, then forks a process for each line on its stdin, which runs the command line and says how it ended.
SERVER = """
import json, os, sys
import emonet.tracking.runs, experiments.extract, experiments.heads.verb, experiments.pretrain, lightningmodules.captioner.training
import lightningmodules.experts.training, cache.extraction.ray, emonet.encoders.whisper, emonet.baselines.fitting
import sklearn.linear_model
from experiments.cli import main

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT), 2)
        os.environ["EMONET_TEST"] = order["log"]
        os._exit(main(order["arguments"]))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Verbs:
    server: subprocess.Popen[str]
    experiment: Experiment
    file: Path

    def start(self, log: Path, verb: str, *flags: str) -> int:
        """Start a verb; returns its process once its run is open."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        before = len(self.runs())
        arguments = [verb, "--experiment", str(self.file), "--force", *flags]
        self.server.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
        self.server.stdin.flush()
        process = int(self.server.stdout.readline())
        wait_for(lambda: len(self.runs()) > before)
        return process

    def ended(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def runs(self) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(self.experiment.runs / "mlflow.db")) as database:
            return database.execute("select name, status from runs order by start_time").fetchall()


@pytest.fixture
def verbs(mini_experiment: Experiment, tmp_path: Path) -> Iterator[Verbs]:
    training = {"window_seconds": 1.0, "epochs": 10_000, "batch_size": 2, "sample_captions": 0}
    heads = {"epochs": 1_000_000, "patience": 1_000_000, "inputs": ["statistics"]}
    settings = {**mini_experiment.model_dump(mode="json", exclude={"sweep"}), "captioner": training}
    experiment = Experiment.model_validate({**settings, "heads": settings["heads"] | heads})
    file = tmp_path / "mini.yaml"
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude={"sweep"})))
    extract.run(experiment)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
    ) as server:
        yield Verbs(server, experiment, file)
        server.kill()


def test_every_verb_ends_its_run(verbs: Verbs, tmp_path: Path) -> None:
    """One test for all: what they need is imported and extracted once."""
    kept = {
        "extract": "whole shards are kept, and the same command goes on from there",
        "pretrain": "the last checkpoint is kept, if there is one, and the same command goes on from there",
        "heads": "what an earlier run made is kept (and finished folds of --folds), and the same command starts the "
        "training again",
    }
    one, group = os.kill, os.killpg
    cases: list[tuple[str, Callable[[int, int], None], tuple[signal.Signals, ...], tuple[str, ...]]] = [
        ("extract", one, (signal.SIGTERM,), ("--batch-size", "1")),
        ("extract", group, (signal.SIGHUP, signal.SIGHUP), ("--devices", "cpu", "cpu", "--batch-size", "1")),
        ("pretrain", one, (signal.SIGTERM, signal.SIGTERM), ()),
        ("heads", group, (signal.SIGHUP,), ()),
        ("heads", one, (signal.SIGINT,), ()),
    ]
    for number, (verb, kill, numbers, flags) in enumerate(cases):
        log = tmp_path / f"{number}.log"
        process = verbs.start(log, verb, *flags)
        for sent in numbers:
            kill(process, sent)
        assert verbs.ended() == 128 + numbers[0], log.read_text()
        assert verbs.runs()[-1] == (verb, "KILLED")
        assert log.read_text().splitlines()[-1] == f"stopped by {numbers[0].name}; {kept[verb]}"
        assert "Traceback" not in log.read_text()
        wait_for(lambda log=log: not marked(log), 10)  # type: ignore[misc]

    killed = verbs.start(tmp_path / "killed.log", "heads")
    os.kill(killed, signal.SIGKILL)
    assert verbs.ended() == -signal.SIGKILL
    assert verbs.runs()[-1] == ("heads", "RUNNING")
    os.kill(verbs.start(tmp_path / "next.log", "heads"), signal.SIGTERM)
    verbs.ended()
    assert [status for _, status in verbs.runs()[-2:]] == ["KILLED", "KILLED"], "the next start closes it"


def marked(log: Path) -> list[str]:
    """Processes that have this log in their environment, as those that the verb started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"EMONET_TEST={log}\0".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:  # has ended meanwhile
            continue
    return found
