"""The model that the HTTP server serves: loaded, and loaded anew where its alias moves, while the old one serves on."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from emonet.errors import EmonetError
from emonet.serving.settings import ServerSettings

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline

_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_NUMBER = re.compile(r"models:/[^/@]+/(\d+)")
_NAMED = ("models:/", "runs:/", "hf://")  # what others may be told
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory.

    Args:
        pipeline: encoder and experts.
        source: registry URI, with the version that an alias named, or the folder.
        folder: of its files.
        since: when it was loaded.
    """

    pipeline: EmotionPipeline
    source: str
    folder: Path
    since: datetime

    @property
    def name(self) -> str:
        """What others are told: the address, or the folder's name; where that lies is nobody's business."""
        return self.source if self.source.startswith(_NAMED) else self.folder.name

    @property
    def version(self) -> int | None:
        """In the registry; None elsewhere."""
        found = _NUMBER.fullmatch(self.source)
        return None if found is None else int(found[1])


@final
class ServedModel:
    """The model that requests are answered with.

    Args:
        settings: of the server: which one, and how often the registry is asked.
        source: another model than the settings' first one.

    Raises:
        RequestError: if there is no such model, or it cannot be loaded.
        EmonetError: if the registry cannot be used.
    """

    def __init__(self, settings: ServerSettings, source: str | None = None) -> None:
        self._settings, self._source = settings, settings.model if source is None else source
        self._alias = _ALIAS.fullmatch(self._source)
        self.name = self._source if self._source.startswith(_NAMED) else Path(self._source).resolve().name
        """What requests call it; paths of this machine are nobody's business."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)
        self.problem: str | None = None
        """Why the model is not the one that it should be, or could not be loaded again."""
        self.reloads = 0
        found = self._named_version()
        self.current = self._load(found)

    def start(self) -> None:
        """Begin to watch the registry."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Look once whether the alias has moved, or the files are gone; whatever happens, a model serves."""
        try:
            found = self._named_version()
            if self._alias is not None and found is None:
                self.problem = f"no version is @{self._alias[2]} any more; {self.current.source} keeps serving"
                return
            if self._alias is not None and found != self.current.version:
                self.current = self._load(found)
                self.reloads += 1
                _logger.warning("%s has moved: %s serves now", self._source, self.current.source)
            gone = not self.current.folder.is_dir()
            self.problem = (
                f"the files of {self.current.source} are gone; it keeps serving from memory" if gone else None
            )
        except EmonetError as error:
            self.problem = f"{error.what}; {self.current.source} keeps serving"
        except Exception as error:
            self.problem = f"the model could not be loaded again: {error}; {self.current.source} keeps serving"
            _logger.exception("the model could not be loaded again")

    def _watch(self) -> None:
        said = None
        while not self._ended.wait(self._settings.watch):
            self.check()
            if self.problem != said and self.problem is not None:
                _logger.warning("%s", self.problem)
            said = self.problem

    def _named_version(self) -> int | None:
        """The version that the alias names now; None where there is none, or the model has no alias."""
        if self._alias is None:
            return None
        from emonet.registry import find_version
        from emonet.tracking import default_uri

        found = find_version(self._alias[1], self._alias[2], default_uri(self._settings.runs))
        return None if found is None else found.version

    def _load(self, version: int | None) -> LoadedModel:
        from emonet.inference import EmotionPipeline

        alias = self._alias
        source = self._source if version is None or alias is None else f"models:/{alias[1]}/{version}"
        folder = Path(local_folder(source, self._settings.runs)).resolve()
        pipeline = EmotionPipeline.from_folder(
            folder, experts_precision=self._settings.experts_precision, device=self._settings.device
        )
        # The first pass of a size prepares more than the later ones: nobody is to wait for that.
        pipeline.score_samples([np.linspace(-0.1, 0.1, pipeline.encoder.window.samples, dtype=np.float32)])
        return LoadedModel(pipeline, source, folder, datetime.now(UTC))


def local_folder(source: str, runs: Path) -> str:
    """The folder of a registry URI or a model on the hub; anything else as it is, without waiting for mlflow.

    Raises:
        RequestError: if the registry, or the hub, has no such model.
        EmonetError: if it cannot be used.
    """
    from emonet.hub import hub_address

    if (address := hub_address(source)) is not None:
        from emonet.hub import fetch_from_hub

        return str(fetch_from_hub(*address, say=lambda text: _logger.warning("%s", text)))
    if not source.startswith(("models:/", "runs:/")):
        return source
    from emonet.registry import resolve
    from emonet.tracking import default_uri

    return resolve(source, default_uri(runs), runs)
