"""Who may ask: host names, origins and tokens, over real connections."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from emonet.errors import RequestError
from emonet.serving import EmotionServer, ServerSettings
from emonet.serving.guards import Tokens

FIRST, SECOND = "a-token-of-thirty-two-characters", "another-token-that-comes-later-on"


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# of the first app\n{FIRST}\n")
    return path


@pytest.fixture(scope="module")
def guarded(start_server: Callable[..., EmotionServer], token_file: Path) -> EmotionServer:
    return start_server(
        token_file=token_file, allow_hosts=["voice.example.com"], allow_origins=["https://App.example.com"]
    )


def ask(server: EmotionServer, path: str = "/health", **headers: str) -> requests.Response:
    return requests.get(server.address + path, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=20)


def opens(server: EmotionServer, **headers: str) -> int:
    """Status of a WebSocket's handshake."""
    host = headers.pop("Host", None)
    url = server.address.replace("http", "ws") + "/v1/stream"
    try:
        if host is not None:
            place = urlsplit(url)
            url = url.replace(place.netloc, host)
            with connect(url, address=("127.0.0.1", place.port), additional_headers=headers, proxy=None):
                return 101
        with connect(url, additional_headers=headers, proxy=None):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_foreign_host_names_are_not_answered(server: EmotionServer) -> None:
    port = urlsplit(server.address).port
    for own in ("localhost", f"127.0.0.1:{port}", f"LOCALHOST.:{port}", "[::1]:80"):
        assert ask(server, Host=own).status_code == 200, own
    for foreign in (
        "evil.example.com",
        f"127.0.0.1.evil.example.com:{port}",
        "10.0.0.1",
        "a@localhost",
        "localhost:x",
        "localhost/",
    ):
        refused = ask(server, Host=foreign)
        assert refused.status_code == 421, foreign
        assert refused.json()["hint"] == "its owner names it: --allow-hosts"
    assert opens(server, Host="evil.example.com") == 421


def test_pages_of_other_origins_may_not_ask(server: EmotionServer) -> None:
    own = urlsplit(server.address).netloc
    assert ask(server, Origin=f"http://{own}").status_code == 200
    for foreign in (
        "https://evil.example.com",
        "null",
        "http://localhost",
        f"http://{own}.evil.example.com",
        "",
        "file://",
    ):
        refused = ask(server, Origin=foreign)
        assert refused.status_code == 403, foreign
        assert "access-control-allow-origin" not in refused.headers
    assert opens(server, Origin=f"http://{own}") == 101
    assert opens(server, Origin="https://evil.example.com") == 403
    preflight = requests.options(
        f"{server.address}/v1/score",
        headers={"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"},
        timeout=20,
    )
    assert preflight.status_code == 403


def test_names_and_origins_that_are_allowed(guarded: EmotionServer) -> None:
    assert ask(guarded, Host="voice.example.com").status_code == 200
    assert ask(guarded, Host="voice.example.com", Origin="https://voice.example.com").status_code == 200
    answer = ask(guarded, "/metrics", Origin="https://app.example.com")
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"  # its page reads why
    preflight = requests.options(
        f"{guarded.address}/v1/score",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
        timeout=20,
    )
    assert preflight.status_code == 200
    assert ask(guarded, Origin="https://evil.example.com").status_code == 403


def test_tokens_missing_wrong_and_rotated(guarded: EmotionServer, token_file: Path) -> None:
    missing = ask(guarded, "/metrics")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="emonet"')
    assert missing.json() == {"error": "this server wants a token", "hint": "Authorization: Bearer TOKEN"}
    for wrong in (
        f"Bearer {SECOND}",
        f"Basic {FIRST}",
        FIRST,
        "Bearer",
        f"Bearer {FIRST[:-1]}",
        "Bearer # of the first app",
    ):
        assert ask(guarded, "/metrics", Authorization=wrong).status_code == 401, wrong
    assert ask(guarded, "/metrics", Authorization=f"bearer {FIRST}").status_code == 200
    assert requests.post(f"{guarded.address}/v1/score", data=b"x", timeout=20).status_code == 401
    assert opens(guarded) == 401
    assert opens(guarded, Authorization=f"Bearer {FIRST}") == 101

    token_file.write_text(f"{FIRST}\n{SECOND}\n")  # both, until every client has the new one
    assert ask(guarded, "/metrics", Authorization=f"Bearer {SECOND}").status_code == 200
    token_file.write_text(f"{SECOND}\n")
    assert ask(guarded, "/metrics", Authorization=f"Bearer {FIRST}").status_code == 401
    token_file.unlink()
    told = ask(guarded, Authorization=f"Bearer {SECOND}").json()
    assert told["status"] == "degraded"
    assert "the tokens that were read before still count" in told["problems"][0]
    token_file.write_text("# nobody\n")
    assert ask(guarded, "/metrics", Authorization=f"Bearer {SECOND}").status_code == 401
    token_file.write_text(f"{FIRST}\n")
    assert ask(guarded, "/metrics", Authorization=f"Bearer {FIRST}").status_code == 200


def test_a_page_names_its_token_beside_the_subprotocol(guarded: EmotionServer) -> None:
    url = guarded.address.replace("http", "ws") + "/v1/stream"

    def offer(*protocols: str) -> str | int | None:
        try:
            with connect(url, subprotocols=[Subprotocol(one) for one in protocols], proxy=None) as socket:
                return socket.subprotocol
        except InvalidStatus as error:
            return error.response.status_code

    coded = base64.urlsafe_b64encode(FIRST.encode()).decode().rstrip("=")
    assert offer("emonet", f"emonet.bearer.{coded}") == "emonet"
    for wrong in (("emonet",), ("emonet", "emonet.bearer."), ("emonet", f"emonet.bearer.{coded[:-4]}")):
        assert offer(*wrong) == 401, wrong
    assert offer("emonet", "emonet.bearer.%%%", "emonet.bearer.AAAAA") == 401
    assert offer("emonet", f"emonet.bearer.{coded}", f"emonet.bearer.{coded}") == 401, "one token"
    asked = requests.get(
        f"{guarded.address}/metrics", headers={"Sec-WebSocket-Protocol": f"emonet.bearer.{coded}"}, timeout=20
    )
    assert asked.status_code == 401, "of WebSockets only"


def test_health_says_little_without_a_token(guarded: EmotionServer) -> None:
    told = ask(guarded).json()
    assert {name for name, value in told.items() if value not in (None, [])} == {"status"}
    assert ask(guarded, Authorization="Bearer wrong").status_code == 401


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no token in it"),
        ("# none\n", "no token"),
        ("short\n", "token 1 is shorter"),
        ("two words that are long\n", "token 1"),
    ],
)
def test_files_that_hold_no_tokens(content: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(RequestError, match=f"(?s)the file of tokens cannot be used.*{found}.*token_urlsafe"):
        Tokens(path)


def test_a_file_of_tokens_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)cannot be used.*No such file"):
        Tokens(tmp_path / "none")


def test_a_file_that_keeps_its_time_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{FIRST}\n")
    tokens, before = Tokens(path), path.stat()
    path.unlink()
    path.write_text(f"{SECOND}\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert tokens.know([f"Bearer {SECOND}"])
    assert not tokens.know([f"Bearer {FIRST}"])
    assert not tokens.know([f"Bearer {SECOND}", f"Bearer {SECOND}"])


def test_others_than_this_machine_need_a_token(voice: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)could ask without a token.*--host 0\.0\.0\.0.*--token-file"):
        EmotionServer(ServerSettings(model=str(voice), host="0.0.0.0", port=0))


def test_an_origin_that_is_none(voice: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no origin of pages.*allow_origins"):
        EmotionServer(ServerSettings(model=str(voice), port=0, allow_origins=("https://a.example.com/path",)))
