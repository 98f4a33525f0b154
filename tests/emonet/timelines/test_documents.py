from __future__ import annotations

import json
from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.segments import Segment
from emonet.timelines import Timeline, read_timeline, timeline_from_json, timeline_to_json
from tests.emonet.timelines.timelines import scored, timeline

FULL = timeline(
    scored(0.1, 2 / 3, "Zoë", channel=1, text="hi", uncertainties={"anger": 0.1}, standardised={"anger": 1 / 3}),
    scored(1, 2, unfamiliarity=1.5, flags=("no speech", "unfamiliar"), caption="sounds\nangry"),
    speech=(Segment(0, 2),),
    notices=("telephone",),
    envelope=((-0.5, 0.25),),
    error="it breaks off",
)
SEGMENT = timeline_to_json(FULL)["segments"][0]
SCORES = SEGMENT["scores"]
FLAT = [one | {"high": one["low"]} for one in timeline_to_json(FULL)["targets"]]


@pytest.mark.parametrize("one", [FULL, timeline()], ids=["full", "empty"])
def test_a_timeline_comes_back_from_json(one: Timeline) -> None:
    text = json.dumps(timeline_to_json(one), allow_nan=False)
    assert timeline_from_json(json.loads(text)) == one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the timeline cannot be read"),
        ("[]", "the timeline cannot be read"),
        ("{}", "this is no timeline that can be read"),
        (json.dumps(timeline_to_json(FULL) | {"version": 2}), "in version 2"),
        (json.dumps(timeline_to_json(FULL) | {"segments": [{}]}), "the timeline is damaged"),
        (json.dumps(timeline_to_json(FULL) | {"envelope": 3}), "the timeline is damaged"),
        (json.dumps(timeline_to_json(FULL) | {"targets": 3}), "the timeline is damaged"),
        (json.dumps(timeline_to_json(FULL) | {"segments": [SEGMENT | {"start": "soon"}]}), "segments.0.segment.start"),
        (
            json.dumps(timeline_to_json(FULL) | {"segments": [SEGMENT | {"scores": SCORES | {"anger": []}}]}),
            "scores.anger",
        ),
        (json.dumps(timeline_to_json(FULL) | {"segments": [SEGMENT | {"scores": {"anger": 1}}]}), "no score of 'fear'"),
        (json.dumps(timeline_to_json(FULL) | {"targets": FLAT}), "'fear' has no scale"),
        (json.dumps(timeline_to_json(FULL) | {"segments": [SEGMENT | {"scores": {"wit": 1}}]}), "scores of 'wit'"),
        (json.dumps(timeline_to_json(FULL) | {"segments": [SEGMENT | {"flags": ["odd"]}]}), "segments.0.flags.0"),
    ],
)
def test_what_is_no_timeline_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=message):
        read_timeline(path)
    with pytest.raises(RequestError, match="the timeline cannot be read"):
        read_timeline(tmp_path / "missing.json")
