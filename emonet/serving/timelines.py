"""The paths `/v1/timeline` and `/v1/export`: who felt what when in a recording, in the format that is asked for."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from emonet.errors import AudioError, EmonetError, RequestError
from emonet.schema import Schema
from emonet.serving.bodies import BODY, EXPORTED, Recording, read_recordings
from emonet.serving.guards import GONE, Refusal, too_busy
from emonet.serving.models import LoadedModel
from emonet.serving.recordings import REFUSALS
from emonet.serving.service import Service, state_of
from emonet.timelines import Format

if TYPE_CHECKING:
    from emonet.audio import AudioInfo
    from emonet.timelines import Timeline

TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html; charset=utf-8",
    "png": "image/png",
    "vtt": "text/vtt; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "eaf": "application/xml",
    "TextGrid": "text/plain; charset=utf-8",
    "rttm": "text/plain; charset=utf-8",
    "hume": "application/json",
}
"""Format -> media type; those that two share are asked for by `format`."""
_DOCUMENT = 24_000_000  # bytes of a timeline's JSON: an hour of windows a second apart, with 57 targets
_NAME = "recording"  # of files; what a client calls them is no path here
router = APIRouter(prefix="/v1", responses=REFUSALS)


class ExportQuery(Schema):
    """What a timeline is to become."""

    format: Format | None = None
    """Of the answer; by default what the header Accept says, else json."""


class TimelineQuery(ExportQuery):
    """What of a recording is asked for."""

    model: str | None = None
    """Which of the server's models hears it; by default the first one."""
    mode: Literal["speech", "sliding"] = "speech"
    """speech: segments of speech, cut at silence; sliding: windows at equal distances."""
    channels: Literal["mix", "each"] = "mix"
    """mix: the channels' mean; each: every channel by itself, as a speaker of its own."""
    longest: float | None = Field(None, ge=0.5)
    """A segment is at most this long (seconds)."""
    window: float | None = Field(None, ge=0.2)
    """Length of sliding windows (seconds)."""
    hop: float | None = Field(None, ge=0.1)
    """From the start of one sliding window to that of the next (seconds)."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Probability above which there is speech (0 to 1)."""
    curves: float | None = Field(None, ge=0.05, le=60)
    """With JSON: the targets' curves at this distance, too (seconds)."""
    view: bool = False
    """With JSON: what the page draws, too."""
    captions: bool = False
    """A caption for each segment, where the server has a captioner."""


class _StoppedError(Exception):
    """Nobody waits for the timeline any more."""


_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"content": {kind.partition(";")[0]: {} for kind in TYPES.values()}}}


@router.post(
    "/timeline",
    openapi_extra=BODY,
    summary="Who felt what when in a recording",
    responses=_ANSWERS,
    response_class=Response,
)
async def timeline(request: Request, query: Annotated[TimelineQuery, Query()]) -> Response:
    """Segments of a recording of any length, with their scores, in one of eleven formats."""
    service = state_of(request.app)
    wanted = query.format or _accepted(request.headers.get("accept", ""))
    if query.captions:
        service.require_captions()
    model = service.loaded(query.model)
    (recording, *more) = await read_recordings(request, service.settings.max_recordings)
    if more:
        raise Refusal(400, "a timeline is of one recording", hint="ask once for each")
    stopped = threading.Event()
    with _one_more(service):
        try:
            make = _made(service, lambda: _make(service, model, query, wanted, recording, stopped))
            return _file(await _unless_gone(request, make), wanted)
        finally:
            stopped.set()


@router.post(
    "/export",
    openapi_extra=EXPORTED,
    summary="A timeline in another format",
    responses=_ANSWERS,
    response_class=Response,
)
async def export(request: Request, query: Annotated[ExportQuery, Query()]) -> Response:
    """A timeline that was answered as JSON, in another format, without hearing it again.

    The form has it as its first file; behind it may stand the recording, which a page (html) then holds.
    """
    service = state_of(request.app)
    wanted = query.format or _accepted(request.headers.get("accept", ""))
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refusal(415, "a form is expected", hint="curl -F timeline=@timeline.json -F file=@interview.wav ...")
    document, *sound = await read_recordings(request, 2)
    with _one_more(service):
        make = _made(service, lambda: _exported(service, document.source, sound[0].source if sound else None, wanted))
        return _file(await _unless_gone(request, make), wanted)


@contextmanager
def _one_more(service: Service) -> Iterator[None]:
    if service.timelines >= service.settings.max_timelines:
        raise too_busy(f"{service.timelines} timelines are made already")
    service.timelines += 1
    try:
        yield
    finally:
        service.timelines -= 1


def _file(content: bytes, wanted: Format) -> Response:
    from emonet.timelines import suffix_of

    name = f'attachment; filename="timeline.{suffix_of(wanted)}"'
    return Response(content, media_type=TYPES[wanted], headers={"Content-Disposition": name})


async def _made(service: Service, make: Callable[[], bytes]) -> bytes:
    try:
        return await service.in_long_thread(make)
    except AudioError as error:
        raise Refusal(422, error.reason) from error
    except RequestError as error:
        raise Refusal.of(error, 400) from error
    except EmonetError as error:
        raise Refusal.of(error, 503) from error
    except OSError as error:
        raise Refusal(507, f"the recording cannot be kept while it is heard: {error.strerror or error}") from error


async def _unless_gone(request: Request, work: Any) -> bytes:
    """The result of work; it is given up where the client goes away."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(GONE, "the client went away")
        return bytes(task.result())
    finally:
        for one in (task, gone):
            one.cancel()


def _make(
    service: Service,
    model: LoadedModel,
    query: TimelineQuery,
    wanted: Format,
    recording: Recording,
    stopped: threading.Event,
) -> bytes:
    """In a thread: the recording on disk, its timeline, and that in the format that is wanted."""
    from emonet.timelines import TimelineOptions, timeline_of

    given = {
        name: value
        for name in ("mode", "channels", "longest", "window", "hop", "threshold")
        if (value := getattr(query, name)) is not None
    }
    longest = given.get("longest", TimelineOptions().longest)
    options = TimelineOptions(**{**given, "shortest": min(TimelineOptions().shortest, longest)})
    with tempfile.TemporaryDirectory(prefix="emonet-") as scratch:
        folder = Path(scratch)
        opened = service.opened(recording.source)
        if isinstance(opened, AudioError):
            raise opened
        audio = opened if isinstance(opened, Path) else folder / _NAME
        if isinstance(opened, bytes):
            audio.write_bytes(opened)
        most = _most_seconds(service, audio, query.channels)

        def progress(completed: int, total: int, note: str = "") -> None:  # noqa: ARG001  # of the protocol
            if stopped.is_set():
                raise _StoppedError
            if completed > most:  # its header did not say how long it is
                raise _too_long(service)

        made = timeline_of(
            model.pipeline,
            audio,
            options,
            model=model.name,
            captions=service.captions if query.captions else None,
            progress=progress,
        )
        made = replace(made, audio=_NAME)
        return _json(made, query) if wanted == "json" else _written(made, wanted, folder, audio)


def _exported(service: Service, document: bytes | str, sound: bytes | str | None, wanted: Format) -> bytes:
    """In a thread: what the form has, in the format that is wanted."""
    from emonet.timelines import timeline_from_json

    if len(document) > _DOCUMENT:
        raise Refusal(413, f"the timeline is larger than {_DOCUMENT / 1e6:g} MB", hint="emonet timeline writes files")
    try:
        content = json.loads(document, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the timeline is no JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise Refusal(400, "the timeline is no JSON object")
    made = timeline_from_json(content)
    made = replace(made, audio=Path(made.audio).name)  # a name: no path of this machine
    with tempfile.TemporaryDirectory(prefix="emonet-") as scratch:
        audio = None
        if isinstance(sound, bytes):
            audio = Path(scratch) / _NAME
            audio.write_bytes(sound)
            if math.isnan(_looked_at(service, audio).seconds):
                raise Refusal(422, "the recording's header does not say how long it is", hint="without it: the curves")
        try:
            return _written(made, wanted, Path(scratch), audio)
        except (ValueError, KeyError, ArithmeticError) as error:  # halves of characters, say, or times beyond counting
            raise Refusal(400, f"the timeline cannot be written as {wanted}: {str(error)[:200]}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number there")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _most_seconds(service: Service, audio: Path, channels: str) -> float:
    """How much may be heard of a recording, of all channels together, which is not too long by its header."""
    info = _looked_at(service, audio)
    return 60 * service.settings.max_minutes * (info.channels if channels == "each" else 1)


def _looked_at(service: Service, audio: Path) -> AudioInfo:
    """What the header of a recording says, if that is not too long."""
    from emonet.audio import Excerpt, shared_decoders

    info = next(shared_decoders().probe([Excerpt(audio)]))
    if isinstance(info, AudioError):
        raise info
    if info.seconds > 60 * service.settings.max_minutes:
        raise _too_long(service)
    return info


def _too_long(service: Service) -> Refusal:
    return Refusal(
        413, f"the recording is longer than {service.settings.max_minutes:g} minutes", hint="send it in parts"
    )


def _written(made: Timeline, wanted: Format, folder: Path, audio: Path | None) -> bytes:
    from emonet.timelines import write_timeline

    (path,) = write_timeline(made, folder, "timeline", [wanted], audio)
    return path.read_bytes()


def _json(made: Timeline, query: TimelineQuery) -> bytes:
    from emonet.timelines import timeline_to_json, view_facts

    content = timeline_to_json(made)
    if query.view:
        content["view"] = view_facts(made)
    if query.curves is not None:
        content["curves"] = _curves(made, query.curves)
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _curves(made: Timeline, hop: float) -> dict[str, Any]:
    from emonet.timelines import curves

    table = curves(made, hop)
    values = {
        name: [None if math.isnan(value) else round(value, 4) for value in table[name].tolist()]
        for name in made.target_spec.ids
    }
    return {"hop": hop, "seconds": [round(second, 4) for second in table.index.tolist()], "scores": values}


def _accepted(header: str) -> Format:
    """The format that the header Accept wants most.

    Raises:
        Refusal: if it wants none that there is.
    """
    wanted: list[tuple[float, str]] = []
    for part in header.split(",") if header.strip() else ["*/*"]:
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        told = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        wanted.append((float(told) if told.replace(".", "", 1).isdecimal() else 0.0, kind))
    for weight, kind in sorted(wanted, key=lambda one: -one[0]):
        for name, there in TYPES.items():
            own = there.partition(";")[0]
            if weight > 0 and kind in (own, f"{own.partition('/')[0]}/*", "*/*"):
                return name
    raise Refusal(406, "timelines are not made in that format", hint=f"?format= {', '.join(TYPES)}")
