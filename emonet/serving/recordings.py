"""The paths `/v1/score` and `/v1/caption`: scores or captions, keyed by a recording's place in the request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from emonet.audio import Decoded
from emonet.errors import AudioError
from emonet.inference import Prediction
from emonet.serving.answers import CaptionAnswer, CaptionedRecording, ModelFacts, Problem, ScoreAnswer, ScoredRecording
from emonet.serving.batching import Ticket
from emonet.serving.bodies import BODY, Recording, read_recordings
from emonet.serving.models import LoadedModel
from emonet.serving.service import Service, WriteCaptions, refused_sources, state_of
from emonet.windows import PRETRAINED_SECONDS

WHY = {
    400: "a body or parameter that is wrong",
    401: "no token, or one that is not known",
    403: "a page that may not ask",
    408: "the body came too slowly",
    413: "too large, or too long",
    415: "a body of another type",
    421: "another host name",
    422: "no recording that can be used",
    429: "too much to do; Retry-After says when to ask again",
    503: "not ready in time",
}
REFUSALS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem, "description": why} for status, why in WHY.items()
}
R = TypeVar("R")
Model = Annotated[str | None, Query(description="Which of the server's models hears it; by default the first one.")]
router = APIRouter(prefix="/v1", responses=REFUSALS)


@router.post("/score", response_model=ScoreAnswer, openapi_extra=BODY, summary="Scores of recordings")
async def score(request: Request, model: Model = None) -> Response:
    """Scores of one or several recordings.

    Where several are sent, one that cannot be used has an `error`, and the others have their scores (status 200); where
    none can be used, the status is 422.
    """
    service = state_of(request.app)
    loaded = service.loaded(model)
    recordings = await read_recordings(request, service.settings.max_recordings)
    with service.scores.announce(len(recordings)) as ticket:
        results = await _all(_scored(service, loaded, one, ticket) for one in recordings)
    _count(service, [one.error for one in results])
    return _json(ScoreAnswer(model=ModelFacts.of(loaded), results=tuple(results)))


@router.post("/caption", response_model=CaptionAnswer, openapi_extra=BODY, summary="Captions of recordings")
async def caption(request: Request) -> Response:
    """What the captioner writes about each recording; 501 where the server has none."""
    service = state_of(request.app)
    write = service.require_captions()
    recordings = await read_recordings(request, service.settings.max_recordings)
    with service.texts.announce(len(recordings)) as ticket:
        results = await _all(_captioned(service, one, write, ticket) for one in recordings)
    _count(service, [one.error for one in results])
    return _json(CaptionAnswer(results=tuple(results)))


async def _all(each: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """All results, in order; the first error is raised once nothing is on its way any more."""
    found = await asyncio.gather(*each, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]


async def _scored(
    service: Service, model: LoadedModel, one: Recording, ticket: Ticket[Decoded, Prediction]
) -> ScoredRecording:
    sound = await service.decoded(one, model.pipeline.encoder.window.seconds)
    if isinstance(sound, AudioError):
        ticket.leave_out()
        return ScoredRecording(index=one.index, id=one.id, error=sound.reason)
    heard = await asyncio.wrap_future(ticket.submit(model.pipeline, sound))
    return ScoredRecording.of(one.index, one.id, heard)


async def _captioned(
    service: Service, one: Recording, write: WriteCaptions, ticket: Ticket[np.ndarray, str]
) -> CaptionedRecording:
    sound = await service.decoded(one, PRETRAINED_SECONDS)
    if isinstance(sound, AudioError):
        ticket.leave_out()
        return CaptionedRecording(index=one.index, id=one.id, error=sound.reason)
    text = await asyncio.wrap_future(ticket.submit(write, sound.samples))
    notices = tuple(notice.text for notice in sound.notices)
    return CaptionedRecording(
        index=one.index, id=one.id, caption=text, seconds=round(sound.seconds, 3), notices=notices
    )


def _count(service: Service, errors: Sequence[str | None]) -> None:
    """Count what became of recordings.

    Raises:
        Refusal: if none of them can be used.
    """
    told = [error for error in errors if error is not None]
    service.metrics.recordings.labels("refused").inc(len(told))
    service.metrics.recordings.labels("heard").inc(len(errors) - len(told))
    if len(told) == len(errors):
        raise refused_sources(told)


def _json(answer: ScoreAnswer | CaptionAnswer) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
