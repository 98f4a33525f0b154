"""From audio to scores: encoder and experts in one object, the same for the library, the command line and a server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from emonet.audio import decode
from emonet.checkpoints import ExpertsInfo, load_bank
from emonet.configs import Precision
from emonet.durable import replacing
from emonet.encoder import FrozenEncoder
from emonet.errors import AudioError, RequestError
from emonet.experts import HeadBank
from emonet.logmel import pad
from emonet.progress import Progress, silent
from emonet.windows import SAMPLE_RATE

CHAMPION_URI = "models:/emonet-voice@champion"
ENCODER = "encoder"
EXPERTS = "experts"
DECODERS = 4  # threads; libsndfile and soxr release the interpreter


@dataclass(frozen=True)
class Prediction:
    """What was heard in one recording.

    Args:
        audio: its path, or `bytes`.
        scores: target id -> score, strongest first; empty where the recording could not be used.
        seconds: how much of it was heard, at most the model's window.
        error: why it could not be used, else None.
    """

    audio: str
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


class EmotionPipeline:
    """Scores recordings with an encoder and its experts.

    Args:
        encoder: turns audio into states.
        bank: the experts.
        info: what the experts were trained on.

    Raises:
        RequestError: if the experts were trained on another encoder's states.

    Example:
        >>> pipeline = EmotionPipeline.from_registry("models:/emonet-voice@champion")  # doctest: +SKIP
        >>> pipeline("a.wav")  # doctest: +SKIP
        {'elation': 2.31, 'amusement': 1.08, ...}
    """

    def __init__(self, encoder: FrozenEncoder, bank: HeadBank, info: ExpertsInfo) -> None:
        if encoder.digest != info.encoder_digest:
            raise RequestError(
                "these experts were trained on the states of another encoder",
                expected=f"encoder weights {info.encoder_digest[:16]}",
                found=f"encoder weights {encoder.digest[:16]}",
                hint="give the captioner that the store was extracted with",
            )
        self.encoder = encoder
        self.bank = bank.eval()
        self.info = info

    @classmethod
    def from_registry(
        cls, uri: str = CHAMPION_URI, *, tracking_uri: str | None = None, precision: Precision = "auto"
    ) -> EmotionPipeline:
        """Load a registered version of `emonet-voice`.

        Args:
            uri: `models:/emonet-voice@ALIAS` or `models:/emonet-voice/VERSION`.
            tracking_uri: of the registry; by default `MLFLOW_TRACKING_URI`, else `runs/mlflow.db`.
            precision: arithmetic of the encoder.

        Raises:
            RequestError: if there is no such model.
        """
        from emonet.tracking import default_uri, resolve

        return cls.from_folder(Path(resolve(uri, tracking_uri or default_uri(Path("runs")))), precision=precision)

    @classmethod
    def from_folder(cls, folder: Path | str, *, precision: Precision = "auto") -> EmotionPipeline:
        """Load a voice model's folder (`assemble`), or a registry version's that holds one.

        Raises:
            RequestError: if the folder holds no voice model.
        """
        root = _voice_folder(Path(folder))
        encoder = FrozenEncoder.load(str(root / ENCODER), precision=precision)
        bank, info = load_bank(root / EXPERTS)
        return cls(encoder, bank, info)

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that there is an expert for."""
        return self.bank.targets

    def __call__(self, audio: Path | str | bytes) -> dict[str, float]:
        """Scores of one recording, strongest first.

        Args:
            audio: a file that libsndfile reads, or its bytes.

        Raises:
            AudioError: if the recording cannot be used.
        """
        prediction = next(self.predict([audio]))
        if prediction.error is not None:
            raise AudioError(prediction.error, where=prediction.audio)
        return dict(prediction.scores)

    def predict(
        self, audio: Sequence[Path | str | bytes], *, batch_size: int = 8, progress: Progress = silent
    ) -> Iterator[Prediction]:
        """Score many recordings; one that cannot be used is reported as such, and the rest is done.

        Args:
            audio: files or bytes.
            batch_size: recordings per pass through the encoder (count).
            progress: called with the number of finished recordings.

        Yields:
            One prediction for each, in order.
        """
        progress(0, len(audio))
        with ThreadPoolExecutor(DECODERS) as pool:
            batches = [audio[start : start + batch_size] for start in range(0, len(audio), batch_size)]
            ahead = [pool.submit(lambda b: [self._decode(a) for a in b], batch) for batch in batches[:2]]
            done = 0
            for position, batch in enumerate(batches):
                if position + 2 < len(batches):
                    ahead.append(pool.submit(lambda b: [self._decode(a) for a in b], batches[position + 2]))
                yield from self._score(batch, ahead[position].result())
                done += len(batch)
                progress(done, len(audio))

    def frame(self, audio: Sequence[Path | str | bytes]) -> pd.DataFrame:
        """Scores of many recordings as a table: one row each, one column per target.

        Raises:
            AudioError: if a recording cannot be used.
        """
        predictions = list(self.predict(audio))
        for prediction in predictions:
            if prediction.error is not None:
                raise AudioError(prediction.error, where=prediction.audio)
        return pd.DataFrame([dict(p.scores) for p in predictions], columns=list(self.targets))

    def _decode(self, audio: Path | str | bytes) -> np.ndarray | AudioError:
        try:
            source = Path(audio) if isinstance(audio, str) else audio
            return decode(source, seconds=self.encoder.window.seconds)
        except AudioError as error:
            return error

    def _score(self, names: Sequence[Path | str | bytes], heard: Sequence[Any]) -> list[Prediction]:
        usable = [wave for wave in heard if not isinstance(wave, AudioError)]
        rows = iter(self._scores(usable)) if usable else iter(())
        predictions = []
        for name, wave in zip(names, heard, strict=True):
            label = "bytes" if isinstance(name, bytes) else str(name)
            if isinstance(wave, AudioError):
                predictions.append(Prediction(label, error=wave.what))
                continue
            scores = sorted(zip(self.targets, next(rows), strict=True), key=lambda item: -item[1])
            predictions.append(Prediction(label, dict(scores), round(len(wave) / SAMPLE_RATE, 3)))
        return predictions

    @torch.inference_mode()
    def _scores(self, waves: Sequence[np.ndarray]) -> list[list[float]]:
        window = self.encoder.window
        states = self.encoder(pad(waves, window))
        lengths = torch.tensor([window.speech_frames(len(wave) / SAMPLE_RATE) for wave in waves])
        scores: list[list[float]] = self.bank(self.bank.spec.prepare(states, lengths)).float().tolist()
        return scores


def assemble(captioner: Path | str, experts: Path, folder: Path) -> Path:
    """Put an encoder and its experts into one folder that `EmotionPipeline.from_folder` loads; whole or not at all.

    Args:
        captioner: folder or hub id whose encoder the experts were trained on.
        experts: folder that `save_bank` wrote.
        folder: where to; replaced if it exists.

    Raises:
        RequestError: if the experts were trained on another encoder's states.
    """
    encoder = FrozenEncoder.load(str(captioner), precision="float32")
    with replacing(folder) as partial:
        encoder.save(partial / ENCODER)
        shutil.copytree(experts, partial / EXPERTS)
        EmotionPipeline.from_folder(partial)  # refuses what does not fit, before anything is replaced
    return folder


def _voice_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "data" / "voice"):
        if (candidate / ENCODER).is_dir() and (candidate / EXPERTS).is_dir():
            return candidate
    raise RequestError(
        "this folder holds no voice model",
        where=folder,
        expected=f"the folders {ENCODER}/ and {EXPERTS}/",
        found=", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder",
        hint="emonet heads trains one; its folder is runs/EXPERIMENT/voice",
    )
