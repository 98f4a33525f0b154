"""The client of the HTTP server, against a real one."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import soundfile as sf

from emonet import EmotionPipeline
from emonet.checkpoints import Calibration
from emonet.client import EmotionClient
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.registry import EXPERTS
from emonet.serving import EmotionServer, ServerSettings
from tests.peer_servers import Says, peer_server
from tests.ports import free_port

TOKEN = "a-token-of-thirty-two-characters"
pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def address(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(TOKEN)
    other = shutil.copytree(voice, tmp_path_factory.mktemp("more") / "other")
    always = {"predicted": [-1.0, 0.0, 1.0], "calibrated": [3.5, 3.5, 3.5], "clips": 50}
    Calibration.model_validate({"kind": "isotonic", "curves": {"anger": always}}).write(other / EXPERTS)
    settings = ServerSettings(model=str(voice), more_models=(str(other),), port=0, device="cpu", token_file=tokens)
    with EmotionServer(settings) as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[EmotionClient]:
    with EmotionClient(address, TOKEN) as made:
        yield made


def test_scores_are_those_of_the_pipeline(client: EmotionClient, voice: Path, make_wav: Callable[..., Path]) -> None:
    path, other = make_wav(), make_wav("b.wav", hertz=500)
    pipeline = EmotionPipeline.from_folder(voice, device="cpu")
    assert client.score(path)["scores"] == pytest.approx(pipeline(path), abs=0.02)
    assert client.score(str(path))["notices"]
    first, broken, last = client.score_many([path, b"no audio", other.read_bytes()])
    assert "format not recognised" in broken["error"]
    assert [first["scores"], last["scores"]] == [pytest.approx(pipeline(one), abs=0.02) for one in (path, other)]
    assert client.score_many([]) == []
    assert client.health()["model"]["source"] == "voice"


def test_timelines(client: EmotionClient, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=3.0)
    told = client.timeline(path, mode="sliding", window=1, curves=0.5, captions=False, hop=None)
    assert len(told["segments"]) == 3
    assert len(told["curves"]["seconds"]) == 6
    assert client.timeline_file(path, "vtt", mode="sliding").startswith(b"WEBVTT")


def test_one_of_several_models(client: EmotionClient, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=2.0)
    first, other = (one["name"] for one in client.models())
    assert (first, other) == ("voice", "other")
    scores = client.score(path)["scores"]
    calibrated = pytest.approx(scores | {"anger": 3.5})
    assert client.score(path, model=first)["scores"] == pytest.approx(scores)
    assert scores["anger"] != pytest.approx(3.5)
    assert client.score(path, model=other)["scores"] == calibrated
    assert client.score_many([path, path], model=other)[1]["scores"] == calibrated
    told = client.timeline(path, mode="sliding", model=other)
    assert told["model"] == other
    assert {segment["scores"]["anger"] for segment in told["segments"]} == {3.5}
    with client.stream(16_000, model=other) as stream:
        stream.feed(np.zeros(16_000, np.int16))
        assert [one["scores"]["anger"] for one in stream.close()] == [3.5]
    for ask in (
        lambda: client.score(path, model="none"),
        lambda: client.score_many([path], model="none"),
        lambda: client.timeline(path, model="none"),
    ):
        with pytest.raises(RequestError, match=r"(?s)no model of that name.*status 400"):
            ask()
    with client.stream(16_000, model="none") as stream, pytest.raises(RequestError, match="no model of that name"):
        [stream.feed(np.zeros(16_000, np.int16)) for _ in range(1000)]


def test_a_timeline_in_another_format(client: EmotionClient, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=3.0)
    told = client.timeline(path, mode="sliding")
    assert client.export(told, "vtt").startswith(b"WEBVTT")
    assert b'id="sound"' not in client.export(told, "html")
    assert b'id="sound"' in client.export(told, "html", path)
    with pytest.raises(RequestError, match=r"(?s)this is no timeline.*status 400"):
        client.export({}, "csv")
    with pytest.raises(RequestError, match=r"(?s)the server says: format.*status 400"):
        client.export(told, "doc")
    with pytest.raises(AudioError, match="format not recognised"):
        client.export(told, "html", b"no audio")
    for odd in (np.float32(1), float("nan")):
        with pytest.raises(RequestError, match=r"the timeline is no JSON"):
            client.export(MappingProxyType(told | {"seconds": odd}), "csv")
    assert client.export(MappingProxyType(told), "vtt") == client.export(told, "vtt")
    curves = client.timeline(path, mode="sliding", curves=0.5)
    assert client.export(curves, "vtt") == client.export(told, "vtt")
    with pytest.raises(RequestError, match=r"(?s)cannot be read.*none\.wav"):
        client.export(told, "html", path.with_name("none.wav"))


def test_live_sound(client: EmotionClient, voice: Path, make_wav: Callable[..., Path]) -> None:
    samples, rate = sf.read(make_wav(seconds=2.5), dtype="float32")
    with client.stream(rate, hop=0.5, lossless=True) as stream:
        heard = [one for at in range(0, len(samples), 3_000) for one in stream.feed(samples[at : at + 3_000])]
        heard += stream.close()
        assert stream.close() == []
    assert [one["end"] for one in heard] == [0.5, 1.0, 1.5, 2.0, 2.5]
    (batch,) = EmotionPipeline.from_folder(voice, device="cpu").score_samples([samples[-rate:]])
    assert heard[-1]["scores"] == pytest.approx(dict(batch.scores), abs=0.02)


@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_many_channels_fit_into_messages(kind: str, client: EmotionClient) -> None:
    with client.stream(16_000, lossless=True) as stream:
        stream.feed(np.zeros((20_000, 32), kind))  # 2.6 or 1.3 MB
        assert stream.close()[-1]["end"] == 1.25


def test_streams_that_are_refused(client: EmotionClient, address: str) -> None:
    with client.stream(16_000) as stream:
        with pytest.raises(RequestError, match=r"(?s)another type.*int16 or float32.*int64"):
            stream.feed(np.zeros(10, np.int64))
        stream.feed(np.zeros(10, np.int16))
        with pytest.raises(
            RequestError, match=r"(?s)another type or number of channels.*int16, 1 channels.*int16, 2 channels"
        ):
            stream.feed(np.zeros((10, 2), np.int16))
        stream.close()
        with pytest.raises(RequestError, match=r"(?s)the stream has ended.*client\.stream"):
            stream.feed(np.zeros(10, np.int16))
    with pytest.raises(RequestError, match="the stream has ended"):
        stream.feed(np.zeros(10, np.int16))
    with (
        client.stream(16_000, hop=99) as stream,
        pytest.raises(RequestError, match=r"(?s)ended the stream.*out of range"),
    ):
        [stream.feed(np.zeros(10, np.int16)) for _ in range(1000)]
    with client.stream(16_000) as stream, pytest.raises(RequestError, match=r"another type.*\n.*\n.*, 0 channels"):
        stream.feed(np.zeros((10, 0), np.int16))
    with pytest.raises(RequestError, match=r"(?s)refuses the stream.*401"):
        EmotionClient(address, "wrong").stream(16_000)


def test_what_is_refused(client: EmotionClient, address: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="format not recognised"):
        client.score(b"no audio")
    with pytest.raises(RequestError, match=r"(?s)cannot be read.*none\.wav"):
        client.score(tmp_path / "none.wav")
    with pytest.raises(RequestError, match=r"(?s)this token is not known here.*401"):
        EmotionClient(address, "wrong").score(b"x")
    with pytest.raises(RequestError, match=r"(?s)the server says: threshold.*status 400"):
        client.timeline(b"x", threshold=2)
    with pytest.raises(EmonetError, match="no captioner"):
        client.caption(b"x")
    with pytest.raises(RequestError, match="no URL of a server"):
        EmotionClient("127.0.0.1:5001")
    port = free_port()
    with pytest.raises(EmonetError, match="does not answer"):
        EmotionClient(f"http://127.0.0.1:{port}").health()
    with pytest.raises(EmonetError, match="does not answer"):
        EmotionClient(f"http://127.0.0.1:{port}").stream(16_000)


@pytest.mark.parametrize(
    ("says", "kind", "told"),
    [
        (
            Says("", 307, {"Location": "/elsewhere"}),
            RequestError,
            r"redirects are not followed.*307, Location: /elsewhere",
        ),
        (Says(b"<html>hello</html>"), EmonetError, r"no answer of emonet serve.*object of JSON.*<html>hello"),
        (Says([1]), EmonetError, r"no answer of emonet serve.*object of JSON.*\[1\]"),
        (Says({"results": []}), EmonetError, r"no answer of emonet serve.*1 results.*\[\]"),
    ],
)
def test_what_is_no_answer(says: Says, kind: type[EmonetError], told: str) -> None:
    with (
        peer_server(lambda _: says) as server,
        EmotionClient(server.url) as client,
        pytest.raises(EmonetError, match=f"(?s){told}") as caught,
    ):
        client.score(b"x")
    assert caught.type is kind


def test_a_busy_server_is_asked_again(make_wav: Callable[..., Path]) -> None:
    bodies: list[int] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(429 if len(bodies) < 3 else 200)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b'{"results": [{"scores": {}}]}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with EmotionClient(f"http://127.0.0.1:{server.server_port}") as client:
            assert client.score(make_wav()) == {"scores": {}}
        server.shutdown()
        thread.join()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1  # the whole file each time
    assert bodies[0] > 32_000


def test_no_token_of_another_file_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def answer() -> None:
            with listener.accept()[0] as opened:
                heard.append(opened.recv(65536))
                opened.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        EmotionClient(f"http://127.0.0.1:{listener.getsockname()[1]}").health()
        thread.join()
    assert b"uthorization" not in heard[0]
