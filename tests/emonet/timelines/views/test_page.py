from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from emonet.errors import AudioError
from emonet.names import as_text
from emonet.segments import Segment
from emonet.targets import EMOTIONS
from emonet.timelines import ScoredSegment, write_page
from emonet.timelines.views import page as writing
from emonet.timelines.views import view_facts
from tests.emonet.timelines.views.made import HOSTILE, long, small

ANGER = EMOTIONS.index("anger")


class Page(HTMLParser):
    """What a page holds: scripts by their id, words, and references."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.references: list[str] = []
        self.policy = self.words = self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inside = tag
        if tag == "script":
            self.scripts.append((found, ""))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        assert not [name for name in found if name.startswith("on")]
        self.references += [value for name, value in attrs if name in {"href", "src"} and value]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.words += data

    @property
    def facts(self) -> dict[str, Any]:
        (text,) = [text for about, text in self.scripts if about.get("id") == "timeline"]
        facts: dict[str, Any] = json.loads(text)
        return facts


def test_names_and_captions_are_text_whatever_is_in_them(tmp_path: Path) -> None:
    page = Page(write_page(tmp_path / "page.html", small()).read_text("utf-8"))
    assert len(page.scripts) == 2, "a name with a script in it is text"
    facts = page.facts
    assert facts["speakers"] == [as_text(HOSTILE), "B"]
    assert facts["caption"] == [f"They are furious. {as_text(HOSTILE)}", "", ""]
    assert facts["text"] == ["hello", "", ""]
    assert f"clipping: {as_text(HOSTILE)}" in page.words
    assert "12 s, 3 segments of 2 speakers, scored by ravdess-base" in page.words


def test_the_page_needs_nothing_else_and_runs_no_other_script(tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", small()).read_text("utf-8")
    page = Page(text)
    assert page.references == ["data:,"]
    assert "@import" not in text
    assert "url(" not in text
    (script,) = [script for about, script in page.scripts if not about]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page.policy


def test_numbers_are_columns_and_what_is_not_known_is_null(tmp_path: Path) -> None:
    made = small()
    first = replace(made.segments[0], scores={**made.segments[0].scores, "fear": math.nan}, unfamiliarity=None)
    facts = Page(
        write_page(tmp_path / "page.html", replace(made, segments=(first, *made.segments[1:]))).read_text()
    ).facts
    assert facts["start"] == [0.5, 4.0, 7.5]
    assert facts["end"] == [3.5, 7.0, 11.0]
    assert facts["speaker"] == [0, 1, 0]
    assert facts["flags"] == [[], [], ["no speech", "unfamiliar"]]
    assert facts["scores"][ANGER] == [2.5, 0.5, 3.9]
    assert facts["standardised"][ANGER] == [9.0, 1.0, 14.6]
    assert facts["uncertainties"][ANGER] == [0.3, 0.3, 0.3]
    assert facts["scores"][EMOTIONS.index("fear")] == [None, 3.1, 0.1]
    assert facts["unfamiliarity"] == [None, 0.8, 1.1]
    assert facts["speech"] == [[0.4, 7.1], [7.5, 11.0]]
    assert len(facts["envelope"]) == 2 * 600
    assert min(facts["envelope"]) >= -127
    assert max(facts["envelope"]) == pytest.approx(0.8 * 127, abs=1)
    assert facts["chosen"][:2] == [EMOTIONS.index("fear"), ANGER], "the flagged segment does not count"


def test_what_a_model_does_not_say_is_not_there() -> None:
    bare = tuple(replace(one, standardised={}, uncertainties={}, unfamiliarity=None) for one in small().segments)
    facts = view_facts(small(segments=bare, speech=None, envelope=()))
    assert facts["standardised"] is facts["uncertainties"] is facts["speech"] is None
    assert facts["unfamiliarity"] == [None] * 3


def test_a_timeline_without_segments_has_a_page(tmp_path: Path) -> None:
    made = small(segments=(), envelope=(), speech=(), seconds=math.nan, error="the file is cut short")
    page = Page(write_page(tmp_path / "page.html", made).read_text("utf-8"))
    assert page.facts["seconds"] > 0
    assert page.facts["scores"] == [[]] * 40
    assert "0 segments" in page.words
    assert "It ends before the recording does: the file is cut short" in page.words


def test_channels_are_lanes(tmp_path: Path) -> None:
    spans = [(0, "", 0), (1, "", 1), (2, "A", 0), (3, "B", 0), (4, "B", 1)]
    rows = tuple(ScoredSegment(Segment(at, at + 1, who, channel), {"anger": 1.0}) for at, who, channel in spans)
    facts = Page(write_page(tmp_path / "page.html", small(segments=rows)).read_text("utf-8")).facts
    assert facts["speakers"] == ["channel 1", "channel 2", "A", "B, channel 1", "B, channel 2"]


def test_the_sound_is_within_the_page_and_in_time(tmp_path: Path, make_wav: Callable[..., Path]) -> None:
    recording = make_wav("a.wav", seconds=3.0, rate=44_100)
    samples, rate = sf.read(recording)
    samples[:rate] = 0  # the sound begins at 1 s
    sf.write(recording, samples, rate)
    page = Page(write_page(tmp_path / "page.html", small(seconds=3.0), audio=recording).read_text("utf-8"))
    (sound,) = [text for about, text in page.scripts if about.get("id") == "sound"]
    heard, rate = sf.read(io.BytesIO(base64.b64decode(sound)))
    assert (rate, len(heard)) == (16_000, 48_000)
    assert int(np.argmax(np.abs(heard) > 0.1)) == pytest.approx(16_000, abs=100), "no delay of the codec"
    assert page.facts["sound"] == ""


def test_a_long_recording_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wav: Callable[..., Path]
) -> None:
    monkeypatch.setattr(writing, "LONGEST", 2.0)
    name = os.fsdecode(b"50 % of #1? \xe4.wav")
    recording = make_wav("a.wav", seconds=3.0)
    recording = recording.rename(recording.with_name(name))
    (tmp_path / "pages").mkdir()
    page = Page(write_page(tmp_path / "pages" / "page.html", small(seconds=3.0), audio=recording).read_text("utf-8"))
    assert page.facts["sound"] == "../50%20%25%20of%20%231%3F%20%E4.wav"
    assert len(page.scripts) == 2


def test_a_recording_that_cannot_be_decoded_leaves_the_former_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("former")
    with pytest.raises(AudioError, match=re.escape("missing.wav")):
        write_page(page, small(), audio=tmp_path / "missing.wav")
    assert page.read_text() == "former"


def test_a_long_waveform_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PARTS", 1000)
    made = long(hours=1.0, count=50)
    path = write_page(tmp_path / "page.html", replace(made, envelope=((0.0, 0.0),) * 5000 + ((-1.0, 0.5),)))
    envelope = Page(path.read_text("utf-8")).facts["envelope"]
    assert len(envelope) == 2000
    assert envelope[-2:] == [-127, 64], "no extreme is lost"
