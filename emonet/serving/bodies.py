"""Bodies of requests: recordings out of forms, JSON or plain bytes, each by its place, whatever its file is called."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from emonet.schema import Schema
from emonet.serving.guards import Refusal

_PLAIN = ("audio/", "video/", "application/octet-stream")
_FIELDS = 16  # of a form, beside its files
_LONGEST_FIELD = 1 << 20  # bytes
_HINT = 'a form with files, JSON {"audio": BASE64} or {"recordings": [{"audio": BASE64}, ...]}, or audio itself'


@dataclass(frozen=True)
class Recording:
    """A recording of a request.

    Args:
        index: its place, from 0.
        id: as the request calls it, if it does.
        source: encoded audio, or text that `open_source` reads.
    """

    index: int
    id: str | None
    source: bytes | str


class NamedAudio(Schema):
    """A recording in JSON."""

    audio: str
    """Encoded audio in base64; or a path or URL, where the server allows them."""
    id: str | None = None
    """What the answer calls it."""


class AudioBody(Schema):
    """A body in JSON: one recording, or several."""

    audio: str | None = None
    """Encoded audio in base64; or a path or URL, where the server allows them."""
    id: str | None = None
    """What the answer calls it."""
    recordings: tuple[NamedAudio, ...] | None = None
    """Several recordings in place of one."""


def _schema() -> dict[str, Any]:
    schema = AudioBody.model_json_schema()
    parts = schema.pop("$defs")  # references within it would not be found in OpenAPI's document
    schema["properties"]["recordings"] = {"type": "array", "items": parts["NamedAudio"]}
    return schema


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {"schema": _schema()},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""What OpenAPI says of a body with recordings."""
_FILE = {"type": "string", "format": "binary"}
EXPORTED = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"timeline": _FILE, "file": _FILE}, "required": ["timeline"]}
            }
        },
    }
}
"""What OpenAPI says of a body with a timeline."""


async def read_recordings(request: Request, most: int) -> list[Recording]:
    """The recordings of a request.

    Args:
        request: whose body has not been read.
        most: recordings that it may have (count).

    Raises:
        Refusal: if it has none, or too many, or is none of the forms.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _of_form(request, most)
    elif kind == "application/json":
        found = await _of_json(request)
    elif kind.startswith(_PLAIN):
        body = await request.body()
        found = [Recording(0, None, body)] if body else []
    else:
        raise Refusal(415, f"bodies of type {kind[:80]!r} are not read" if kind else "no Content-Type", hint=_HINT)
    if not found:
        raise Refusal(422, "no recording in the request", hint=_HINT)
    if len(found) > most:
        raise Refusal(413, f"{len(found)} recordings in a request; at most {most} are taken", hint="ask several times")
    return found


async def _of_form(request: Request, most: int) -> list[Recording]:
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=most, max_fields=_FIELDS, max_part_size=_LONGEST_FIELD
    )
    try:
        form = await parser.parse()
    except Refusal:
        raise
    except (MultiPartException, KeyError) as error:
        why = error.message if isinstance(error, MultiPartException) else "it names no boundary"
        status = 413 if "Too many" in why else 400
        raise Refusal(status, f"the form cannot be read: {why}", hint=f"at most {most} files") from error
    try:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Recording(index, None, await upload.read()) for index, upload in enumerate(uploads)]
    finally:
        await form.close()


async def _of_json(request: Request) -> list[Recording]:
    body = await asyncio.to_thread(_parsed, await request.body())
    if body.recordings is None:
        return [] if body.audio is None else [Recording(0, body.id, body.audio)]
    if body.audio is not None or body.id is not None:
        raise Refusal(400, "the body has both one recording and several", hint=_HINT)
    return [Recording(index, one.id, one.audio) for index, one in enumerate(body.recordings)]


def _parsed(content: bytes) -> AudioBody:
    try:
        found: Any = json.loads(content)
        return AudioBody.model_validate(found)
    except ValidationError as error:
        raise Refusal(400, f"the body is {wrong_at(error)}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {str(error)[:200]}", hint=_HINT) from error


def wrong_at(error: ValidationError) -> str:
    """Where JSON of a client is wrong, and why, in words."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    what = "an object is expected" if first["type"] == "model_type" else first["msg"]
    return f"wrong at {place or 'its top'}: {what}"
