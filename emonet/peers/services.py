"""Services that are known: Gemini's generateContent, OpenAI's chat completions, Hume's expression measurement."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal, Self, final

from pydantic import Field, NonNegativeFloat, model_validator
from pydantic_core import PydanticCustomError

from emonet.errors import RequestError
from emonet.peers.calling import Manners, Reply, Request
from emonet.peers.costs import Price, known_prices
from emonet.peers.labels import open_labels
from emonet.peers.prompted import LATEST, brief_text, open_prompt, read_scores
from emonet.peers.remote import Service
from emonet.peers.secret_headers import wrong_url
from emonet.schema import Schema
from emonet.targets import TargetSpec

Kind = Literal["gemini", "openai", "hume"]
NO_JSON = "the answer is no JSON"


class ServiceSettings(Schema):
    """What the YAML file of a known service may set."""

    model: str = ""
    """As the service calls it, e.g. gemini-3.8-flash."""
    url: str = ""
    """Where it is, if not where its documentation says."""
    key: str = Field("", pattern=r"^([A-Z_][A-Z0-9_]*)?$", max_length=64)
    """The variable of the environment that holds the key: capital letters, digits and _."""
    prompt: str = LATEST
    """Version of the prompt, or a text file of one's own with {targets} in it."""
    labels: str = "hume"
    """Hume: what its labels stand for; a CSV file of one's own has the columns label and target."""
    price: Price | None = None
    """What an answer costs, where it is not known or has changed."""
    max_cost: NonNegativeFloat | None = None
    """What may be spent without asking (USD)."""
    calls: Manners = Manners()
    """How the service is called."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url and (why := wrong_url(self.url)) is not None:
            raise PydanticCustomError("url", "{told}", {"told": f"url: {why}"})
        return self


class _Prompted(Service):
    """A language model that is asked for all targets at once, and writes JSON."""

    def __init__(self, kind: Kind, settings: ServiceSettings, targets: TargetSpec) -> None:
        if not settings.model:
            raise RequestError(
                f"{kind} has many models", expected=f"{kind}:MODEL", found=f"{kind}", hint=f"emonet ... {kind}:MODEL"
            )
        self.name = f"{kind}:{settings.model}"
        self.target_spec, self.manners = targets, settings.calls
        self.price = settings.price or known_prices().get(settings.model)
        self._model, prompt = settings.model, open_prompt(settings.prompt)
        self._version, self._text = prompt.version, prompt.about(targets)
        self.letters = len(self._text)

    @property
    def asked(self) -> Any:
        """What fixes an answer."""
        return [self.name, self._version, self._text]


@final
class Gemini(_Prompted):
    """The Gemini API's `models.generateContent`, with the audio in the request (ai.google.dev/api/generate-content)."""

    def __init__(self, settings: ServiceSettings, targets: TargetSpec) -> None:
        super().__init__("gemini", settings, targets)
        base = settings.url or "https://generativelanguage.googleapis.com/v1beta"
        self.url = f"{base.rstrip('/')}/models/{settings.model}:generateContent"
        self._key = settings.key or "GEMINI_API_KEY"

    def request(self, wav: bytes) -> Request:
        """As documented."""
        audio = {"mimeType": "audio/wav", "data": base64.b64encode(wav).decode()}
        body = {
            "contents": [{"role": "user", "parts": [{"text": self._text}, {"inlineData": audio}]}],
            "generationConfig": {"temperature": 0, "responseMimeType": "application/json"},
        }
        return Request(self.url, {"x-goog-api-key": f"${{{self._key}}}"}, body)

    def read(self, text: str) -> list[float] | str:
        """Scores, or why there are none."""
        row = json_object(text)
        if row is None:
            return NO_JSON
        if (blocked := _at(row, "promptFeedback", "blockReason")) is not None:
            return f"refused: the prompt is blocked ({blocked})"
        reason = _at(row, "candidates", 0, "finishReason")
        parts = _at(row, "candidates", 0, "content", "parts")
        words = (
            [p.get("text") for p in parts or () if isinstance(p, dict) and not p.get("thought")] if _list(parts) else []
        )
        written = "".join(word for word in words if isinstance(word, str))
        if reason == "MAX_TOKENS":
            return "the answer is cut off (MAX_TOKENS)"
        if reason not in {"STOP", None}:
            return f"refused: {reason}"
        return read_scores(written, self.target_spec) if written else "refused: an empty answer"

    def hopeless(self, reply: Reply) -> str | None:
        """Google says HTTP 400 to a wrong key, too."""
        return "the key is not accepted" if "API_KEY_INVALID" in reply.text else None

    def output_tokens(self, text: str) -> float | None:
        """Those that are billed as output (count)."""
        use = _at(json_object(text), "usageMetadata")
        counts = [_at(use, name) for name in ("candidatesTokenCount", "thoughtsTokenCount")]
        return _sum(counts)


@final
class OpenAI(_Prompted):
    """OpenAI's chat completions with `input_audio`, as in developers.openai.com/api/docs/guides/audio, or alike."""

    def __init__(self, settings: ServiceSettings, targets: TargetSpec) -> None:
        super().__init__("openai", settings, targets)
        self.url = f"{(settings.url or 'https://api.openai.com/v1').rstrip('/')}/chat/completions"
        self._key = settings.key or "OPENAI_API_KEY"

    def request(self, wav: bytes) -> Request:
        """As documented."""
        audio = {"data": base64.b64encode(wav).decode(), "format": "wav"}
        content = [{"type": "text", "text": self._text}, {"type": "input_audio", "input_audio": audio}]
        body = {
            "model": self._model,
            "modalities": ["text"],
            "temperature": 0,
            "messages": [{"role": "user", "content": content}],
        }
        return Request(self.url, {"Authorization": f"Bearer ${{{self._key}}}"}, body)

    def read(self, text: str) -> list[float] | str:
        """Scores, or why there are none."""
        row = json_object(text)
        if row is None:
            return NO_JSON
        reason = _at(row, "choices", 0, "finish_reason")
        refusal, written = (_at(row, "choices", 0, "message", name) for name in ("refusal", "content"))
        if isinstance(refusal, str) and refusal:
            return f"refused: {brief_text(refusal)}"
        if reason == "content_filter":
            return "refused: content_filter"
        if reason == "length":
            return "the answer is cut off (length)"
        return read_scores(written, self.target_spec) if isinstance(written, str) and written else "an empty answer"

    def output_tokens(self, text: str) -> float | None:
        """Those that are billed as output (count)."""
        return _sum([_at(json_object(text), "usage", "completion_tokens")])


@final
class Hume(Service):
    """Hume's Expression Measurement API of October 2026 (dev.hume.ai/expression-measurement/reference/audio/measure).

    It hears utterances, and names the expressions that it judges present, each with a probability; those that it does
    not name count as 0. A clip's share of an expression is the mean over its measurements, by their length.
    """

    def __init__(self, settings: ServiceSettings, targets: TargetSpec | None) -> None:
        self._labels = open_labels(settings.labels).within(targets)
        self.target_spec, self.manners, self.price = self._labels.target_spec, settings.calls, settings.price
        self.name = "hume"
        self.url = f"{(settings.url or 'https://api.cloud.hume.ai').rstrip('/')}/v1/expression/audio/file"
        self._key = settings.key or "HUME_API_KEY"

    @property
    def asked(self) -> Any:
        """What fixes an answer."""
        return [self.name, "v1/expression"]

    def request(self, wav: bytes) -> Request:
        """As documented."""
        files = {"file": ("clip.wav", wav, "audio/wav")}
        return Request(self.url, {"X-Hume-Api-Key": f"${{{self._key}}}"}, files=files)

    def read(self, text: str) -> list[float] | str:
        """Scores, or why there are none."""
        row = json_object(text)
        if row is None:
            return NO_JSON
        measured = row.get("measurements")
        if not _list(measured):
            return "the answer has no measurements"
        if not measured:
            return "no speech was found"
        total, shares = 0.0, defaultdict[str, float](float)
        try:
            for one in measured:
                length = max(1.0, float(one["audio_end_ms"]) - float(one["audio_start_ms"]))
                total += length
                for score in one["expressions"]:
                    shares[str(score["name"])] += length * float(score["probability"])
        except (KeyError, TypeError, ValueError) as error:
            return f"the measurements are malformed: {type(error).__name__} {error}"
        return self._labels.scores({name: share / total for name, share in shares.items()})


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a body is; None if it is none."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _at(row: Any, *path: str | int) -> Any:
    """What is at the end of a path through objects and lists; None if it does not lead there."""
    for step in path:
        if isinstance(step, int):
            row = row[step] if isinstance(row, list) and -len(row) <= step < len(row) else None
        else:
            row = row.get(step) if isinstance(row, Mapping) else None
    return row


def _sum(counts: list[Any]) -> float | None:
    known = [float(one) for one in counts if isinstance(one, int | float) and not isinstance(one, bool)]
    return sum(known) if known else None
