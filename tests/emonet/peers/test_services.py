from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from emonet.clips import Clip
from emonet.errors import EmonetError, RequestError
from emonet.peers import CostEstimate, Peer, Terms, open_peer
from emonet.targets import EMOTIONS, PUBLISHED
from tests.peer_servers import PeerServer, Says, peer_server

KEY = "sk-very/secret+4711"
TWO = EMOTIONS.subset(["anger", "fear"])
QUICK = {"attempts": 3, "first_wait": 0, "requests_per_minute": 60_000, "timeout": 20}
Open = Callable[..., Peer]


def gemini(text: str, reason: str = "STOP", **more: Any) -> dict[str, Any]:
    """As ai.google.dev/api/generate-content documents it."""
    content = {"parts": [{"text": "Let me listen.", "thought": True}, {"text": text}], "role": "model"}
    use = {"promptTokenCount": 90, "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "totalTokenCount": 140}
    return {"candidates": [{"content": content, "finishReason": reason, "index": 0}], "usageMetadata": use, **more}


def openai(text: str | None, reason: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    """As developers.openai.com/api/docs/api-reference/chat documents it."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    use = {"prompt_tokens": 120, "completion_tokens": 25, "total_tokens": 145}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": use}


def hume(*measured: tuple[int, int, dict[str, float]]) -> dict[str, Any]:
    """As dev.hume.ai/expression-measurement/reference/audio/measure documents it."""
    rows = [
        {
            "measurement_id": n,
            "utterance_id": 0,
            "audio_start_ms": start,
            "audio_end_ms": end,
            "trigger": "interval",
            "expressions": [{"name": name, "probability": share} for name, share in named.items()],
            "voice_attributes": [{"name": "clear", "probability": 0.9612}],
        }
        for n, (start, end, named) in enumerate(measured)
    ]
    spans = [{"utterance_id": 0, "audio_start_ms": 0, "audio_end_ms": 4000}]
    received = {"audio_duration_ms": 4000}
    return {"request_id": "r", "run_id": "u", "received": received, "utterances": spans, "measurements": rows}


@pytest.fixture
def clips(make_wav: Callable[..., Path]) -> list[Clip]:
    return [Clip(f"c{n}", make_wav(f"{n}.wav", seconds=0.5, hertz=200 + n), "s", "test") for n in range(3)]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A peer of this kind at this server; further settings, and terms."""
    for name in ("GEMINI_API_KEY", "OPENAI_API_KEY", "HUME_API_KEY"):
        monkeypatch.setenv(name, f"{KEY}\n")

    def make(kind: str, server: PeerServer, terms: Terms | None = None, **settings: Any) -> Peer:
        model = {} if kind == "hume" else {"model": "m-1"}
        row = {**model, "url": server.url, "price": {}, "calls": QUICK, **settings}
        path = tmp_path / f"{kind}.yaml"
        path.write_text(json.dumps(row))  # JSON is YAML
        targets = None if kind == "hume" else TWO
        return open_peer(f"{kind}:{path}", targets=targets, terms=terms or Terms(tmp_path / "answers"))

    return make


def check_wav(content: bytes) -> None:
    samples, rate = sf.read(io.BytesIO(content), dtype="int16")
    assert content[:4] == b"RIFF"
    assert (rate, samples.shape, sf.info(io.BytesIO(content)).subtype) == (16_000, (8000,), "PCM_16")
    assert np.abs(samples).max() > 5000


def test_gemini_is_asked_as_documented(opened: Open, clips: list[Clip]) -> None:
    with peer_server(lambda _: Says(gemini('{"anger": 3.5, "fear": 0}'))) as server:
        scored = opened("gemini", server).score(clips)
    assert scored.scores[["anger", "fear"]].to_numpy().tolist() == [[3.5, 0.0]] * 3
    assert not scored.refusals
    heard = server.heard[0]
    assert (heard.path, heard.headers["x-goog-api-key"]) == ("/models/m-1:generateContent", KEY)
    text, audio = heard.json["contents"][0]["parts"]
    assert "- anger (0 to 4): how strongly" in text["text"]
    assert "contempt" not in text["text"]
    assert audio["inlineData"]["mimeType"] == "audio/wav"
    check_wav(base64.b64decode(audio["inlineData"]["data"]))
    assert heard.json["generationConfig"] == {"temperature": 0, "responseMimeType": "application/json"}


def test_openai_is_asked_as_documented(opened: Open, clips: list[Clip]) -> None:
    written = 'Here you are:\n```json\n{"Anger": 1, "fear": 4.0, "calm": 9}\n```'
    with peer_server(lambda _: Says(openai(written))) as server:
        scored = opened("openai", server).score(clips)
    assert scored.scores[["anger", "fear"]].to_numpy().tolist() == [[1.0, 4.0]] * 3
    heard = server.heard[0]
    assert (heard.path, heard.headers["authorization"]) == ("/chat/completions", f"Bearer {KEY}")
    assert (heard.json["model"], heard.json["modalities"]) == ("m-1", ["text"])
    text, audio = heard.json["messages"][0]["content"]
    assert (text["type"], audio["type"], audio["input_audio"]["format"]) == ("text", "input_audio", "wav")
    check_wav(base64.b64decode(audio["input_audio"]["data"]))


def test_hume_is_asked_as_documented_and_mapped_by_the_papers_table_8(opened: Open, clips: list[Clip]) -> None:
    said = hume(
        (0, 3000, {"joy": 0.8, "anger": 0.2, "empathic pain": 1.0, "whimsy": 0.9}),
        (3000, 4000, {"joy": 0.4, "horror": 0.5, "fear": 0.25}),
    )
    with peer_server(lambda _: Says(said)) as server:
        peer = opened("hume", server)
        scored = peer.score(clips)
    row = scored.scores.loc["c0"]
    assert row["elation"] == pytest.approx(4 * (0.8 * 3 + 0.4) / 4), "by length"
    assert row["distress"] == pytest.approx(4 * 0.75)
    assert row["anger"] == pytest.approx(4 * 0.15)
    assert row["fear"] == pytest.approx(4 * 0.125), "of horror and fear the stronger one"
    assert row["sadness"] == 0, "what it does not name is not there"
    assert {"elation", "sexual_lust", "arousal"} < set(peer.target_spec.ids)
    assert not {"hope", "teasing", "bitterness"} & set(peer.target_spec.ids)
    heard = server.heard[0]
    assert (heard.path, heard.headers["x-hume-api-key"]) == ("/v1/expression/audio/file", KEY)
    name, kind, content = heard.parts["file"]
    assert (name, kind) == ("clip.wav", "audio/wav")
    check_wav(content)


def test_every_label_of_the_papers_table_8_is_mapped_as_there() -> None:
    import csv

    from emonet.peers.labels import open_labels
    from tests.conftest import ROOT

    table = ROOT.parent / "shared" / "reference" / "paper_table8_hume_mapping.csv"
    if not table.is_file():
        pytest.skip(f"no {table}")
    ours = open_labels("hume").labels
    with table.open() as file:
        for row in csv.DictReader(file):
            arousal = "arousal" if row["paper_target"] == "Arousal" else None
            assert ours.get(row["hume_label"].casefold()) == (row["emotion"] or arousal), row


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, r"refused: the prompt is blocked \(SAFETY\)"),
        ("gemini", gemini("", "PROHIBITED_CONTENT"), "refused: PROHIBITED_CONTENT"),
        ("gemini", gemini('{"anger": 1', "MAX_TOKENS"), r"cut off \(MAX_TOKENS\)"),
        ("gemini", {"candidates": []}, "refused: an empty answer"),
        ("gemini", {"candidates": [{"content": {"parts": ["x", {"text": 3}]}, "finishReason": "STOP"}]}, "empty answer"),
        ("gemini", gemini('{"anger": 1}'), "no score of fear"),
        ("gemini", gemini('{"anger": 1, "fear": 7}'), "fear is out of range: 7, expected 0 to 4"),
        ("gemini", gemini('{"anger": 1, "fear": "high"}'), "fear is no number: \"high\""),
        ("gemini", gemini('{"anger": 1, "fear": true}'), "fear is no number: true"),
        ("gemini", gemini('{"anger": NaN, "fear": 1}'), "anger is no number: NaN"),
        ("gemini", gemini('{"anger": 1, "Anger": 2, "fear": 1}'), "two scores of anger"),
        ("gemini", gemini("[1, 2]"), r"no JSON object in the answer: \[1, 2\]"),
        ("gemini", gemini("{" * 20_000), "no JSON object in the answer"),
        ("gemini", b'{"candidates": [', "the answer is no JSON"),
        ("gemini", [], "the answer is no JSON"),
        ("openai", openai(None, refusal="I'm sorry, but I can't\nrate voices."), "refused: I'm sorry, but I can't rate"),
        ("openai", openai("I can't help with that."), "no JSON object in the answer: I can't help"),
        ("openai", openai(None, "content_filter"), "refused: content_filter"),
        ("openai", openai('{"anger": 1', "length"), "cut off"),
        ("openai", openai(None), "an empty answer"),
        ("openai", {"choices": "none"}, "an empty answer"),
        ("openai", b"<html>busy</html>", "the answer is no JSON"),
        ("hume", hume(), "no speech was found"),
        ("hume", {"measurements": None}, "no measurements"),
        ("hume", {"measurements": [{"expressions": []}]}, "malformed: KeyError 'audio_end_ms'"),
        ("hume", hume((0, 10, {"joy": 7.0})), "a share out of range: joy 7, expected 0 to 1"),
    ],
)  # fmt: skip
def test_refusals_and_malformed_answers_are_told_and_kept(
    opened: Open, clips: list[Clip], kind: str, said: Any, reason: str
) -> None:
    with peer_server(lambda _: Says(said)) as server:
        peer = opened(kind, server)
        scored = peer.score(clips)
        assert set(scored.refusals) == {"c0", "c1", "c2"}
        assert scored.scores.isna().all(axis=None)
        assert re.search(reason, scored.refusals["c0"])
        assert "\n" not in scored.refusals["c0"]
        assert len(server.heard) == 3
        again = peer.score(clips)
    assert again.refusals == scored.refusals
    assert len(server.heard) == 3, "an answer that says nothing is an answer, too"


def test_answers_are_asked_for_once_and_read_again_without_calling_anybody(
    opened: Open, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with peer_server(lambda _: Says(gemini('{"anger": 1, "fear": 2}'))) as server:
        scored = opened("gemini", server).score(clips[:2])
        more = opened("gemini", server).score(clips)
        assert len(server.heard) == 3
        other = opened("gemini", server, prompt=str(_prompt(tmp_path)))
        other.score(clips[:1])
        assert len(server.heard) == 4, "another prompt is another question"
    monkeypatch.delenv("GEMINI_API_KEY")
    silent = opened("gemini", server, Terms(tmp_path / "answers", replay_only=True))
    assert silent.score(clips).scores.equals(more.scores)
    assert more.scores.iloc[:2].equals(scored.scores)
    unheard = opened("gemini", server, Terms(tmp_path / "nothing", replay_only=True)).score(clips)
    assert set(unheard.refusals.values()) == {"not asked: no answer is kept"}


def _prompt(folder: Path) -> Path:
    path = folder / "mine.txt"
    path.write_text("Rate, please: {targets}")
    return path


def test_the_same_sound_is_asked_for_once(opened: Open, clips: list[Clip], tmp_path: Path) -> None:
    twice = [clips[0], Clip("copy", clips[0].audio.read_bytes(), "s", "test")]  # type: ignore[union-attr]
    with peer_server(lambda _: Says(gemini('{"anger": 1, "fear": 2}'))) as server:
        scored = opened("gemini", server).score(twice)
    assert scored.scores[["anger", "fear"]].to_numpy().tolist() == [[1, 2], [1, 2]]
    assert len(server.heard) == 1


def test_clips_that_cannot_be_heard_are_refused_and_the_rest_is_done(
    opened: Open, clips: list[Clip], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    odd = [Clip("gone", tmp_path / "gone.wav", "s", "test"), Clip("broken", broken, "s", "test"), clips[0]]
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        scored = opened("openai", server).score(odd)
    assert "cannot be read" in scored.refusals["gone"]
    assert set(scored.refusals) == {"gone", "broken"}
    assert len(server.heard) == 1


def test_progress_counts_every_clip(opened: Open, clips: list[Clip]) -> None:
    told: list[tuple[int, int]] = []
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        peer = opened("openai", server)
        peer.score(clips[:1])
        peer.score(clips, progress=lambda done, total, note="": told.append((done, total)))
    assert told[0] == (1, 3)
    assert told[-1] == (3, 3)
    assert told == sorted(told)


def test_the_cost_is_estimated_and_nothing_is_sent_before_it_is_agreed_to(
    opened: Open, clips: list[Clip], tmp_path: Path
) -> None:
    asked: list[CostEstimate] = []
    terms = Terms(tmp_path / "answers", consent=lambda estimate: bool(asked.append(estimate)))
    price = {"per_minute": 6.0, "per_clip": 1.0, "as_of": "2026-11, a test"}
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        with pytest.raises(RequestError, match=r"(?s)would cost more.*at most 0.00.*about 3.15 US dollars for 3 clips"):
            opened("openai", server, price=price).score(clips)
        with pytest.raises(RequestError, match=r"at most 3\.00"):
            opened("openai", server, terms, price=price, max_cost=3).score(clips)
        with pytest.raises(RequestError, match="nobody knows how much"):
            opened("openai", server, price=None, max_cost=100).score(clips)
        assert str(opened("openai", server, price=price).estimate(clips)) == str(asked[0])
        assert not server.heard
        assert (asked[0].clips, asked[0].dollars) == (3, pytest.approx(3.15))
        assert "2026-11, a test" in str(asked[0])
        opened("openai", server, price=price, max_cost=3.2).score(clips)
        opened("openai", server, price=price).score(clips)
        assert len(server.heard) == 3, "what is kept costs nothing"
        assert opened("openai", server, price=price).estimate(clips) is None


def test_the_limit_is_of_all_clips_that_are_asked_for_on_the_same_terms(
    opened: Open, clips: list[Clip], tmp_path: Path
) -> None:
    """Benchmarks score block by block, condition by condition, service by service."""
    terms, price = Terms(tmp_path / "answers", max_cost=2.5), {"per_clip": 1.0}
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        peer = opened("openai", server, terms, price=price)
        peer.score(clips[:1])
        opened("openai", server, terms, price=price, prompt=str(_prompt(tmp_path))).score(clips[:1])
        with pytest.raises(RequestError, match=r"(?s)at most 2\.50.*about 2\.00 US dollars.*2\.00 spent before"):
            peer.score(clips)
    assert len(server.heard) == 2


def test_a_price_that_nobody_knows_needs_consent(opened: Open, clips: list[Clip], tmp_path: Path) -> None:
    asked: list[CostEstimate] = []
    terms = Terms(tmp_path / "answers", consent=lambda estimate: not asked.append(estimate))
    with peer_server(lambda _: Says(hume())) as server:
        opened("hume", server, terms, price=None).score(clips)
    assert (asked[0].dollars, asked[0].clips, round(asked[0].seconds, 1)) == (None, 3, 1.5)
    assert len(server.heard) == 3


def test_answers_that_are_longer_than_estimated_stop_at_the_limit(
    opened: Open, clips: list[Clip], tmp_path: Path
) -> None:
    price = {"per_million_output": 1e6, "output_tokens": 10}  # a dollar a token: 10 estimated, 25 written
    calls = {**QUICK, "parallel": 1}
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        peer = opened("openai", server, price=price, max_cost=32, calls=calls)
        with pytest.raises(EmonetError, match=r"(?s)limit of what may be spent is reached.*at most 32.*25.00 spent"):
            peer.score(clips)
        assert len(server.heard) == 1
        done = opened("openai", server, price=price, max_cost=100, calls=calls).score(clips)
    assert not done.refusals
    assert len(server.heard) == 3


def test_prices_that_are_known_say_when_they_were_looked_up() -> None:
    from emonet.peers.costs import known_prices

    for model, price in known_prices().items():
        assert re.match(r"20\d\d-\d\d, \S", price.as_of), model
        assert 0.0001 < price.of(10, 3000) < 0.1, model
    assert known_prices()["gpt-audio"].of(60, 0, 0) == pytest.approx(600 * 32 / 1e6)


@pytest.mark.parametrize("kind", ["gemini", "openai"])
def test_language_models_need_the_name_of_a_model(kind: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s)many models.*{kind}:MODEL"):
        open_peer(kind)
    peer = open_peer(f"{kind}:some-model")
    assert peer.target_spec.ids == EMOTIONS.ids
    assert peer.about["service"] == f"{kind}:some-model"


def test_targets_that_no_label_stands_for(opened: Open) -> None:
    assert open_peer("hume", targets=PUBLISHED.subset(["arousal", "hope"])).target_spec.ids == ("arousal",)
    with pytest.raises(RequestError, match=r"(?s)a label for none of the targets.*hope"):
        open_peer("hume", targets=EMOTIONS.subset(["hope"]))


def test_the_key_is_missing(opened: Open, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with peer_server(lambda _: Says(openai('{"anger": 1, "fear": 2}'))) as server:
        with pytest.raises(RequestError, match=r"(?s)OPENAI_API_KEY is not set.*export OPENAI_API_KEY"):
            opened("openai", server).score(clips)
        assert not server.heard
