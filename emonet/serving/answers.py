"""Answers of the HTTP server, as models: what FastAPI documents is what is sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from emonet.schema import Schema

if TYPE_CHECKING:
    from emonet.inference import Prediction, StreamScore
    from emonet.serving.models import LoadedModel


class ModelFacts(Schema):
    """The model that has answered."""

    source: str
    """Registry URI, or folder."""
    version: int | None = None
    """In the registry."""

    @classmethod
    def of(cls, model: LoadedModel) -> ModelFacts:
        """Of a model in memory."""
        return cls(source=model.name, version=model.version)


class TargetFacts(Schema):
    """What is scored, and on which scale."""

    id: str
    """Key of its scores."""
    name: str
    """In English."""
    low: float
    """Lowest score."""
    high: float
    """Highest score."""
    ranked: bool
    """Whether it is an emotion, or a class, that is ranked among the others."""


class OfferedModel(Schema):
    """A model that a request may name."""

    name: str
    """As requests name it (`?model=`)."""
    source: str
    """Registry URI with its version, or folder."""
    version: int | None
    """In the registry."""
    loaded: str
    """When it was loaded (ISO 8601, UTC)."""
    window_seconds: float
    """How much of a recording it hears at once (seconds)."""
    targets: tuple[TargetFacts, ...]
    """In its order."""

    @classmethod
    def of(cls, name: str, model: LoadedModel) -> OfferedModel:
        """Of a model in memory."""
        spec = model.pipeline.target_spec
        return cls(
            name=name,
            **ModelFacts.of(model).model_dump(),
            loaded=model.since.isoformat(timespec="seconds"),
            window_seconds=model.pipeline.encoder.window.seconds,
            targets=tuple(
                TargetFacts(id=one.id, name=one.name, low=one.low, high=one.high, ranked=one.id in spec.ranked)
                for one in spec
            ),
        )


class ModelsAnswer(Schema):
    """What the server has."""

    models: tuple[OfferedModel, ...]
    """The first one answers where a request names none."""
    captions: bool
    """Whether there is a captioner."""


class ScoredRecording(Schema):
    """What was heard in one recording of a request."""

    index: int
    """Its place in the request, from 0."""
    id: str | None = None
    """As the request called it."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Target -> score: emotions, strongest first, then attributes and quality; empty where there is an error."""
    uncertainties: dict[str, float] = Field(default_factory=dict)
    """Target -> half-width of the score's interval; only of ensembles."""
    standardised: dict[str, float] = Field(default_factory=dict)
    """Target -> deviations above the median of the model's training clips, where it knows them."""
    unfamiliarity: float | None = None
    """Distance to what the model was trained on; 1 is as far as 99 % of its validation clips reach."""
    seconds: float | None = None
    """How much of it was heard (seconds)."""
    total_seconds: float | None = None
    """How long it is, where it says so (seconds)."""
    notices: tuple[str, ...] = ()
    """What should be known of its sound, a line each."""
    error: str | None = None
    """Why it could not be used."""

    @classmethod
    def of(cls, index: int, name: str | None, heard: Prediction) -> ScoredRecording:
        """Of a prediction."""
        if heard.error is not None:
            return cls(index=index, id=name, error=heard.error)
        return cls(
            index=index,
            id=name,
            scores=dict(heard.scores),
            uncertainties=dict(heard.uncertainties),
            standardised=dict(heard.standardised),
            unfamiliarity=heard.unfamiliarity,
            seconds=heard.seconds,
            total_seconds=None if math.isnan(heard.total) else heard.total,
            notices=heard.notices,
        )


class ScoreAnswer(Schema):
    """Scores of the recordings of a request, in its order."""

    model: ModelFacts
    """That has heard them."""
    results: tuple[ScoredRecording, ...]
    """One for each recording."""


class CaptionedRecording(Schema):
    """What the captioner writes about one recording of a request."""

    index: int
    """Its place in the request, from 0."""
    id: str | None = None
    """As the request called it."""
    caption: str = ""
    """How the speaker feels, in words."""
    seconds: float | None = None
    """How much of it was decoded (seconds); the captioner hears its window."""
    notices: tuple[str, ...] = ()
    """What should be known of its sound, a line each."""
    error: str | None = None
    """Why it could not be used."""


class CaptionAnswer(Schema):
    """Captions of the recordings of a request, in its order."""

    results: tuple[CaptionedRecording, ...]
    """One for each recording."""


class Problem(Schema):
    """Why a request was refused."""

    error: str
    """One sentence."""
    hint: str | None = None
    """What to do about it."""


class Health(Schema):
    """How the server is; without a token, where it wants one, only the status."""

    status: Literal["ok", "degraded", "stopping"]
    """degraded: it answers, but something needs its owner."""
    problems: tuple[str, ...] = ()
    """What needs its owner, a line each."""
    model: ModelFacts | None = None
    """That answers."""
    loaded: str | None = None
    """When it was loaded (ISO 8601, UTC)."""
    targets: tuple[str, ...] = ()
    """Ids of what it scores."""
    window_seconds: float | None = None
    """How much of a recording it hears (seconds)."""
    captions: bool | None = None
    """Whether there is a captioner."""


class HopScores(Schema):
    """A message of a live stream: what was heard in the last seconds."""

    type: Literal["scores"] = "scores"
    """Which message this is."""
    start: float
    """Of the window (seconds from the stream's first sample)."""
    end: float
    """Of the window (seconds)."""
    scores: dict[str, float]
    """Target -> score; empty where the window could not be used."""
    uncertainties: dict[str, float]
    """Target -> half-width of the score's interval; only of ensembles."""
    unfamiliarity: float | None
    """As in recordings."""
    notices: tuple[str, ...]
    """A line each."""
    error: str | None
    """Why the window could not be used."""
    late_s: float
    """From when the window's last sample had come until its scores were there (seconds)."""
    skipped: int
    """Hops before this one that were not scored, because sound came too fast (count)."""

    @classmethod
    def of(cls, heard: StreamScore) -> HopScores:
        """Of a stream's score."""
        return cls(
            start=heard.start,
            end=heard.end,
            scores=dict(heard.scores),
            uncertainties=dict(heard.uncertainties),
            unfamiliarity=heard.unfamiliarity,
            notices=heard.notices,
            error=heard.error,
            late_s=round(heard.late_s, 4),
            skipped=heard.skipped,
        )
