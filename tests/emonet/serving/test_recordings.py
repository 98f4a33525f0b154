"""Scores and captions over HTTP: keyed by place, the same as alone, with a reason for each recording that fails."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from emonet import EmotionPipeline
from emonet.audio import shared_decoders
from emonet.captioner import model, save_captioner
from emonet.serving import EmotionServer
from emonet.windows import Window

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="session")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice, device="cpu")


def post(server: EmotionServer, path: str = "/v1/score", **content: Any) -> requests.Response:
    return requests.post(server.address + path, timeout=60, **content)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_every_form_of_a_body(server: EmotionServer, make_wav: Callable[..., Path], pipeline: EmotionPipeline) -> None:
    path = make_wav()
    alone, content = pipeline(path), path.read_bytes()
    answers = [
        post(server, files={"file": ("a.wav", content)}),
        post(server, data=content, headers={"Content-Type": "audio/wav"}),
        post(server, data=content, headers={"Content-Type": "application/octet-stream"}),
        post(server, json={"audio": encoded(path)}),
        post(server, json={"audio": f"data:audio/wav;base64,{encoded(path)}"}),
        post(server, json={"recordings": [{"audio": encoded(path)}]}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        told = json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert told["model"] == {"source": "voice", "version": None}
        (result,) = told["results"]
        assert result["scores"] == pytest.approx(alone, abs=0.02)
        assert list(result["scores"]) == list(alone)  # strongest first
        assert (result["seconds"], result["total_seconds"], result["error"]) == (1.0, 1.0, None)
        assert "steady sound" in result["notices"][0]


def test_answers_stand_by_place_and_not_by_name(
    server: EmotionServer, make_wav: Callable[..., Path], pipeline: EmotionPipeline
) -> None:
    paths = [make_wav(f"{hertz}.wav", hertz=hertz, seconds=0.8) for hertz in (150, 300, 600)]
    same = [("file", ("../../etc/same.wav", path.read_bytes())) for path in paths]
    broken = ("file", ("same.wav", b"no audio at all"))
    results = post(server, files=[same[0], broken, *same[1:]]).json()["results"]
    assert [one["index"] for one in results] == [0, 1, 2, 3]
    assert (results[1]["scores"], results[1]["error"]) == (
        {},
        "not readable: format not recognised; try: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav",
    )
    for found, path in zip((results[0], *results[2:]), paths, strict=True):
        assert found["scores"] == pytest.approx(pipeline(path), abs=0.02)
    named = [{"audio": encoded(path), "id": name} for path, name in zip(paths, ("x", "x", "\u00fc\n"), strict=True)]
    results = post(server, json={"recordings": named}).json()["results"]
    assert [(one["index"], one["id"]) for one in results] == [(0, "x"), (1, "x"), (2, "\u00fc\n")]


def test_many_clients_get_what_each_would_get_alone(
    server: EmotionServer, make_wav: Callable[..., Path], pipeline: EmotionPipeline
) -> None:
    paths = [make_wav(f"{n}.wav", hertz=100 + 40 * n, seconds=0.5 + 0.03 * n) for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda path: post(server, files={"file": path.read_bytes()}), paths))
    for answer, path in zip(answers, paths, strict=True):
        assert answer.json()["results"][0]["scores"] == pytest.approx(pipeline(path), abs=0.02)
    metrics = requests.get(f"{server.address}/metrics", timeout=20).text
    sizes = {
        line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if line.startswith("emonet_batch")
    }
    assert sizes["emonet_batch_recordings_sum"] > sizes["emonet_batch_recordings_count"]  # some shared a pass


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "no JSON"),
        (b"[]", 400, "the body is wrong at its top: an object is expected"),
        (b"{}", 422, "no recording"),
        (b'{"audio": 3}', 400, "wrong at audio"),
        (b'{"audio": "x", "more": 1}', 400, "wrong at more"),
        (b'{"recordings": []}', 422, "no recording"),
        (b'{"recordings": [{"id": "a"}]}', 400, "wrong at recordings.0.audio"),
        (b'{"audio": "x", "recordings": []}', 400, "both"),
        (b"[" * 100_000, 400, "no JSON"),
        (b'"\xff"', 400, "no JSON"),
        (json.dumps({"recordings": [{"audio": "x"}] * 65}).encode(), 413, "at most 64"),
        (b'{"audio": "a.wav"}', 422, "paths are not allowed here"),
        (b'{"audio": "http://127.0.0.1/a.wav"}', 422, "URLs of 127.0.0.1 are not allowed"),
        (b'{"audio": "data:audio/wav;base64,===="}', 422, "not base64"),
        (json.dumps({"audio": base64.b64encode(bytes(400)).decode()}).encode(), 422, "format not recognised"),
    ],
)
def test_json_that_is_no_request(body: bytes, status: int, told: str, server: EmotionServer) -> None:
    answer = post(server, data=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "told"),
    [
        ("multipart/form-data", b"x", 400, "the form cannot be read"),
        ("multipart/form-data; boundary=b", b"--b\r\n\xff: x\r\n\r\n", 400, "the form cannot be read"),
        ("multipart/form-data; boundary=b", b"", 422, "no recording"),
        ("text/plain", b"x", 415, "bodies of type 'text/plain' are not read"),
        ("audio/wav", b"", 422, "no recording"),
        ("audio/wav", b"RIFF", 422, ""),
    ],
)
def test_bodies_that_are_no_request(kind: str, body: bytes, status: int, told: str, server: EmotionServer) -> None:
    answer = post(server, data=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]


def test_more_files_than_are_taken(strict_server: EmotionServer) -> None:
    answer = post(strict_server, files=[("file", (str(n), b"x")) for n in range(4)])
    assert (answer.status_code, answer.json()["hint"]) == (413, "at most 3 files")


def test_none_of_several_can_be_used(server: EmotionServer) -> None:
    answer = post(server, files=[("file", ("a", b"x")), ("file", ("b", b"y"))])
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("none of 2 recordings can be used: ")


def test_paths_within_the_folder_that_is_allowed(
    start_server: Callable[..., EmotionServer], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    inside, outside = make_wav("in/a.wav"), make_wav("b.wav")
    (inside.parent / "link.wav").symlink_to(outside)
    server = start_server(allow_paths=str(inside.parent))
    asked = ["a.wav", str(inside), "../b.wav", str(outside), "link.wav", "none.wav", "/etc/passwd"]
    results = post(server, json={"recordings": [{"audio": one} for one in asked]}).json()["results"]
    outside_told = "outside of the folder that paths are allowed in"
    assert [one["error"] for one in results] == [
        None, None, outside_told, outside_told, outside_told, "no such file", outside_told,
    ]  # fmt: skip
    timeline = post(server, "/v1/timeline", json={"audio": "../b.wav"})
    assert (timeline.status_code, timeline.json()["error"]) == (422, outside_told)


@pytest.mark.slow
def test_a_decoder_that_is_killed_costs_no_more_than_its_request(server: EmotionServer, make_wav: Any) -> None:
    content, kills = make_wav().read_bytes(), 4
    ended = threading.Event()

    def kill() -> None:
        for _ in range(kills):
            os.kill(shared_decoders().processes[0], signal.SIGKILL)
            time.sleep(2)  # another one imports meanwhile
        ended.set()

    killing = threading.Thread(target=kill)
    answers: list[int] = []
    killing.start()
    with ThreadPoolExecutor(4) as pool:
        while not ended.is_set():
            answers += pool.map(lambda _: post(server, files={"file": content}).status_code, range(8))
    killing.join()
    assert len(answers) > 40
    assert len(answers) - answers.count(200) <= kills


def test_captions(
    start_server: Callable[..., EmotionServer],
    make_wav: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(model.SIZES, "nano", model.Size(32, 1, 1, 2, None))
    made, processor = model.scratch("nano", Window(1.0), ["The speaker feels strong anger."] * 3, seed=0)
    save_captioner(made, processor, tmp_path / "captioner")
    server = start_server(captioner=str(tmp_path / "captioner"))
    files = [("file", ("a", make_wav().read_bytes())), ("file", ("b", b"broken"))]
    good, bad = post(server, "/v1/caption", files=files).json()["results"]
    assert isinstance(good["caption"], str)
    assert (good["seconds"], good["error"]) == (1.0, None)
    assert (bad["caption"], bad["error"]) == (
        "",
        "not readable: format not recognised; try: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav",
    )
    assert requests.get(f"{server.address}/health", timeout=20).json()["captions"] is True
    timeline = post(server, "/v1/timeline?captions=true&mode=sliding&window=1", files=files[:1]).json()
    assert timeline["segments"][0]["caption"] == good["caption"]
