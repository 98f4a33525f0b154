"""The service behind the paths of the HTTP server: model, batches, threads, captioner and metrics, begun and ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np

from emonet.audio import Decoded, Excerpt, shared_decoders
from emonet.errors import AudioError, RequestError
from emonet.inference import EmotionPipeline, Prediction
from emonet.objects import is_loopback
from emonet.serving.batching import Batcher
from emonet.serving.bodies import Recording
from emonet.serving.guards import NEW_TOKEN, Refusal, Tokens
from emonet.serving.metrics import Metrics
from emonet.serving.models import LoadedModel, ServedModel, local_folder
from emonet.serving.settings import ServerSettings
from emonet.serving.sources import SourceRules, open_source

if TYPE_CHECKING:
    from pathlib import Path

THREADS = 16  # that wait for decoders, downloads and the disk
CAPTIONS = 8  # recordings per pass of the captioner
PATHS = frozenset(
    (
        *("/", "/docs", "/openapi.json", "/health", "/metrics", "/page/capture.js"),
        *("/v1/models", "/v1/score", "/v1/timeline", "/v1/export", "/v1/caption", "/v1/stream"),
    )
)
R = TypeVar("R")
WriteCaptions = Callable[[Sequence[np.ndarray]], list[str]]


@final
class Service:
    """What the paths of the server share.

    Args:
        settings: of the server.

    Raises:
        RequestError: if there is no model or captioner, a file of tokens cannot be used, or others than this machine
            could ask without a token.
        EmonetError: if the registry cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        named = {"allow_paths": settings.allow_paths, "allow_urls": settings.allow_urls}
        self.rules = replace(SourceRules.read(named, environment={}), most_bytes=settings.most_bytes)
        self.tokens = _tokens(settings)
        self.metrics = Metrics(PATHS, settings.root_path)
        shared_decoders().start()  # they import while the model is loaded
        self.models = _models(settings)
        self.model = self.models[0]  # of requests that name none
        self.captions = None if settings.captioner is None else _captioner(settings, self.model.current.pipeline)
        self.scores: Batcher[Decoded, Prediction] = Batcher(
            _predicted, size=settings.batch_size, gather=settings.gather / 1000, most=settings.max_queue,
            observe=self.metrics.batches.observe,
        )  # fmt: skip
        self.texts: Batcher[np.ndarray, str] = Batcher(
            lambda write, sounds: write(sounds), size=CAPTIONS, gather=settings.gather / 1000,
            most=settings.max_queue, observe=lambda _: None,
        )  # fmt: skip
        self.closing = asyncio.Event()
        """Set when the server ends: live streams say goodbye."""
        self.streams = self.timelines = 0  # at work (count)
        self._threads = ThreadPoolExecutor(THREADS, "requests")
        self._long = ThreadPoolExecutor(settings.max_timelines, "timelines")
        self.metrics.gauge("recordings_at_work", "Recordings that wait or are at work", lambda: self.scores.held)
        self.metrics.gauge("streams", "Live streams", lambda: self.streams)
        self.metrics.gauge("timelines", "Timelines that are made", lambda: self.timelines)
        self.metrics.gauge(
            "model_reloads", "Models that were loaded since the start", lambda: sum(one.reloads for one in self.models)
        )

    def start(self) -> None:
        """Start the threads."""
        for one in (self.scores, self.texts):
            one.start()
        for model in self.models:
            model.start()

    def stop(self) -> None:
        """End the threads, once what they have is done."""
        for model in self.models:
            model.stop()
        for one in (self.scores, self.texts):
            one.stop()
        self._threads.shutdown()
        self._long.shutdown()

    @property
    def problems(self) -> tuple[str, ...]:
        """What needs the owner of the server, a line each."""
        told = [one.problem for one in self.models] + [None if self.tokens is None else self.tokens.problem]
        return tuple(one for one in told if one is not None)

    def loaded(self, name: str | None) -> LoadedModel:
        """The model that a request names.

        Raises:
            Refusal: if there is none of that name.
        """
        found = next((one for one in self.models if name in (None, one.name)), None)
        if found is None:
            raise Refusal(400, "this server has no model of that name", hint="which there are: GET /v1/models")
        return found.current

    def require_captions(self) -> WriteCaptions:
        """What writes captions.

        Raises:
            Refusal: if there is no captioner.
        """
        if self.captions is None:
            raise Refusal(501, "this server has no captioner", hint="its owner starts it with --captioner")
        return self.captions

    async def in_thread(self, call: Callable[[], R]) -> R:
        """What waits for something else than the network; many at once."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def in_long_thread(self, call: Callable[[], R]) -> R:
        """What takes minutes: no more at once than timelines are made."""
        return await asyncio.get_running_loop().run_in_executor(self._long, call)

    async def decoded(self, recording: Recording, seconds: float) -> Decoded | AudioError:
        """The sound of a recording, decoded in a process of its own, or why there is none."""
        return await self.in_thread(lambda: self._decode(recording.source, seconds))

    def opened(self, source: bytes | str) -> Path | bytes | AudioError:
        """What a request names, as far as it may."""
        if isinstance(source, bytes):
            return source  # the body's limit is theirs, too
        try:
            return open_source(source, self.rules)
        except AudioError as error:
            return error

    def _decode(self, source: bytes | str, seconds: float) -> Decoded | AudioError:
        opened = self.opened(source)
        if isinstance(opened, AudioError):
            return opened
        return next(shared_decoders().decode([Excerpt(opened)], seconds=seconds))


def _predicted(pipeline: EmotionPipeline, sounds: Sequence[Decoded]) -> list[Prediction]:
    return list(pipeline.predictions([b""] * len(sounds), sounds))


def _models(settings: ServerSettings) -> tuple[ServedModel, ...]:
    found: list[ServedModel] = []
    for source in (settings.model, *settings.more_models):
        found.append(ServedModel(settings, source))
        if [one.name for one in found].count(found[-1].name) > 1:
            raise RequestError(
                "two models of one name",
                where="more_models",
                found=found[-1].name,
                hint="folders are called by the last part of their paths: copy one elsewhere, or models:/NAME/VERSION",
            )
    return tuple(found)


def _captioner(settings: ServerSettings, pipeline: EmotionPipeline) -> WriteCaptions:
    from emonet.captioner import caption_writer

    assert settings.captioner is not None
    source = local_folder(settings.captioner, settings.runs)
    write, lock = caption_writer(source, pipeline.encoder.device), threading.Lock()

    def one_at_a_time(sounds: Sequence[np.ndarray]) -> list[str]:
        with lock:  # timelines write captions, too
            return write(sounds)

    return one_at_a_time


def _tokens(settings: ServerSettings) -> Tokens | None:
    if settings.token_file is not None:
        return Tokens(settings.token_file)
    if not is_loopback(settings.host):
        raise RequestError(
            "others than this machine could ask without a token",
            where=f"--host {settings.host}",
            hint=f"{NEW_TOKEN} > tokens; emonet serve --token-file tokens ...",
        )
    return None


def refused_sources(errors: Sequence[AudioError | str]) -> Refusal:
    """Nothing of a request can be used."""
    told = [error.reason if isinstance(error, AudioError) else error for error in errors]
    return Refusal(422, told[0] if len(told) == 1 else f"none of {len(told)} recordings can be used: {told[0]} ...")


def state_of(app: Any) -> Service:
    """The service of an application."""
    service = app.state.service
    assert isinstance(service, Service)
    return service
