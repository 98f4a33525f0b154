"""Client of the HTTP server: `EmotionClient(url).score("interview.wav")`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, final
from urllib.parse import urlsplit

import numpy as np
import requests
from requests.auth import AuthBase

from emonet.errors import AudioError, EmonetError, RequestError, brief
from emonet.objects import is_loopback

_MESSAGE = 1 << 18  # bytes of samples: the server takes four times as many in one
RETRIES = 5  # of what the server is too busy for
_BUSY = frozenset({429, 503})
_UNUSABLE = 422
_TYPES = {"int16": "s16le", "float32": "f32le", "float64": "f32le"}
_NAMES = {"s16le": "int16", "f32le": "float32"}
_Audio = Path | str | bytes


@final
class EmotionClient:
    """Asks a server that `emonet serve` has started; a context manager.

    A server that is too busy is asked again after as long as it says, five times.

    Args:
        url: of the server, such as `http://127.0.0.1:5001`.
        token: that it wants, if it wants one.
        timeout: how long an answer may take (seconds).

    Raises:
        RequestError: if the URL is none.

    Example:
        >>> client = EmotionClient("http://127.0.0.1:5001")  # doctest: +SKIP
        >>> client.score("interview.wav")["scores"]  # doctest: +SKIP
        {'elation': 2.31, 'amusement': 1.08, ...}
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 300) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError("this is no URL of a server", expected="http://127.0.0.1:5001", found=url)
        self._url, self._timeout, self._token = url.rstrip("/"), timeout, token
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(parts.hostname)  # no proxy between us and this machine
        self._session.auth = _Bearer(token)

    def __enter__(self) -> EmotionClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def health(self) -> dict[str, Any]:
        """How the server is, and which model it serves."""
        return _object(self._asked("GET", "/health").content, self._url)

    def models(self) -> list[dict[str, Any]]:
        """The models that the server has, as `model` names them; the first one answers where none is named."""
        found = _object(self._asked("GET", "/v1/models").content, self._url).get("models")
        if not isinstance(found, list):
            raise _no_answer(self._url, "a list of models", found)
        return found

    def score(self, audio: _Audio, *, model: str | None = None) -> dict[str, Any]:
        """What is heard in one recording: `scores`, `notices`, `seconds` and more (docs/serving.md).

        Args:
            audio: a file, or the encoded bytes of one.
            model: one of `models()`.

        Raises:
            AudioError: if it cannot be used.
            RequestError: if it cannot be read, or the server refuses the request.
            EmonetError: if there is no answer.
        """
        return self._results("/v1/score", [audio], {"model": model})[0]

    def score_many(self, audio: Sequence[_Audio], *, model: str | None = None) -> list[dict[str, Any]]:
        """What is heard in several recordings, in their order; one that cannot be used has an `error`.

        Args:
            audio: files, or the encoded bytes of them.
            model: one of `models()`.

        Raises:
            AudioError: if none of them can be used.
            RequestError: if one cannot be read, or the server refuses the request.
            EmonetError: if there is no answer.
        """
        return self._results("/v1/score", audio, {"model": model}) if audio else []

    def caption(self, audio: _Audio) -> str:
        """How the speaker of a recording feels, in words.

        Raises:
            AudioError: if it cannot be used.
            RequestError: if it cannot be read, or the server has no captioner.
            EmonetError: if there is no answer.
        """
        return str(self._results("/v1/caption", [audio])[0]["caption"])

    def timeline(self, audio: _Audio, **options: Any) -> dict[str, Any]:
        """Who felt what when: the timeline as JSON has it (`emonet.timelines.timeline_from_json` reads it).

        Args:
            audio: a file, or the encoded bytes of one.
            options: `model`, `mode`, `channels`, `longest`, `window`, `hop`, `threshold`, `curves`, `captions`.

        Raises:
            AudioError: if it cannot be used.
            RequestError: if it cannot be read, or the server refuses the request.
            EmonetError: if there is no answer.
        """
        return _object(self.timeline_file(audio, "json", **options), self._url)

    def timeline_file(self, audio: _Audio, format: str, **options: Any) -> bytes:  # noqa: A002  # as the server has it
        """A timeline as a file of `emonet timeline`: csv, parquet, html, png, vtt, srt, eaf, TextGrid, rttm, hume."""
        return bytes(self._posted("/v1/timeline", [audio], {"format": format, **options}).content)

    def export(self, timeline: Mapping[str, Any], format: str, audio: _Audio | None = None) -> bytes:  # noqa: A002
        """A timeline that `timeline` has answered, as a file of another format, without hearing the recording again.

        Args:
            timeline: as it came, with whatever was changed in it.
            format: as of `timeline_file`.
            audio: the recording, which a page (html) then holds.

        Raises:
            AudioError: if the recording cannot be used.
            RequestError: if it cannot be read, the timeline is no JSON, or the server refuses the request.
            EmonetError: if there is no answer.
        """
        try:
            document = json.dumps(dict(timeline), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise RequestError(
                "the timeline is no JSON", found=error, hint="numbers of Python; null in place of NaN"
            ) from error
        content = [document, *([] if audio is None else [audio])]
        return bytes(self._posted("/v1/export", content, {"format": format}).content)

    def stream(
        self,
        rate: int,
        *,
        hop: float = 1.0,
        window: float | None = None,
        lossless: bool = False,
        model: str | None = None,
    ) -> ClientStream:
        """Score live sound; a context manager.

        Args:
            rate: of the samples that will be fed (Hz).
            hop: between two scores (seconds).
            window: that each score hears (seconds); None is as much as the model hears.
            lossless: score every hop; else the latest one, where sound comes too fast.
            model: one of `models()`.

        Raises:
            RequestError: if the server refuses the stream.
            EmonetError: if there is no server.
        """
        start = {"rate": rate, "hop": hop, "window": window, "lossless": lossless, "model": model}
        url = self._url.replace("http", "ws", 1) + "/v1/stream"
        return ClientStream(url, self._token, start, self._timeout)

    def _results(
        self, path: str, audio: Sequence[_Audio], query: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        found = _object(self._posted(path, audio, query).content, self._url).get("results")
        if not isinstance(found, list) or len(found) != len(audio):
            raise _no_answer(self._url, f"{len(audio)} results", found)
        return found

    def _posted(self, path: str, audio: Sequence[_Audio], query: Mapping[str, Any] | None = None) -> requests.Response:
        with _parts(audio) as files:
            return self._asked("POST", path, files=files, params=_spelled(query or {}))

    def _asked(self, method: str, path: str, **content: Any) -> requests.Response:
        for attempt in range(RETRIES + 1):
            try:
                answer = self._session.request(
                    method, self._url + path, timeout=self._timeout, allow_redirects=False, **content
                )
            except requests.RequestException as error:
                raise EmonetError("the server does not answer", where=self._url, found=error) from error
            wait = answer.headers.get("Retry-After", "")
            if answer.status_code in _BUSY and wait.isdecimal() and attempt < RETRIES:
                time.sleep(min(int(wait), self._timeout))
                for _, (_, file) in content.get("files") or ():
                    if not isinstance(file, bytes):
                        file.seek(0)
                continue
            return _checked(answer)
        raise AssertionError


@final
class ClientStream:
    """Live sound to a server; made by `EmotionClient.stream`.

    Args:
        url: of the WebSocket.
        token: that the server wants, if any.
        start: the first message.
        timeout: how long the server may say nothing where an answer is due (seconds).
    """

    def __init__(self, url: str, token: str | None, start: Mapping[str, Any], timeout: float) -> None:
        from websockets.exceptions import InvalidHandshake
        from websockets.sync.client import connect

        self._url, self._timeout, self._kind = url, timeout, ""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._start, self._ended = dict(start), False
        self._opened = ExitStack()
        try:
            opened = connect(
                url, additional_headers=headers, open_timeout=timeout, max_size=1 << 20, compression=None,
                proxy=None if is_loopback(urlsplit(url).hostname or "") else True,
            )  # fmt: skip
            self._socket = self._opened.enter_context(opened)
        except InvalidHandshake as error:
            raise RequestError("the server refuses the stream", where=url, found=error) from error
        except (OSError, TimeoutError) as error:
            raise EmonetError("the server does not answer", where=url, found=error) from error

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._opened.close()

    def feed(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Send some more samples, however many; returns the scores that have come since the last call.

        Args:
            samples: int16 or float, of shape (n,) or (n, channels); all of a stream are of one type.

        Raises:
            RequestError: if they are of another type or number of channels, or the stream has ended.
            EmonetError: if the connection breaks.
        """
        if self._ended:
            raise RequestError("the stream has ended", where=self._url, hint="open another: client.stream(rate)")
        kind = _TYPES.get(samples.dtype.name)
        channels = 1 if samples.ndim == 1 else samples.shape[1] if samples.ndim == 2 else 0
        if kind is None or channels < 1 or (self._kind and (kind, channels) != (self._kind, self._start["channels"])):
            raise RequestError(
                "samples are of another type or number of channels",
                expected=f"{_NAMES[self._kind]}, {self._start['channels']} channels"
                if self._kind
                else "int16 or float32",
                found=f"{samples.dtype.name}, {channels} channels",
            )
        if not self._kind:
            self._kind = kind
            self._start |= {"format": kind, "channels": channels}
            self._send(json.dumps(self._start))
        content = np.ascontiguousarray(samples, "<i2" if kind == "s16le" else "<f4").tobytes()
        frame = (2 if kind == "s16le" else 4) * channels
        step = max(1, _MESSAGE // frame) * frame  # whole samples of all channels
        for first in range(0, len(content), step):
            self._send(content[first : first + step])
        return list(self._come(0))

    def close(self) -> list[dict[str, Any]]:
        """End the stream: what was heard since the last hop is scored, too; returns the scores that were left."""
        if self._ended or not self._kind:
            self._ended = True
            return []
        self._send('{"type": "end"}')
        return list(self._come(self._timeout))

    def _send(self, content: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(content)
        except ConnectionClosed:
            for _ in self._come(self._timeout):  # what the server has said before it closed: it raises
                pass

    def _come(self, timeout: float) -> Iterator[dict[str, Any]]:
        from websockets.exceptions import ConnectionClosed

        while not self._ended:
            try:
                content = _object(self._socket.recv(timeout), self._url)
            except TimeoutError as error:
                if timeout:
                    raise EmonetError("the server says nothing", expected=f"scores within {timeout:g} s") from error
                return
            except ConnectionClosed as error:
                self._ended = True
                raise EmonetError("the stream has been cut", found=error) from error
            kind = content.get("type")
            if kind == "error":
                self._ended = True
                raise RequestError("the server has ended the stream", found=content.get("error"))
            self._ended = kind == "end"
            if kind == "scores":
                yield content


class _Bearer(AuthBase):
    """Puts the token into a request; where there is none, requests would look for a password in ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@contextmanager
def _parts(audio: Sequence[_Audio]) -> Iterator[list[tuple[str, tuple[str, Any]]]]:
    """Files of a form; names of this machine stay here."""
    with ExitStack() as stack:
        parts = []
        for number, one in enumerate(audio):
            try:
                content = one if isinstance(one, bytes) else stack.enter_context(Path(one).open("rb"))
            except OSError as error:
                raise RequestError("a recording cannot be read", where=one, found=error.strerror) from error
            parts.append(("file", (f"{number}", content)))
        yield parts


def _checked(answer: requests.Response) -> requests.Response:
    if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    if answer.status_code < HTTPStatus.BAD_REQUEST:
        raise RequestError(
            "the server is elsewhere, and redirects are not followed",
            where=answer.url,
            found=f"status {answer.status_code}, Location: {answer.headers.get('Location', 'none')}",
            hint="EmotionClient(URL) with the address that it leads to",
        )
    try:
        told = answer.json()
        what, hint = str(told["error"]), told.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        what, hint = f"status {answer.status_code}: {answer.text[:200]}", None
    if answer.status_code == _UNUSABLE:
        raise AudioError(what, hint=hint)
    kind = RequestError if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else EmonetError
    raise kind(f"the server says: {what}", where=answer.url, found=f"status {answer.status_code}", hint=hint)


def _object(content: str | bytes, where: str) -> dict[str, Any]:
    """An object of JSON, which all answers are but files."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        text = content if isinstance(content, str) else content.decode("utf-8", "replace")
        raise _no_answer(where, "an object of JSON", text)
    return found


def _no_answer(where: str, expected: str, found: object) -> EmonetError:
    return EmonetError("this is no answer of emonet serve", where=where, expected=expected, found=brief(found))


def _spelled(query: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
