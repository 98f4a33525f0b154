from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.peers import Peer, Terms, open_peer
from emonet.peers.endpoint import found_at
from emonet.targets import EMOTIONS
from tests.peer_servers import Says, peer_server

Make = Callable[..., Peer]


@pytest.fixture
def clip(make_wav: Callable[..., Path]) -> Clip:
    return Clip("c", make_wav(seconds=0.5), "s", "test")


@pytest.fixture
def endpoint(tmp_path: Path) -> Make:
    def make(url: str, *, targets: Any = None, **row: Any) -> Peer:
        calls = {"attempts": 1, "requests_per_minute": 60_000}
        (tmp_path / "peer.yaml").write_text(json.dumps({"url": url, "calls": calls, **row}))
        return open_peer(f"http:{tmp_path / 'peer.yaml'}", targets=targets, terms=Terms(tmp_path / "answers"))

    return make


def test_a_form(endpoint: Make, clip: Clip) -> None:
    with peer_server(lambda _: Says({"anger": 2})) as server:
        fields = {"language": "en", "options": {"fast": True}}
        peer = endpoint(server.url, audio={"field": "audio"}, fields=fields, scores={"anger": "/anger"})
        assert peer.score([clip]).scores.loc["c", "anger"] == 2
    parts = server.heard[0].parts
    assert parts["audio"][:2] == ("clip.wav", "audio/wav")
    assert parts["audio"][2][:4] == b"RIFF"
    assert parts["language"][2] == b"en"
    assert json.loads(parts["options"][2]) == {"fast": True}


def test_base64_within_json(endpoint: Make, clip: Clip) -> None:
    with peer_server(lambda _: Says({"anger": 2})) as server:
        audio = {"form": "base64", "field": "/input/0~1/data"}
        peer = endpoint(server.url, audio=audio, fields={"input": {"rate": 16000}}, scores={"anger": "/anger"})
        peer.score([clip])
    body = server.heard[0].json
    assert body["input"]["rate"] == 16000
    assert base64.b64decode(body["input"]["0/"]["data"])[:4] == b"RIFF"


def test_the_whole_body(endpoint: Make, clip: Clip) -> None:
    with peer_server(lambda _: Says({"anger": 2})) as server:
        endpoint(server.url, audio={"form": "raw", "content_type": "audio/x-wav"}, scores={"anger": "/anger"}).score(
            [clip]
        )
    assert server.heard[0].headers["content-type"] == "audio/x-wav"
    assert server.heard[0].body[:4] == b"RIFF"


def test_scores_are_found_and_brought_to_the_targets_scale(endpoint: Make, clip: Clip) -> None:
    answer = [{"label": "ang", "score": 0.25}, {"label": "hap", "score": 0.75}, {"label": "val", "score": 0.5}]
    scores = {
        "Anger": "/[label=ang]/score",
        "Elation": "/1/score",
        "valence": "/[label=val]/score",
    }
    with peer_server(lambda _: Says(answer)) as server:
        found = endpoint(server.url, scores=scores, scale=[0, 1]).score([clip]).scores.loc["c"]
        assert dict(found) == {"elation": 3.0, "anger": 1.0, "valence": 0.0}
        other = endpoint(server.url, scores={"anger": "/2/score"}, scale=[0, 1]).score([clip])
        assert other.scores.loc["c", "anger"] == 2
        one = endpoint(server.url, scores=scores, scale=[0, 1], targets=EMOTIONS.subset(["anger"]))
        assert one.target_spec.ids == ("anger",)
        one.score([clip])
        assert len(server.heard) == 1, "where scores are is read anew out of the answers that are kept"


@pytest.mark.parametrize(
    ("answer", "more", "reason"),
    [
        ({"anger": 9}, {}, "the score of anger is out of range: 9, expected 0 to 4"),
        ({"anger": 0.7}, {"scale": [1, 5]}, "out of range: 0.7, expected 1 to 5"),
        ({"anger": None}, {}, "no score of anger at /anger: null"),
        ({"anger": "3"}, {}, "no score of anger at /anger: 3"),
        ([], {}, "no score of anger at /anger"),
        (b'{"anger": NaN}', {}, "out of range: nan"),
        (b'{"anger": 1', {}, "the answer is no JSON"),
        ({"why": "no speech", "anger": 1}, {"refusal": "/why"}, "refused: no speech"),
        ({"why": {"code": 3}}, {"refusal": "/why"}, 'refused: {"code": 3}'),
    ],
)
def test_wrong_scales_and_missing_scores_are_refusals(
    endpoint: Make, clip: Clip, answer: Any, more: dict[str, Any], reason: str
) -> None:
    with peer_server(lambda _: Says(answer)) as server:
        scored = endpoint(server.url, scores={"anger": "/anger"}, **more).score([clip])
    assert reason in scored.refusals["c"]


def test_pointers() -> None:
    value = {"a/b": [{"n": 1}, {"n": 2, "m~": 5}], "": 7}
    assert found_at(value, "/a~1b/1/m~0") == 5
    assert found_at(value, "/a~1b/[n=2]/m~0") == 5
    assert found_at(value, "/") is value
    assert found_at(value, "a~1b/0/n") == 1
    for lost in ("/x", "/a~1b/2", "/a~1b/-1", "/a~1b/[n=3]", "/a~1b/0/n/deeper"):
        assert found_at(value, lost) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"url": "ftp://x"}, r"url: http:// or https:// and a host"),
        ({"url": "https://x/?api_key=abcdef"}, "secret in a URL"),
        ({"url": "https://me:abcdef@x/"}, "secret in a URL"),
        ({"url": "https://x/${KEY}"}, "secret in a URL"),
        ({"headers": {"Authorization": "Bearer abcdef"}}, r"Authorization holds a secret; write \$\{NAME\}"),
        ({"headers": {"X-Api-Key": "abcdef"}}, "X-Api-Key holds a secret"),
        ({"headers": {"X": "${not-a-name}"}}, r"X: \$\{NAME\} with a name"),
        ({"fields": {"inner": [{"api_key": "abcdef"}]}}, "api_key looks like a secret"),
        ({"fields": {"a": "${KEY}"}}, r"\$\{NAME\} is for headers"),
        ({"audio": {"form": "raw"}, "fields": {"a": 1}}, "no place for them"),
        ({"scale": [1, 1]}, "the first number is the lower one"),
        ({"scores": {}}, "scores: Dictionary should have at least 1 item"),
        ({"scores": {"angr": "/x"}}, "no target called 'angr'"),
        ({"speed": 3}, "speed: Extra inputs"),
        ({"calls": {"attempts": 0}}, r"calls\.attempts: Input should be greater than 0"),
    ],
)
def test_files_that_are_wrong(endpoint: Make, row: dict[str, Any], message: str) -> None:
    url = row.pop("url", "https://example.org")
    with pytest.raises(RequestError, match=message) as caught:
        endpoint(url, **{"scores": {"anger": "/anger"}, **row})
    assert "abcdef" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the peer's file describes none"):
        open_peer("http:")
    with pytest.raises(RequestError, match="the peer's file cannot be read"):
        open_peer(f"http:{tmp_path / 'none.yaml'}")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(RequestError, match=r"(?s)describes none.*a YAML file with url, model"):
        open_peer(f"http:{tmp_path / 'list.yaml'}")
    (tmp_path / "service.yaml").write_text("{model: m, key: sk-abcdef}")
    with pytest.raises(RequestError, match="key: String should match") as caught:
        open_peer(f"openai:{tmp_path / 'service.yaml'}")
    assert "abcdef" not in str(caught.value)
    (tmp_path / "service.yaml").write_text("{model: m, url: 'https://x/?key=abcdef'}")
    with pytest.raises(RequestError, match="url: a secret in a URL"):
        open_peer(f"openai:{tmp_path / 'service.yaml'}")


def test_an_endpoint_elsewhere_says_what_it_costs(endpoint: Make, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)http:peer\.invalid would cost more.*nobody knows how much for 1 clip"):
        endpoint("https://peer.invalid/x", scores={"anger": "/anger"}).score([clip])
