"""Timelines over HTTP: each format, by header or by name, and recordings that are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from emonet import EmotionPipeline
from emonet.serving import EmotionServer
from emonet.timelines import FORMATS, TimelineOptions, curves, timeline_from_json, timeline_of

SLIDING = {"mode": "sliding", "window": "1.0"}


@pytest.fixture
def content(make_wav: Callable[..., Path]) -> bytes:
    return make_wav("interview.wav", seconds=4.2).read_bytes()


def ask(server: EmotionServer, content: bytes, accept: str = "*/*", **query: str) -> requests.Response:
    return requests.post(
        f"{server.address}/v1/timeline", files={"file": ("../x.wav", content)}, params=query,
        headers={"Accept": accept}, timeout=60,
    )  # fmt: skip


@pytest.mark.numeric
def test_the_timeline_is_that_of_the_library(
    server: EmotionServer, voice: Path, content: bytes, tmp_path: Path
) -> None:
    told = ask(server, content, **SLIDING, curves="0.5").json()
    curve = told.pop("curves")
    found = timeline_from_json(told)
    (tmp_path / "a.wav").write_bytes(content)
    pipeline = EmotionPipeline.from_folder(voice, device="cpu")
    wanted = timeline_of(pipeline, tmp_path / "a.wav", TimelineOptions(mode="sliding", window=1.0))
    assert (found.audio, found.model) == ("recording", "voice")
    assert [one.segment for one in found.segments] == [one.segment for one in wanted.segments]
    for one, same in zip(found.segments, wanted.segments, strict=True):
        assert one.scores == pytest.approx(dict(same.scores), abs=0.02)
    table = curves(wanted, 0.5)
    assert curve["seconds"] == table.index.tolist()
    assert curve["scores"]["anger"] == pytest.approx(table["anger"].tolist(), abs=0.02)


BEGINNINGS = {
    "json": b'{"format"', "csv": b"file,start", "parquet": b"PAR1", "html": b"<!", "png": b"\x89PNG", "vtt": b"WEBVTT",
    "srt": b"1\n", "eaf": b"<?xml", "TextGrid": b'File type = "ooTextFile"', "rttm": b"SPEAKER recording",
    "hume": b'[{"source": {"type": "file"',
}  # fmt: skip


@pytest.mark.slow
def test_every_format(server: EmotionServer, content: bytes) -> None:
    assert set(BEGINNINGS) == set(FORMATS)
    for name in FORMATS:
        answer = ask(server, content, format=name, **SLIDING)
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(BEGINNINGS[name]), name
        assert (
            answer.headers["content-disposition"]
            == f'attachment; filename="timeline.{name}{".json" * (name == "hume")}"'
        )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/vtt;q=0.9, application/json;q=0.5", "text/vtt; charset=utf-8"),
        ("text/*;q=0.3, image/png;q=0", "text/csv; charset=utf-8"),
        ("audio/x, */*;q=0.1", "application/json"),
    ],
)
def test_the_format_by_header(accept: str, kind: str, server: EmotionServer, content: bytes) -> None:
    assert ask(server, content, accept, **SLIDING).headers["content-type"] == kind


@pytest.mark.parametrize(
    ("query", "accept", "status", "told"),
    [
        ({"format": "docx"}, "*/*", 400, "format"),
        ({"threshold": "2"}, "*/*", 400, "threshold"),
        ({"unknown": "1"}, "*/*", 400, "unknown"),
        ({"mode": "sliding", "window": "9"}, "*/*", 400, "longer than what the model hears"),
        ({"captions": "true"}, "*/*", 501, "no captioner"),
        ({}, "text/csv;q=², application/pdf", 406, "not made in that format"),
    ],
)
def test_what_cannot_be_asked_for(
    query: dict[str, str], accept: str, status: int, told: str, server: EmotionServer, content: bytes
) -> None:
    answer = ask(server, content, accept, **query)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]


def test_recordings_that_are_refused(server: EmotionServer, strict_server: EmotionServer, make_wav: Any) -> None:
    broken = ask(server, b"no audio")
    assert (broken.status_code, "format not recognised" in broken.json()["error"]) == (422, True)
    long = ask(strict_server, make_wav("long.wav", seconds=6.1).read_bytes())
    assert (long.status_code, long.json()["error"]) == (413, "the recording is longer than 0.1 minutes")
    several = requests.post(f"{server.address}/v1/timeline", files=[("f", b"a"), ("f", b"b")], timeout=20)
    assert (several.status_code, several.json()["error"]) == (400, "a timeline is of one recording")


@pytest.mark.slow
def test_a_client_that_goes_away_ends_its_timeline(
    start_server: Callable[..., EmotionServer], make_wav: Any, content: bytes
) -> None:
    server = start_server(max_timelines=1)
    long = make_wav("long.wav", seconds=600).read_bytes()
    with pytest.raises(requests.Timeout):
        requests.post(f"{server.address}/v1/timeline?mode=sliding&hop=0.1", files={"f": long}, timeout=0.7)
    deadline = time.monotonic() + 10
    while server.service.timelines and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.service.timelines == 0
    began = time.monotonic()  # its one thread has stopped, too, and not after all 6,000 windows
    assert ask(server, content, **SLIDING).status_code == 200
    assert time.monotonic() - began < 15


def test_more_timelines_than_are_taken_on(start_server: Callable[..., EmotionServer], content: bytes) -> None:
    server = start_server()
    server.service.timelines = 2
    refused = ask(server, content)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    server.service.timelines = 0
    assert json.loads(ask(server, content, **SLIDING).content)["segments"]


def export(server: EmotionServer, timeline: object, sound: bytes | None = None, **query: str) -> requests.Response:
    document = timeline if isinstance(timeline, bytes) else json.dumps(timeline).encode()
    files = {"timeline": ("t.json", document)} | ({} if sound is None else {"file": ("a.wav", sound)})
    return requests.post(f"{server.address}/v1/export", files=files, params=query, timeout=60)


def test_a_timeline_becomes_another_format_without_being_heard_again(server: EmotionServer, content: bytes) -> None:
    told = ask(server, content, **SLIDING).json() | {"audio": "interview.wav"}
    assert export(server, told, format="csv").text.count("interview.wav,") == len(told["segments"])
    assert export(server, told, format="vtt").text.startswith("WEBVTT")
    assert export(server, told).json() == told
    answer = export(server, told, content, format="html")
    assert answer.headers["content-disposition"] == 'attachment; filename="timeline.html"'
    assert 'id="sound"' in answer.text
    assert 'id="sound"' not in export(server, told, format="html").text
    assert server.service.timelines == 0


@pytest.mark.parametrize(
    ("document", "status", "error"),
    [
        (b"{", 400, "the timeline is no JSON"),
        (b"[]", 400, "the timeline is no JSON object"),
        (b"{}", 400, "this is no timeline that can be read"),
        (b'{"seconds": Infinity}', 400, "Infinity is no number there"),
        (b'{"seconds": 1e999}', 400, "1e999 is no number there"),
        (b"[" * 100_000, 400, "the timeline is no JSON"),
        (b'{"a": ' + b" " * 24_000_000 + b"1}", 413, "the timeline is larger than 24 MB"),
    ],
)
def test_what_is_no_timeline_is_not_exported(server: EmotionServer, document: bytes, status: int, error: str) -> None:
    answer = export(server, document, format="csv")
    assert answer.status_code == status
    assert error in answer.json()["error"]


def test_exports_want_a_form_and_sound_that_can_be_decoded(
    server: EmotionServer, strict_server: EmotionServer, content: bytes, make_wav: Callable[..., Path]
) -> None:
    told = ask(server, content, **SLIDING).json()
    assert export(server, told, b"no audio", format="html").status_code == 422
    long = export(strict_server, told, make_wav("long.wav", seconds=7.0, rate=8_000).read_bytes(), format="html")
    assert (long.status_code, long.json()["error"]) == (413, "the recording is longer than 0.1 minutes")
    answer = requests.post(f"{server.address}/v1/export", json=told, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (415, "a form is expected")
    half = told | {"audio": "\ud800.wav"}
    assert "cannot be written as csv" in export(server, half, format="csv").json()["error"]
    first = told["segments"][0]
    scored = dict(list(first["scores"].items())[1:])
    assert export(server, told | {"segments": [{**first, "scores": scored}]}, format="vtt").status_code == 400
    flat = [{**one, "high": one["low"]} for one in told["targets"]]
    assert export(server, told | {"targets": flat}, format="hume").status_code == 400
    damaged = told | {"segments": [{**told["segments"][0], "scores": {"anger": "much"}}]}
    assert export(server, damaged, format="csv").json()["error"] == "the timeline is damaged"


def test_exports_open_no_file_that_a_client_names(server: EmotionServer, content: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    told = ask(server, content, **SLIDING).json() | {"audio": str(secret)}
    (source,) = [one["source"] for one in export(server, told, format="hume").json()]
    assert (source["filename"], source["md5sum"]) == ("secret", "")
    assert str(tmp_path) not in export(server, told, format="csv").text


def test_what_the_page_draws_comes_on_request(server: EmotionServer, content: bytes) -> None:
    told = ask(server, content, **SLIDING, view="true").json()
    view = told.pop("view")
    assert view["start"] == [one["start"] for one in told["segments"]]
    assert [one["id"] for one in view["targets"]] == [one["id"] for one in told["targets"]]
    assert "view" not in ask(server, content, **SLIDING).json()
