"""Any HTTP endpoint as a scorer, by a small YAML file: URL, headers, how the audio goes, where the scores are."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self, final
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, model_validator
from pydantic_core import PydanticCustomError

from emonet.errors import RequestError
from emonet.objects import is_loopback
from emonet.peers.calling import Manners, Request
from emonet.peers.costs import Price
from emonet.peers.remote import Service
from emonet.peers.secret_headers import wrong_fields, wrong_headers, wrong_url
from emonet.peers.services import NO_JSON
from emonet.schema import Schema
from emonet.targets import TargetSpec, open_targets

_ITEM = re.compile(r"\[([^=\]]+)=([^\]]*)\]")
_SLACK = 1e-6  # of a scale's width: rounding in the answer


class Sending(Schema):
    """How the audio goes: WAV, 16 kHz, mono, 16 bit, at most 30 s."""

    form: Literal["multipart", "base64", "raw"] = "multipart"
    """As a file of a form, as base64 within JSON, or as the whole body."""
    field: str = Field("file", min_length=1)
    """Name of the form's part, or JSON pointer of the place (/audio/data; a name alone is a pointer, too)."""
    content_type: str = "audio/wav"
    """That the part, or the body, is called."""


class EndpointSettings(Schema):
    """The YAML file of an endpoint."""

    url: str
    """Where the audio is posted."""
    model: str = ""
    """Name and version, which tell its answers from those of another one at the same URL."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Of each request; ${NAME} stands for a variable of the environment."""
    audio: Sending = Sending()
    """How the audio goes."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the form, or members of the JSON object."""
    targets: str = "published"
    """The set that the targets below are of, or a YAML file of one's own."""
    scores: dict[str, str] = Field(min_length=1)
    """Target -> JSON pointer of its score in the answer; /[label=angry]/score is the item of a list by what it says."""
    scale: tuple[float, float] | None = None
    """The lowest and the highest score of the answer, which become those of the target; by default its own scale."""
    refusal: str | None = None
    """JSON pointer of a reason: where something stands there, the clip is refused."""
    price: Price | None = None
    """What an answer costs; {} is nothing. An endpoint of this machine costs nothing by itself."""
    max_cost: NonNegativeFloat | None = None
    """What may be spent without asking (USD)."""
    calls: Manners = Manners()
    """How the endpoint is called."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wrong = {
            "url": wrong_url(self.url),
            "headers": wrong_headers(self.headers),
            "fields": wrong_fields(self.fields),
        }
        if self.audio.form == "raw" and self.fields:
            wrong["fields"] = "where the audio is the whole body, there is no place for them"
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            wrong["scale"] = "the first number is the lower one"
        for name, why in wrong.items():
            if why is not None:
                raise PydanticCustomError("endpoint", "{told}", {"told": f"{name}: {why}"})
        return self


@final
class Endpoint(Service):
    """An endpoint that a file describes.

    Args:
        settings: of the file.
        targets: of which it scores those that it can; None is all.

    Raises:
        RequestError: if a target is unknown, or none of those that are wanted is scored.
    """

    def __init__(self, settings: EndpointSettings, targets: TargetSpec | None) -> None:
        known = open_targets(settings.targets)
        places = {known[name].id: place for name, place in settings.scores.items()}
        wanted = known.subset(places)
        if targets is not None:
            wanted = TargetSpec(tuple(one for one in wanted if one.id in targets.ids))
            if not wanted.targets:
                raise RequestError(
                    "this endpoint scores none of the targets", expected=", ".join(places), found=targets.summary
                )
        self._settings, self._places = settings, places
        self.target_spec, self.manners, self.url = wanted, settings.calls, settings.url
        here = is_loopback(urlsplit(settings.url).hostname or "")
        self.price = Price() if settings.price is None and here else settings.price
        self.name = f"http:{settings.model or urlsplit(settings.url).netloc}"

    @property
    def asked(self) -> Any:
        """What fixes an answer; where its scores are is read anew each time."""
        s = self._settings
        return [self.name, s.audio.model_dump(), s.fields]

    @property
    def read_by(self) -> Any:
        """Where scores and refusals are, and on which scale."""
        return [self._places, self._settings.scale, self._settings.refusal]

    @property
    def headers(self) -> Mapping[str, str]:
        """As the file says."""
        return self._settings.headers

    def request(self, wav: bytes) -> Request:
        """The audio, in the form that the file says."""
        s, form = self._settings, self._settings.audio.form
        if form == "raw":
            return Request(self.url, {"Content-Type": s.audio.content_type, **s.headers}, wav)
        if form == "base64":
            body = copy.deepcopy(s.fields)
            _put(body, s.audio.field, base64.b64encode(wav).decode())
            return Request(self.url, s.headers, body)
        fields = {name: (None, _plain(value), "text/plain") for name, value in s.fields.items()}
        return Request(self.url, s.headers, files={**fields, s.audio.field: ("clip.wav", wav, s.audio.content_type)})

    def read(self, text: str) -> list[float] | str:
        """Scores on the targets' scales."""
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return NO_JSON
        if self._settings.refusal is not None and (why := found_at(answer, self._settings.refusal)):
            return f"refused: {_plain(why)}"
        found = []
        for target in self.target_spec:
            value = found_at(answer, self._places[target.id])
            if isinstance(value, bool) or not isinstance(value, int | float):
                return f"no score of {target.id} at {self._places[target.id]}: {_plain(value)[:80]}"
            low, high = self._settings.scale or (target.low, target.high)
            share = (value - low) / (high - low)
            if not -_SLACK <= share <= 1 + _SLACK:  # nor is NaN
                return f"the score of {target.id} is out of range: {value:g}, expected {low:g} to {high:g}"
            found.append(target.low + min(1.0, max(0.0, share)) * (target.high - target.low))
        return found


def found_at(value: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to, None if nothing; `[name=text]` is the first such item of a list."""
    for step in _steps(pointer):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and (by := _ITEM.fullmatch(step)):
            value = next((one for one in value if isinstance(one, dict) and str(one.get(by[1])) == by[2]), None)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _put(body: dict[str, Any], pointer: str, value: str) -> None:
    *above, last = _steps(pointer)
    for step in above:
        body = body.setdefault(step, {})
    body[last] = value


def _steps(pointer: str) -> list[str]:
    path = pointer.removeprefix("/")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")] if path else []


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
