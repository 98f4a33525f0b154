"""The WebSocket `/v1/stream`: samples in as they come, scores out hop by hop."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
from fastapi import APIRouter, WebSocket
from pydantic import Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from emonet.errors import EmonetError, RequestError
from emonet.inference import EmotionStream, StreamScore
from emonet.schema import Schema
from emonet.serving.answers import HopScores, ModelFacts
from emonet.serving.bodies import wrong_at
from emonet.serving.guards import PROTOCOL, Refusal, too_busy
from emonet.serving.service import Service, state_of

MOST_MESSAGE = 1 << 20  # bytes: 10 s of 48 kHz stereo in int16 are twice as many
AHEAD = 4  # messages that wait to be heard; then nothing more is read, and the client's network holds it back
TICK = 0.02  # seconds between two looks for scores, where nothing comes
IDLE = 6  # times the limit of requests, in which something must come
NORMAL, GOING_AWAY, WRONG_TYPE, POLICY, FAILED = 1000, 1001, 1003, 1008, 1011  # codes of RFC 6455
_TYPES: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
router = APIRouter()


class StreamStart(Schema):
    """The first message of a live stream."""

    type: Literal["start"] = "start"
    """Which message this is."""
    rate: int = Field(ge=1)
    """Of the samples (Hz)."""
    model: str | None = None
    """Which of the server's models hears it; by default the first one."""
    hop: float = Field(1.0, gt=0)
    """Between two scores (seconds)."""
    window: float | None = Field(None, gt=0)
    """That each score hears (seconds); by default as much as the model hears."""
    format: Literal["s16le", "f32le"] = "s16le"
    """Of the samples."""
    channels: int = Field(1, ge=1, le=32)
    """Interleaved (count)."""
    lossless: bool = False
    """Score every hop, as for files; else the latest one is scored where sound comes too fast."""


class _ClosedError(Exception):
    """The stream ends: with which code, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@router.get("/v1/stream", include_in_schema=False)
async def not_a_socket() -> None:
    """Whoever asks by HTTP is told what this is."""
    raise Refusal(426, "this is a WebSocket", hint="ws:// in place of http://", headers={"Upgrade": "websocket"})


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Score live sound: first a message of JSON (`StreamStart`), then samples; scores come back as JSON, one a hop."""
    service = state_of(socket.app)
    if service.streams >= service.settings.max_streams:
        raise too_busy(f"{service.streams} live streams are open, which is all that this server takes on")
    service.streams += 1
    try:
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
        code, reason = await _converse(socket, service)
        if code not in (NORMAL, GOING_AWAY):
            await _send(socket, service, {"type": "error", "error": reason})
        await socket.close(code, _short(reason))
    except (WebSocketDisconnect, TimeoutError):  # it has gone, or takes nothing: the connection is cut
        pass
    finally:
        service.streams -= 1


async def _converse(socket: WebSocket, service: Service) -> tuple[int, str]:
    """All of a stream; returns the code and the reason that it is closed with."""
    try:
        start = await _started(socket, service)
        model = service.loaded(start.model)
        opened = model.pipeline.open_stream(start.rate, hop=start.hop, window=start.window, lossless=start.lossless)
        ready = {
            "type": "ready",
            "model": ModelFacts.of(model).model_dump(),
            "window": opened.window,
            "hop": opened.hop,
        }
        await _send(socket, service, ready)
        return await _Conversation(socket, service, start, opened).run()
    except _ClosedError as closed:
        return closed.code, closed.reason
    except Refusal as refusal:
        return POLICY, refusal.error
    except RequestError as error:
        return POLICY, str(error)
    except EmonetError as error:
        return FAILED, str(error)


async def _started(socket: WebSocket, service: Service) -> StreamStart:
    message = await _received(socket, service, service.settings.idle)
    text = message.get("text")
    if text is None:
        raise _ClosedError(WRONG_TYPE, 'the first message must be JSON that names the rate, such as {"rate": 16000}')
    try:
        return StreamStart.model_validate_json(text)
    except ValidationError as error:
        raise _ClosedError(POLICY, f"the first message is {wrong_at(error)}") from error


async def _received(socket: WebSocket, service: Service, patience: float) -> dict[str, Any]:
    """The next message; a server that ends, and a client that says nothing, close the stream."""
    coming = asyncio.ensure_future(socket.receive())
    closing = asyncio.ensure_future(service.closing.wait())
    try:
        done, _ = await asyncio.wait({coming, closing}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        closing.cancel()
        if not coming.done():
            coming.cancel()
    if coming not in done:
        if closing in done:
            raise _ClosedError(GOING_AWAY, "the server ends")
        raise _ClosedError(POLICY, f"nothing came for {patience:g} s")
    message = dict(coming.result())
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", NORMAL))
    return message


async def _send(socket: WebSocket, service: Service, content: dict[str, Any]) -> None:
    async with asyncio.timeout(service.settings.idle):
        await socket.send_text(json.dumps(content, ensure_ascii=False, allow_nan=False))


@final
class _Conversation:
    """Samples of one client to its stream, which a thread of its own feeds, and scores back."""

    def __init__(self, socket: WebSocket, service: Service, start: StreamStart, stream: EmotionStream) -> None:
        self._socket, self._service, self._start, self._stream = socket, service, start, stream
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.Queue[np.ndarray | None] = queue.Queue(AHEAD)
        self._room = asyncio.Semaphore(AHEAD)
        self._outbox: asyncio.Queue[HopScores | BaseException | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._left = b""

    async def run(self) -> tuple[int, str]:
        """Until the client ends the stream, or something else does."""
        thread = threading.Thread(target=self._feed, name="stream", daemon=True)
        thread.start()
        hearing = asyncio.ensure_future(self._hear())
        telling = asyncio.ensure_future(self._tell())
        try:
            await asyncio.wait({hearing, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()  # only an error ends it before the client does
            hearing.result()
            await telling
            await _send(self._socket, self._service, {"type": "end", "skipped": self._stream.skipped})
            return NORMAL, "the stream has ended"
        finally:
            self._stopped.set()
            for task in (hearing, telling):
                task.cancel()
            await asyncio.gather(hearing, telling, return_exceptions=True)
            await asyncio.to_thread(thread.join)

    async def _hear(self) -> None:
        """Messages of the client into the inbox, until it ends the stream."""
        patience = IDLE * self._service.settings.idle
        while True:
            message = await _received(self._socket, self._service, patience)
            if message.get("text") is not None:
                self._check_text(message["text"])
                break
            samples = self._samples(message.get("bytes") or b"")
            await self._put(samples)
        await self._put(None)

    async def _put(self, samples: np.ndarray | None) -> None:
        await self._room.acquire()
        self._inbox.put_nowait(samples)

    def _check_text(self, text: str) -> None:
        """A text behind the first one ends the stream: as it should, or with an error."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "end":
            return
        if isinstance(content, dict) and "rate" in content and content["rate"] != self._start.rate:
            what = f"the stream's rate cannot change from {self._start.rate} Hz: open another stream"
            raise _ClosedError(POLICY, what)
        raise _ClosedError(WRONG_TYPE, 'text in a stream of samples; {"type": "end"} ends it')

    def _samples(self, content: bytes) -> np.ndarray:
        """Whole samples of all channels; the rest waits for the next message."""
        content = self._left + content
        kind, channels = _TYPES[self._start.format], self._start.channels
        whole = len(content) // (kind.itemsize * channels) * kind.itemsize * channels
        self._left = content[whole:]
        found = np.frombuffer(content[:whole], kind)
        return found if channels == 1 else found.reshape(-1, channels)

    async def _tell(self) -> None:
        """Scores to the client, until there are no more."""
        while (told := await self._outbox.get()) is not None:
            if isinstance(told, BaseException):
                raise told
            self._service.metrics.hops.labels("error" if told.error else "scored").inc()
            self._service.metrics.hops.labels("skipped").inc(told.skipped)
            await _send(self._socket, self._service, told.model_dump())

    def _feed(self) -> None:
        """In the stream's own thread: feed it, and hand on what it has heard."""
        try:
            with self._stream:
                while self._step():
                    pass
                self._hand_on(self._stream.close())
            self._emit(None)
        except _ClosedError:
            pass
        except Exception as error:  # noqa: BLE001  # it ends the conversation
            self._emit(error)

    def _step(self) -> bool:
        """What came last, or what was scored meanwhile; false at the end."""
        if self._stopped.is_set():
            raise _ClosedError(GOING_AWAY, "")  # leaves the stream without scoring what is left
        try:
            samples = self._inbox.get(timeout=TICK)
        except queue.Empty:
            self._hand_on(self._stream.take())
            return True
        self._loop.call_soon_threadsafe(self._room.release)
        if samples is not None and len(samples):
            self._hand_on(self._stream.feed(samples))
        return samples is not None

    def _hand_on(self, found: Sequence[StreamScore]) -> None:
        for heard in found:
            self._emit(HopScores.of(heard))

    def _emit(self, told: HopScores | BaseException | None) -> None:
        self._loop.call_soon_threadsafe(self._outbox.put_nowait, told)


def _short(reason: str) -> str:
    """A close frame takes 123 bytes."""
    return reason.splitlines()[0].encode()[:120].decode(errors="ignore") if reason else ""
