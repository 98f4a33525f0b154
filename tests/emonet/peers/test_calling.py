from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from emonet.clips import Clip
from emonet.errors import EmonetError, RequestError
from emonet.peers import Peer, Terms, open_peer
from emonet.peers.secret_headers import Secrets
from tests.conftest import ROOT
from tests.peer_servers import Heard, PeerServer, Says, peer_server

KEY = "sk-very/secret+4711"
GOOD = Says({"scores": {"anger": 1.0}})
Make = Callable[..., Peer]


@pytest.fixture
def clips(make_wav: Callable[..., Path]) -> list[Clip]:
    return [Clip(f"c{n}", make_wav(f"{n}.wav", seconds=0.5, hertz=200 + n), "s", "test") for n in range(12)]


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("PEER_KEY", KEY)

    def make(server: PeerServer, terms: Terms | None = None, **calls: Any) -> Peer:
        how = {"attempts": 3, "first_wait": 0, "requests_per_minute": 60_000, "parallel": 1, **calls}
        headers = {"Authorization": "Bearer ${PEER_KEY}"}
        row = {"url": f"{server.url}/rate", "headers": headers, "scores": {"anger": "/scores/anger"}, "calls": how}
        (tmp_path / "peer.yaml").write_text(json.dumps(row))
        return open_peer(f"http:{tmp_path / 'peer.yaml'}", terms=terms or Terms(tmp_path / "answers"))

    return make


def in_turn(*said: Says) -> Callable[[Heard], Says]:
    left = list(said)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_passes_is_tried_again(endpoint: Make, clips: list[Clip], status: int) -> None:
    with peer_server(in_turn(Says("busy", status), Says("busy", status), GOOD)) as server:
        scored = endpoint(server).score(clips[:1])
    assert scored.scores.loc["c0", "anger"] == 1
    assert len(server.heard) == 3


def test_waits_grow_and_differ(endpoint: Make, clips: list[Clip]) -> None:
    with peer_server(in_turn(Says("busy", 500), Says("busy", 500), Says("busy", 500), GOOD)) as server:
        started = time.monotonic()
        endpoint(server, attempts=4, first_wait=0.01, longest_wait=0.02).score(clips[:1])
        assert time.monotonic() - started < 5
    assert len(server.heard) == 4


@pytest.mark.parametrize(("form", "status"), [("seconds", 429), ("date", 503), ("google", 429)])
def test_retry_after_is_heeded(endpoint: Make, clips: list[Clip], form: str, status: int) -> None:
    times: list[float] = []
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=2.5), usegmt=True)
    asked = {"seconds": {"Retry-After": "1"}, "date": {"Retry-After": until}, "google": {}}[form]
    info = {"error": {"code": 429, "details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "1.1s"}]}}

    def answer(_: Heard) -> Says:
        times.append(time.monotonic())
        return Says(info, status, asked) if len(times) == 1 else GOOD

    with peer_server(answer) as server:
        endpoint(server).score(clips[:2])
    assert 0.9 < times[1] - times[0] < 10
    assert times[2] - times[1] < 0.9


def test_a_server_that_asks_for_an_hour_is_not_waited_for(endpoint: Make, clips: list[Clip]) -> None:
    with peer_server(lambda _: Says("later", 429, {"Retry-After": "3600"})) as server:
        scored = endpoint(server).score(clips[:2])
    assert scored.refusals["c0"] == "no answer: HTTP 429: the server asks to wait for 3600 s"
    assert len(server.heard) == 2


def test_requests_begin_at_an_even_pace(endpoint: Make, clips: list[Clip]) -> None:
    times: list[float] = []
    with peer_server(lambda _: times.append(time.monotonic()) or GOOD) as server:
        endpoint(server, requests_per_minute=300, parallel=4).score(clips[:5])
    times.sort()
    assert times[-1] - times[0] >= 4 * 0.2 - 0.1


def test_what_takes_too_long_or_breaks_off_is_no_answer_and_is_asked_for_again_the_next_time(
    endpoint: Make, clips: list[Clip], tmp_path: Path
) -> None:
    whole = {"scores": {"anger": 1}, "text": "some words that fill a chunk or two"}
    odd = [Says(whole, cut=True), Says(whole, cut=True, chunked=True)]
    for reason, said in (("no answer within 0.2 s, 3 times", Says("", after=30)), *(("no whole", one) for one in odd)):
        with peer_server(lambda _, said=said: said) as server:
            scored = endpoint(server, timeout=0.2).score(clips[:1])
            assert reason in scored.refusals["c0"]
            assert len(server.heard) == 3
            server.answer = lambda _: GOOD
            assert not endpoint(server).score(clips[:1]).refusals
            assert len(server.heard) == 4
        shutil.rmtree(tmp_path / "answers")


def test_answers_in_chunks(endpoint: Make, clips: list[Clip]) -> None:
    whole = {"text": "x" * 200_000, "scores": {"anger": 3}}
    with peer_server(lambda _: Says(whole, chunked=True)) as server:
        assert endpoint(server).score(clips[:1]).scores.loc["c0", "anger"] == 3


def test_an_endless_body_does_not_hold_forever(
    endpoint: Make, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer_server(lambda _: Says(b"{" * 200_000, drip=0.02)) as server:
        scored = endpoint(server, timeout=0.3, attempts=1).score(clips[:1])
    assert scored.refusals["c0"] == "no answer: no whole answer within 0.3 s"
    with peer_server(lambda _: Says(b"x" * 5_000_000)) as server:
        monkeypatch.setattr("emonet.peers.calling.LARGEST", 1_000_000)
        scored = endpoint(server).score(clips[:1])
    assert "the answer is larger than" in scored.refusals["c0"]


def test_a_refusal_of_one_clip_is_told_and_the_rest_is_done(endpoint: Make, clips: list[Clip]) -> None:
    too_long = Says({"error": {"message": "audio too\nlong", "code": "audio_too_long"}}, 413)
    with peer_server(in_turn(GOOD, too_long, GOOD)) as server:
        scored = endpoint(server).score(clips[:3])
    assert scored.refusals == {"c1": "HTTP 413: audio too long"}
    assert len(server.heard) == 3, "it is not tried again"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Says({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401), "the key is not accepted"),
        (Says("no", 403), "the key may not do this"),
        (Says("where", 404), "there is no such model or URL"),
        (Says("", 307, {"Location": "https://elsewhere.example/"}), "redirects are not followed"),
        (Says({"error": {"code": "insufficient_quota", "message": "You exceeded"}}, 429), "has nothing left.*exceeded"),
    ],
)
def test_what_refuses_everybody_ends_the_run_at_once(
    endpoint: Make, clips: list[Clip], said: Says, message: str
) -> None:
    with peer_server(lambda _: said) as server:
        with pytest.raises(RequestError, match=f"(?s){message}") as caught:
            endpoint(server).score(clips)
        assert len(server.heard) == 1
    assert KEY not in str(caught.value)


def test_a_service_that_is_gone_is_not_asked_for_each_clip(endpoint: Make, clips: list[Clip]) -> None:
    with peer_server(lambda _: Says("down", 502)) as server:
        with pytest.raises(EmonetError, match=r"(?s)does not answer: 8 clips on end.*HTTP 502, 3 times.*goes on where"):
            endpoint(server).score(clips)
        assert len(server.heard) < 3 * len(clips)
    with pytest.raises(EmonetError, match="no whole answer"):
        endpoint(server).score(clips)


def test_clips_that_are_refused_at_first_do_not_hide_a_wrong_request(endpoint: Make, clips: list[Clip]) -> None:
    with (
        peer_server(lambda _: Says({"message": "unknown field audio"}, 422)) as server,
        pytest.raises(EmonetError, match=r"(?s)8 clips on end.*HTTP 422: unknown field audio"),
    ):
        endpoint(server).score(clips)


def test_clips_that_cannot_be_decoded_do_not_count_against_the_service(
    endpoint: Make, clips: list[Clip], tmp_path: Path
) -> None:
    broken = []
    for n in range(9):
        (tmp_path / f"broken{n}.wav").write_bytes(b"no sound %d" % n)
        broken.append(Clip(f"b{n}", tmp_path / f"broken{n}.wav", "s", "test"))
    with peer_server(lambda _: GOOD) as server:
        scored = endpoint(server).score([*broken, clips[0]])
    assert set(scored.refusals) == {clip.id for clip in broken}
    assert len(server.heard) == 1


SCRIPT = """
import sys
from pathlib import Path
from emonet.clips import Clip
from emonet.peers import Terms, open_peer
folder = Path(sys.argv[1])
clips = [Clip(f"c{n}", folder / f"{n}.wav", "s", "test") for n in range(12)]
open_peer(f"http:{folder / 'peer.yaml'}", terms=Terms(folder / "answers")).score(clips)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_answers_that_it_has(
    endpoint: Make, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer_server(lambda _: Says({"scores": {"anger": len(server.heard) % 4}}, after=0.05)) as server:
        peer = endpoint(server)
        run = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, env={**os.environ})
        until = time.monotonic() + 60
        while len(server.heard) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        (kept,) = (tmp_path / "answers").glob("*.jsonl")
        lines = kept.read_bytes()
        before = len(server.heard)
        whole = lines.count(b"\n")
        assert 3 <= whole < 12
        kept.write_bytes(lines[: lines.rindex(b"\n")][:-20])  # as a power cut would leave the last one
        said: list[str] = []
        scored = endpoint(server, Terms(tmp_path / "answers", say=said.append)).score(clips)
        assert not scored.refusals
        assert len(server.heard) == before + 12 - whole + 1
        assert "1 line of" in said[0]
        assert peer.score(clips).scores.equals(scored.scores)
        assert len(server.heard) == before + 12 - whole + 1
    (kept,) = (tmp_path / "answers").glob("*.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    assert {row["clip"] for row in rows} == {clip.id for clip in clips}


def test_two_processes_do_not_ask_the_same_service(endpoint: Make, clips: list[Clip], tmp_path: Path) -> None:
    from filelock import FileLock

    with peer_server(lambda _: GOOD) as server:
        peer = endpoint(server)
        with (
            FileLock(f"{peer.about['answers']}.lock"),
            pytest.raises(EmonetError, match="another process asks the same service"),
        ):
            peer.score(clips)
        peer.score(clips[:1])
        with FileLock(f"{peer.about['answers']}.lock"):
            assert not peer.score(clips[:1]).refusals, "reading needs no lock"
    assert len(server.heard) == 1


def test_no_secret_is_in_any_output(
    endpoint: Make,
    clips: list[Clip],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that tells everything it was told, in good answers and bad ones."""
    import http.client

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 0)
    seen: list[str] = []

    def echo(request: Heard) -> Says:
        seen.append(request.headers["authorization"])
        told = {"headers": dict(request.headers), "url": f"/x?key={KEY.replace('/', '%2F').replace('+', '%2B')}"}
        status = {1: 200, 2: 400, 3: 500}.get(len(seen), 200)
        return Says(
            {**told, "scores": {"anger": KEY if status == 200 else 0}, "error": {"message": f"no {KEY}"}}, status
        )

    with peer_server(echo) as server:
        peer = endpoint(server, attempts=1)
        scored = peer.score(clips[:3])
    assert seen == [f"Bearer {KEY}"] * 3
    assert len(scored.refusals) == 3
    told = [str(dict(scored.refusals)), repr(peer), repr(peer.scorer), str(vars(peer.scorer)), peer.identity]
    told += [str(dict(peer.about)), caplog.text, *capfd.readouterr()]
    told += [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".wav"]
    text = "\n".join(told)
    assert "***" in text
    for spelled in (KEY, json.dumps(KEY)[1:-1], KEY.replace("/", "%2F").replace("+", "%2B")):
        assert spelled not in text


def test_secrets_show_their_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_KEY", f" {KEY}\n")
    secrets = Secrets(["Bearer ${PEER_KEY}", "plain"])
    assert secrets.fill("Bearer ${PEER_KEY}") == f"Bearer {KEY}"
    assert repr(secrets) == "Secrets(PEER_KEY)"
    assert KEY not in repr(secrets) + str(secrets)
    monkeypatch.setenv("PEER_KEY", "two\nlines of secrets")
    with pytest.raises(RequestError, match="PEER_KEY cannot be sent in a header") as caught:
        Secrets(["${PEER_KEY}"])
    assert "secrets" not in str(caught.value)


def test_a_netrc_does_not_take_the_place_of_the_key(
    endpoint: Make, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with peer_server(lambda _: GOOD) as server:
        endpoint(server).score(clips[:1])
    assert server.heard[0].headers["authorization"] == f"Bearer {KEY}"
