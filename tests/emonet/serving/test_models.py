"""The served model follows its alias, and keeps serving whatever becomes of the registry."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from emonet.errors import RequestError
from emonet.registry import CHAMPION, VOICE, promote, register_voice, resolve, version_of
from emonet.serving import ServerSettings
from emonet.serving.answers import ModelFacts
from emonet.serving.models import ServedModel
from emonet.serving.running import EmotionServer
from emonet.tracking import client, default_uri, start_run

pytestmark = pytest.mark.slow


def register(runs: Path, voice: Path) -> None:
    uri = default_uri(runs)
    with start_run(uri, experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}) as run:
        register_voice(run, voice, ("anger", "fear", "sadness"), {})


@pytest.fixture
def registered(runs: Path, voice: Path, ensemble_voice: Path) -> Path:
    """A registry with two versions, the first of which is the champion."""
    register(runs, voice)
    register(runs, ensemble_voice)
    return runs


def move(runs: Path, version: int) -> None:
    client(default_uri(runs)).set_registered_model_alias(VOICE, CHAMPION, str(version))


def settings(runs: Path, **more: object) -> ServerSettings:
    return ServerSettings(**{"runs": runs, "port": 0, "device": "cpu", "watch": 0.1, **more})


def test_a_model_through_its_life(registered: Path, tmp_path: Path) -> None:
    served = ServedModel(settings(registered))
    first = served.current
    assert (first.version, first.source) == (1, "models:/emonet-voice/1")
    served.check()
    assert (served.current is first, served.problem, served.reloads) == (True, None, 0)

    move(registered, 2)
    served.check()
    assert (served.current.version, served.problem, served.reloads) == (2, None, 1)
    assert served.current.pipeline.members == "3 of each target"

    move(registered, 1)
    experts = Path(resolve("models:/emonet-voice/1", default_uri(registered))) / "data" / "voice" / "experts"
    shutil.move(experts, tmp_path / "experts")
    served.check()  # it cannot be loaded
    assert served.current.version == 2
    assert served.problem is not None
    assert "models:/emonet-voice/2 keeps serving" in served.problem
    shutil.move(tmp_path / "experts", experts)
    served.check()
    assert (served.current.version, served.problem) == (1, None)

    client(default_uri(registered)).delete_registered_model_alias(VOICE, CHAMPION)
    served.check()
    assert served.problem == "no version is @champion any more; models:/emonet-voice/1 keeps serving"
    move(registered, 1)
    shutil.rmtree(served.current.folder)
    served.check()
    assert served.problem == "the files of models:/emonet-voice/1 are gone; it keeps serving from memory"
    database = registered / "mlflow.db"
    shutil.move(database, tmp_path / "mlflow.db")
    served.check()
    assert served.problem is not None
    assert "there is no registry here" in served.problem
    assert served.current.version == 1


def test_models_that_are_not_there(registered: Path, tmp_path: Path, voice: Path) -> None:
    with pytest.raises(RequestError, match="there is no registry here"):
        ServedModel(settings(tmp_path / "elsewhere"))
    with pytest.raises(RequestError, match=r"the registry has no model 'models:/emonet-voice@candidat'"):
        ServedModel(settings(registered, model="models:/emonet-voice@candidat"))
    with pytest.raises(RequestError, match=r"the registry has no model 'models:/emonet-voice/9'"):
        ServedModel(settings(registered, model="models:/emonet-voice/9"))
    pinned = ServedModel(settings(registered, model="models:/emonet-voice/2"))
    move(registered, 1)
    pinned.check()
    assert (pinned.current.source, pinned.problem, pinned.reloads) == ("models:/emonet-voice/2", None, 0)
    assert ModelFacts.of(pinned.current) == ModelFacts(source="models:/emonet-voice/2", version=2)
    of_folder = ServedModel(settings(registered, model=str(voice)))
    assert ModelFacts.of(of_folder.current) == ModelFacts(source="voice")


def test_no_request_is_lost_where_the_champion_moves(registered: Path, make_wav: Callable[..., Path]) -> None:
    content, ended = make_wav().read_bytes(), threading.Event()
    answers: list[tuple[int, int]] = []
    uri = default_uri(registered)

    def ask() -> None:
        while not ended.is_set():
            answer = requests.post(f"{server.address}/v1/score", files={"f": content}, timeout=60)
            answers.append((answer.status_code, answer.json()["model"]["version"]))

    with EmotionServer(settings(registered)) as server:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        promote(version_of(VOICE, 2, uri), uri, registered, expected=1, why="a test")
        deadline = time.monotonic() + 30
        while server.service.model.current.version != 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        ended.set()
        for thread in threads:
            thread.join()
        health = requests.get(f"{server.address}/health", timeout=20).json()
        metrics = requests.get(f"{server.address}/metrics", timeout=20).text
    assert {status for status, _ in answers} == {200}
    versions = [version for _, version in answers]
    assert set(versions) == {1, 2}
    assert versions[-1] == 2
    assert (health["status"], health["model"]["version"]) == ("ok", 2)
    assert "emonet_model_reloads 1.0" in metrics
    assert 'emonet_model_info{source="models:/emonet-voice/2",version="2"} 1.0' in metrics
