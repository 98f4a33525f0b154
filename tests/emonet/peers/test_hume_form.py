"""Hume's predictions JSON, against the models of its published Python client, and against the paper's Table 8."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from emonet.peers import HUME_NAMES, Utterance, hume_names, hume_source
from emonet.targets import EMOTIONS, PUBLISHED

TABLE_8 = Path(__file__).parents[4] / "shared" / "reference" / "paper_table8_hume_mapping.csv"
NONE = {
    "Admiration", "Adoration", "Anxiety", "Boredom", "Craving", "Determination", "Ecstasy", "Guilt",
    "Surprise (positive)", "Sympathy",
}  # fmt: skip


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


# As in hume's Python client of April 2026, expression_measurement.batch.types; nothing more than it knows.
class EmotionScore(Closed):
    name: str
    score: float


class TimeInterval(Closed):
    begin: float
    end: float


class ProsodyPrediction(Closed):
    text: str | None
    time: TimeInterval
    confidence: float | None
    speaker_confidence: float | None
    emotions: list[EmotionScore]


class Group(Closed):
    id: str
    predictions: list[ProsodyPrediction]


class Prosody(Closed):
    metadata: None
    grouped_predictions: list[Group]


class Models(Closed):
    prosody: Prosody


class InferencePrediction(Closed):
    file: str
    models: Models


class Error(Closed):
    message: str
    file: str


class Results(Closed):
    predictions: list[InferencePrediction]
    errors: list[Error]


class SourceFile(Closed):
    type: Literal["file"]
    filename: str
    content_type: str | None
    md5sum: str


class SourceResult(Closed):
    source: SourceFile
    results: Results


def checked(source: dict[str, Any]) -> SourceResult:
    """As Hume's own client would read it."""
    return SourceResult.model_validate(source)


def test_the_names_and_which_of_them_have_no_expert() -> None:
    assert len(HUME_NAMES) == len(set(HUME_NAMES)) == 48
    assert set(HUME_NAMES) - set(hume_names(PUBLISHED)) == NONE
    assert set(HUME_NAMES) - set(hume_names(EMOTIONS)) == {*NONE, "Excitement"}  # arousal is an attribute


def test_names_stand_for_what_the_papers_table_says() -> None:
    if not TABLE_8.is_file():
        pytest.skip(f"no table at {TABLE_8}")
    ours = hume_names(PUBLISHED)
    for row in csv.DictReader(TABLE_8.read_text().splitlines()):
        assert ours.get(row["hume_label"]) == (
            row["emotion"] or ("arousal" if row["paper_target"] == "Arousal" else None)
        )


def test_utterances_of_speakers_in_humes_form(tmp_path: Path) -> None:
    spec = PUBLISHED.subset(["anger", "distress", "arousal"])
    (tmp_path / "a.wav").write_bytes(b"sound")
    heard = [
        Utterance(0.0, 1.5, {"anger": 1.0, "distress": 4.4, "arousal": -0.1}, "anna", "no"),
        Utterance(2.0, 2.5, {"anger": 4.0, "distress": 0.0, "arousal": 2.0}),
        Utterance(3.0, 4.0, {"anger": 0.0, "distress": 0.0, "arousal": 4.0}, "anna"),
    ]
    read = checked(hume_source("a.wav", heard, spec, recording=tmp_path / "a.wav"))
    assert (read.source.filename, read.source.md5sum) == ("a.wav", hashlib.md5(b"sound").hexdigest())
    anna, unknown = read.results.predictions[0].models.prosody.grouped_predictions
    assert (anna.id, unknown.id, len(anna.predictions)) == ("anna", "unknown", 2)
    first = anna.predictions[0]
    assert (first.text, first.time.begin, first.time.end) == ("no", 0.0, 1.5)
    # Shares of the scale, cut where an expert leaves it; a name of Hume's for each, and none without an expert.
    assert {one.name: one.score for one in first.emotions} == {
        "Anger": 0.25, "Distress": 1.0, "Empathic Pain": 1.0, "Excitement": 0.0,
    }  # fmt: skip


def test_a_recording_that_cannot_be_used() -> None:
    read = checked(hume_source("nowhere/b.wav", [], EMOTIONS, "there is no sound in it"))
    assert read.results.predictions == []
    assert read.results.errors == [Error(message="there is no sound in it", file="b.wav")]
    assert read.source.md5sum == ""
