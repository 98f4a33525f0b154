"""The paths that tell about the server itself."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from emonet.errors import RequestError
from emonet.serving import EmotionServer


def get(server: EmotionServer, path: str) -> requests.Response:
    answer = requests.get(server.address + path, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_first_page_names_the_paths(server: EmotionServer) -> None:
    told = get(server, "/").json()
    assert "/v1/score" in told["paths"]
    assert all(requests.options(server.address + path, timeout=20).status_code != 404 for path in told["paths"])


def test_the_description_is_whole(server: EmotionServer) -> None:
    schema = get(server, "/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/v1/models", "/v1/score", "/v1/caption", "/v1/timeline", "/v1/export", "/health", "/metrics"),
    }
    names = {name.rpartition("/")[2] for name in re.findall(r'"\$ref": ?"([^"]+)"', get(server, "/openapi.json").text)}
    assert names <= set(schema["components"]["schemas"])
    post = schema["paths"]["/v1/score"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
        "application/octet-stream",
    }
    assert {"200", "400", "401", "413", "422", "429"} <= set(post["responses"])


def test_the_page_of_the_description_loads_nothing_from_outside(server: EmotionServer) -> None:
    answer = get(server, "/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|<script|@import", answer.text)
    for path in ("POST /v1/score", "POST /v1/timeline", "WebSocket /v1/stream"):
        assert path in answer.text
    assert "threshold" in answer.text


def test_health(server: EmotionServer) -> None:
    told = get(server, "/health").json()
    assert (told["status"], told["problems"]) == ("ok", [])
    assert set(told["targets"]) == {"anger", "fear", "sadness"}
    assert (told["model"], told["window_seconds"], told["captions"]) == (
        {"source": "voice", "version": None},
        1.0,
        False,
    )


def test_metrics_of_paths_that_nobody_made_up(server: EmotionServer) -> None:
    for path in ("/health", "/etc/passwd", "/made/up"):
        requests.get(server.address + path, timeout=20)
    answer = get(server, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    paths = set(re.findall(r'emonet_requests_total\{path="([^"]+)"', answer.text))
    assert {"/health", "other"} <= paths <= {
        "/", "/docs", "/health", "/metrics", "/openapi.json", "/page/capture.js", "/v1/caption", "/v1/export",
        "/v1/models", "/v1/score", "/v1/stream", "/v1/timeline", "other",
    }  # fmt: skip
    assert "process_resident_memory_bytes" in answer.text


def test_behind_a_proxy_that_takes_a_path_off(start_server: Callable[..., EmotionServer], make_wav: Any) -> None:
    server = start_server(root_path="/emonet")
    assert get(server, "/openapi.json").json()["servers"] == [{"url": "/emonet"}]
    answer = requests.post(f"{server.address}/v1/score", files={"f": make_wav().read_bytes()}, timeout=20)
    assert answer.status_code == 200
    assert 'emonet_requests_total{path="/v1/score",status="200"}' in get(server, "/metrics").text


def test_a_failure_of_the_server_is_told_and_logged(
    start_server: Callable[..., EmotionServer], make_wav: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server()
    server.service.scores._run_items = lambda by, items: 1 / 0
    answer = requests.post(f"{server.address}/v1/score", files={"f": make_wav().read_bytes()}, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        "the server has failed at this request; its log says why",
    )
    deadline = time.monotonic() + 5  # it is logged once the client has its answer
    while "ZeroDivisionError" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "ZeroDivisionError" in caplog.text


def test_models_to_choose(
    start_server: Callable[..., EmotionServer], voice: Path, ensemble_voice: Path, make_wav: Any, tmp_path: Path
) -> None:
    other = shutil.copytree(ensemble_voice, tmp_path / "ensemble")
    server = start_server(more_models=(str(other),))
    first, second = get(server, "/v1/models").json()["models"]
    assert (first["name"], second["name"], second["window_seconds"]) == ("voice", "ensemble", 1.0)
    assert {one["id"]: one for one in second["targets"]}["anger"] == {
        "id": "anger",
        "name": "Anger",
        "low": 0.0,
        "high": 4.0,
        "ranked": True,
    }
    path = f"{server.address}/v1/score"
    for model, found, intervals in ((None, "voice", 0), ("voice", "voice", 0), ("ensemble", "ensemble", 2)):
        answer = requests.post(path, params={"model": model}, files={"f": make_wav().read_bytes()}, timeout=20).json()
        assert answer["model"]["source"] == found
        assert len(answer["results"][0]["uncertainties"]) == intervals
    for wanted in ("/v1/score", "/v1/timeline"):
        answer = requests.post(server.address + wanted, params={"model": "none"}, files={"f": b""}, timeout=20)
        assert (answer.status_code, answer.json()["hint"]) == (400, "which there are: GET /v1/models")
    with pytest.raises(RequestError, match="two models of one name"):
        start_server(more_models=(str(voice),))
