"""Live sound over a WebSocket: scores as the pipeline gives them, and clients that flood, stop or send something else."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from emonet import EmotionPipeline
from emonet.serving import EmotionServer

RATE = 16_000


@pytest.fixture
def sound() -> np.ndarray:
    rng = np.random.default_rng(1)
    moments = np.arange(3 * RATE) / RATE
    tones = 0.3 * np.sin(2 * np.pi * (150 + 60 * moments) * moments) * (1 + np.sin(9 * moments)) / 2
    return (tones + rng.normal(0, 0.01, len(moments))).astype(np.float32)


def opened(server: EmotionServer) -> Any:
    return connect(server.address.replace("http", "ws") + "/v1/stream", proxy=None)


def talk(server: EmotionServer, start: object, *messages: str | bytes) -> tuple[list[dict[str, Any]], int, str]:
    """All that a server answers; code and reason of its close."""
    told = []
    with opened(server) as socket:
        try:
            socket.send(start if isinstance(start, str | bytes) else json.dumps(start))
            for message in messages:
                socket.send(message)
        except ConnectionClosed:
            pass
        try:
            while True:
                told.append(json.loads(socket.recv(30)))
        except ConnectionClosed:
            return told, socket.close_code or 0, socket.close_reason or ""


END = '{"type": "end"}'


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["s16le", "f32le"])
def test_scores_are_those_of_the_same_windows(kind: str, server: EmotionServer, voice: Path, sound: np.ndarray) -> None:
    content = (sound * 32767).astype("<i2").tobytes() if kind == "s16le" else sound.tobytes()
    cuts = [0, 1, 4_001, 30_003, len(content)]  # in the midst of samples, too
    parts = [content[a:b] for a, b in itertools.pairwise(cuts)]
    start = {"rate": RATE, "hop": 0.5, "format": kind, "lossless": True}
    (ready, *hops, end), code, _ = talk(server, start, *parts, END)
    assert (ready["type"], ready["window"], ready["hop"]) == ("ready", 1.0, 0.5)
    assert (end, code) == ({"type": "end", "skipped": 0}, 1000)
    assert [(one["start"], one["end"]) for one in hops] == [
        (max(0.0, e - 1), e) for e in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    ]
    pipeline = EmotionPipeline.from_folder(voice, device="cpu")
    for hop in hops:
        (batch,) = pipeline.score_samples([sound[round(hop["start"] * RATE) : round(hop["end"] * RATE)]])
        assert hop["scores"] == pytest.approx(dict(batch.scores), abs=0.02)
        assert hop["error"] is None


def test_scores_come_while_sound_comes(server: EmotionServer, sound: np.ndarray) -> None:
    with opened(server) as socket:
        socket.send(json.dumps({"rate": RATE, "hop": 0.5, "format": "f32le"}))
        assert json.loads(socket.recv(10))["type"] == "ready"
        socket.send(sound[: RATE // 2].tobytes())
        assert json.loads(socket.recv(10))["end"] == 0.5


def test_two_channels(server: EmotionServer, sound: np.ndarray) -> None:
    stereo = np.column_stack([sound, 0.5 * sound]).astype(np.float32)
    start = {"rate": RATE, "format": "f32le", "channels": 2, "lossless": True}
    told, code, _ = talk(server, start, stereo.tobytes(), END)
    assert (len(told), code) == (5, 1000)


def test_a_stream_that_floods(server: EmotionServer, sound: np.ndarray) -> None:
    whole = np.tile(sound, 20).tobytes()  # a minute within a second or two
    parts = [whole[at : at + (1 << 19)] for at in range(0, len(whole), 1 << 19)]
    told, code, _ = talk(server, {"rate": RATE, "hop": 0.05, "format": "f32le"}, *parts, END)
    *hops, end = told[1:]
    assert code == 1000
    assert end["skipped"] > 300
    assert len(hops) + end["skipped"] == pytest.approx(60 / 0.05, abs=12)
    assert hops[-1]["end"] == pytest.approx(60)


@pytest.mark.slow
def test_a_stream_that_stops(strict_server: EmotionServer) -> None:
    began = time.monotonic()
    told, code, reason = talk(strict_server, {"rate": RATE}, bytes(6400))
    assert (told[-1]["error"], code, reason) == ("nothing came for 3 s", 1008, "nothing came for 3 s")
    assert time.monotonic() - began < 10
    _, code, reason = talk(strict_server, b"\x00")
    assert code == 1003
    with opened(strict_server) as socket:
        assert json.loads(socket.recv(10)) == {"type": "error", "error": "nothing came for 0.5 s"}


def test_a_client_that_goes_without_a_word(server: EmotionServer) -> None:
    with opened(server) as socket:
        socket.send(json.dumps({"rate": RATE, "lossless": True}))
        socket.send(bytes(64_000))
        socket.socket.close()
    deadline = time.monotonic() + 10
    while server.service.streams and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.service.streams == 0


def test_a_stream_with_nan(server: EmotionServer, sound: np.ndarray) -> None:
    damaged = sound.copy()
    damaged[RATE // 4] = np.nan
    told, code, _ = talk(server, {"rate": RATE, "format": "f32le", "lossless": True}, damaged.tobytes(), END)
    first, *rest = told[1:-1]
    assert (first["scores"], code) == ({}, 1000)
    assert "NaN" in first["error"]
    assert [one["error"] for one in rest] == [None, None]  # it goes on


@pytest.mark.parametrize(
    ("start", "messages", "code", "reason"),
    [
        ({"rate": RATE}, ['{"rate": 8000}'], 1008, "the stream's rate cannot change from 16000 Hz"),
        ({"rate": RATE}, ["words"], 1003, "text in a stream of samples"),
        ({"rate": RATE}, ["[" * 100_000], 1003, "text in a stream of samples"),
        ("words", [], 1008, "the first message is wrong"),
        ("[]", [], 1008, "the first message is wrong at its top: an object is expected"),
        ('{"rate": "fast"}', [], 1008, "the first message is wrong at rate"),
        ('{"rate": 16000, "more": 1}', [], 1008, "the first message is wrong at more"),
        ('{"rate": 16000, "format": "mp3"}', [], 1008, "the first message is wrong at format"),
        ('{"rate": 1}', [], 1008, "the rate is out of range"),
        ('{"rate": 16000, "hop": 7}', [], 1008, "the hop is out of range"),
        ('{"rate": 16000, "window": 60}', [], 1008, "the stream's window is out of range"),
        (b"\x00\x00", [], 1003, "the first message must be JSON"),
        ({"rate": RATE}, [bytes((1 << 20) + 1)], 1009, ""),
    ],
)
def test_messages_that_are_none(
    start: object, messages: list[Any], code: int, reason: str, server: EmotionServer
) -> None:
    told, found, why = talk(server, start, *messages)
    assert (found, why[: len(reason)]) == (code, reason)
    if reason:
        assert told[-1]["type"] == "error"
        assert told[-1]["error"].startswith(reason)


def test_more_streams_than_are_taken_on(strict_server: EmotionServer) -> None:
    with opened(strict_server) as first:
        first.send(json.dumps({"rate": RATE}))
        first.recv(10)
        with pytest.raises(InvalidStatus) as refused, opened(strict_server):
            pass
        assert refused.value.response.status_code == 429
        assert "1 live streams are open" in json.loads(refused.value.response.body)["error"]
    deadline = time.monotonic() + 5
    while strict_server.service.streams and time.monotonic() < deadline:
        time.sleep(0.02)
    with opened(strict_server):
        pass


def test_streams_are_counted(server: EmotionServer, start_server: Callable[..., EmotionServer]) -> None:
    with opened(server) as socket:
        socket.send(json.dumps({"rate": RATE}))
        socket.recv(10)
        text = requests.get(f"{server.address}/metrics", timeout=20).text
        assert "emonet_streams 1.0" in text


def test_a_model_that_is_not_there(server: EmotionServer) -> None:
    told, code, reason = talk(server, {"rate": RATE, "model": "none"})
    assert (told[-1]["type"], code) == ("error", 1008)
    assert reason == told[-1]["error"] == "this server has no model of that name"
    ready, code, _ = talk(server, {"rate": RATE, "model": "voice"}, '{"type": "end"}')
    assert (ready[0]["type"], code) == ("ready", 1000)
