"""The pipeline from audio to scores: encoder and experts in one object, for library, command line and server."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from emonet.audio import Decoded, Excerpt, pad, shared_decoders
from emonet.checkpoints import (
    INFO,
    Calibration,
    ExpertsInfo,
    LoadedBank,
    PublishedFolder,
    bank_folders,
    check_alike,
    check_banks,
    check_targets,
    holds_published,
    import_published,
    load_banks,
    load_published,
    open_published,
    read_calibration,
    read_info,
)
from emonet.clips import Clip
from emonet.configs import Precision
from emonet.encoders import Padded, ReadyEncoder, open_encoder, open_heard
from emonet.errors import AudioError, RequestError
from emonet.evaluation import Scored
from emonet.experts import ExpertsPrecision
from emonet.registry import ENCODER, EXPERTS
from emonet.runtime import Progress, ignore, replacing
from emonet.targets import TargetSpec

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `emonet predict` can do without

CHAMPION_URI = "models:/emonet-voice@champion"
BATCH = 8  # recordings per pass through the encoder
_TRAINED_ON = "these experts were trained on"


@dataclass(frozen=True)
class Prediction:
    """What was heard in one recording.

    Args:
        audio: its path, or `bytes`.
        scores: target id -> score: emotions, strongest first, then attributes and quality in their own order; empty
            where the recording could not be used.
        seconds: how much of it was heard, at most the model's window; NaN where the model does not say.
        error: why it could not be used, else None.
        total: how long it is, in seconds; NaN where it does not say.
        notices: what should be known of its sound, a line each: how much of it was heard, channels that cancel, noise.
        uncertainties: target id -> half-width of the score's interval, in its units; only of ensembles.
    """

    audio: str
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    total: float = math.nan
    notices: tuple[str, ...] = ()
    uncertainties: Mapping[str, float] = field(default_factory=dict)


class EmotionPipeline:
    """Scores recordings with an encoder and its experts.

    Recordings are decoded in processes of their own: one that crashes the decoder costs itself and nothing else.

    Args:
        encoder: turns audio into states.
        banks: the experts, one bank for each form and depth; all hear the same states.
        calibration: what becomes of their scores, if they are calibrated.

    Raises:
        RequestError: if experts were trained on another encoder's states, or a target has several, or the calibration
            has curves of other targets.

    Example:
        >>> pipeline = EmotionPipeline.from_registry("models:/emonet-voice@champion")  # doctest: +SKIP
        >>> pipeline("a.wav")  # doctest: +SKIP
        {'elation': 2.31, 'amusement': 1.08, ...}
    """

    def __init__(
        self, encoder: ReadyEncoder, banks: Sequence[LoadedBank], calibration: Calibration | None = None
    ) -> None:
        infos = [info for _, info in banks]
        _check_fit(encoder, infos)
        self.encoder = encoder
        self.banks = _placed(banks, encoder.device)
        self.target_spec = TargetSpec(tuple(target for info in infos for target in info.target_spec))
        self.calibration = calibration
        if calibration is not None:
            check_targets(calibration, self.targets)

    @classmethod
    def from_registry(
        cls,
        uri: str = CHAMPION_URI,
        *,
        tracking_uri: str | None = None,
        precision: Precision = "auto",
        experts_precision: ExpertsPrecision = "float32",
        device: str | None = None,
    ) -> EmotionPipeline:
        """Load a registered version of `emonet-voice`.

        Args:
            uri: `models:/emonet-voice@ALIAS` or `models:/emonet-voice/VERSION`.
            tracking_uri: of the registry; by default `MLFLOW_TRACKING_URI`, else `runs/mlflow.db`.
            precision: arithmetic of the encoder.
            experts_precision: how wide first layers of the experts are held: bf16 and int8 need a half and a quarter of
                the memory.
            device: e.g. `cpu` or `cuda:0`, of encoder and experts; by default the first GPU, else the processor.

        Raises:
            RequestError: if there is no such model.
        """
        from emonet.registry import RUNS, resolve
        from emonet.tracking import default_uri

        folder = resolve(uri, tracking_uri or default_uri(RUNS))
        return cls.from_folder(folder, precision=precision, experts_precision=experts_precision, device=device)

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        precision: Precision = "auto",
        experts_precision: ExpertsPrecision = "float32",
        device: str | None = None,
    ) -> EmotionPipeline:
        """Load a voice model's folder (`assemble`), or a registry version's that holds one.

        Args:
            folder: with the folders `encoder` and `experts`.
            precision: arithmetic of the encoder.
            experts_precision: as in `from_registry`.
            device: as in `from_registry`.

        Raises:
            RequestError: if the folder holds no voice model.
        """
        root = _voice_folder(Path(folder))
        encoder = open_encoder(str(root / ENCODER), precision=precision, device=device)
        return cls(encoder, load_banks(root / EXPERTS, experts_precision), read_calibration(root / EXPERTS))

    @classmethod
    def from_experts(
        cls,
        experts: Path | str,
        encoder: str,
        *,
        precision: Precision = "auto",
        experts_precision: ExpertsPrecision = "float32",
        device: str | None = None,
        progress: Progress = ignore,
    ) -> EmotionPipeline:
        """Put experts and their encoder together without a voice model's folder.

        Args:
            experts: folder of published `model_NAME_best.pth`, or one that `emonet heads` wrote.
            encoder: folder or hub id of the captioner whose encoder the experts were trained on, or
                `plugin:NAME[:ARGUMENT]`.
            precision: arithmetic of the encoder.
            experts_precision: as in `from_registry`.
            device: as in `from_registry`.
            progress: called with the number of published experts read.

        Raises:
            RequestError: if the folder holds no experts, or unusable ones, or they do not fit the encoder.
        """
        folder = Path(experts)
        published = holds_published(folder)
        (open_published if published else check_banks)(folder)  # before the encoder is loaded, or even fetched
        if published:
            ready = open_encoder(encoder, precision=precision, device=device)
            return cls(ready, load_published(folder, ready, experts_precision, progress=progress))
        ready = _open_heard(encoder, read_info(bank_folders(folder)[0]), precision, device)
        return cls(ready, load_banks(folder, experts_precision), read_calibration(folder))

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that there is an expert for."""
        return self.target_spec.ids

    @property
    def calibrated(self) -> bool:
        """Whether scores are calibrated on the validation clips of the experts."""
        return self.calibration is not None

    @property
    def members(self) -> str:
        """How many experts targets have, in words."""
        counts = sorted({info.ensemble for _, info in self.banks})
        return f"{' or '.join(map(str, counts))} of each target"

    @property
    def coverage(self) -> float | None:
        """Share of true scores that uncertainties are made to hold (0 to 1); None where there are no ensembles."""
        fitted = [info.intervals for _, info in self.banks if info.intervals is not None and info.intervals.factors]
        return min((intervals.coverage for intervals in fitted), default=None)

    def __call__(self, audio: Path | str | bytes) -> dict[str, float]:
        """Scores of one recording: emotions, strongest first, then attributes and quality in their own order.

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
        self, audio: Sequence[Path | str | bytes], *, batch_size: int = BATCH, progress: Progress = ignore
    ) -> Iterator[Prediction]:
        """Score many recordings; one that cannot be used is reported as such, and the rest is done.

        Args:
            audio: files or bytes.
            batch_size: recordings per pass through the encoder (count).
            progress: called with the number of finished recordings.

        Yields:
            One prediction for each, in order.
        """
        excerpts = [Excerpt(Path(one) if isinstance(one, str) else one) for one in audio]
        yield from self._predict(excerpts, audio, batch_size, progress)

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Scores of clips as a table, as `emonet.Scorer` has it; one that cannot be used is refused.

        Args:
            clips: with unique ids.
            progress: called with the number of finished clips.
        """
        predictions = self._predict(clips, [clip.id for clip in clips], BATCH, progress)
        found = (one.error or [one.scores[target] for target in self.targets] for one in predictions)
        return Scored.of(clips, self.target_spec, found)

    def _predict(
        self,
        clips: Sequence[Clip | Excerpt],
        names: Sequence[Path | str | bytes],
        batch_size: int,
        progress: Progress,
    ) -> Iterator[Prediction]:
        progress(0, len(clips))
        heard = shared_decoders().decode(clips, seconds=self.encoder.window.seconds, ahead=2 * batch_size)
        for start in range(0, len(clips), batch_size):
            batch = list(islice(heard, batch_size))
            yield from self._score(names[start : start + batch_size], batch)
            progress(start + len(batch), len(clips))

    def frame(self, audio: Sequence[Path | str | bytes]) -> pd.DataFrame:
        """Scores of many recordings as a table: one row each, one column per target.

        Raises:
            AudioError: if a recording cannot be used.
        """
        predictions = list(self.predict(audio))
        for prediction in predictions:
            if prediction.error is not None:
                raise AudioError(prediction.error, where=prediction.audio)
        import pandas as pd

        return pd.DataFrame([dict(p.scores) for p in predictions], columns=list(self.targets))

    def _score(
        self, names: Sequence[Path | str | bytes], heard: Sequence[Decoded | AudioError]
    ) -> Iterator[Prediction]:
        usable = [sound for sound in heard if not isinstance(sound, AudioError)]
        rows = self._scores(usable) if usable else iter(())
        for name, sound in zip(names, heard, strict=True):
            label = "bytes" if isinstance(name, bytes) else str(name)
            if isinstance(sound, AudioError):
                yield Prediction(label, error=sound.reason)
                continue
            scores, half_widths = next(rows)
            yield Prediction(
                label,
                scores=strongest_first(dict(zip(self.targets, scores, strict=True)), self.target_spec),
                seconds=round(sound.seconds, 3),
                total=round(sound.total, 3),
                notices=tuple(notice.text for notice in sound.notices),
                uncertainties={
                    target: half_width
                    for target, half_width in zip(self.targets, half_widths, strict=True)
                    if not math.isnan(half_width)
                },
            )

    @torch.inference_mode()
    def _scores(self, sounds: Sequence[Decoded]) -> Iterator[tuple[list[float], list[float]]]:
        """Scores of each sound, and the half-widths of their intervals (NaN without)."""
        window = self.encoder.window
        samples = [min(len(sound.samples), window.samples) for sound in sounds]
        states = self.encoder.states(Padded(pad([sound.samples for sound in sounds], window), samples))
        lengths = torch.tensor([window.speech_frames(sound.seconds, self.encoder.frames) for sound in sounds])
        scores, half_widths = [], []
        for bank in self.banks:
            place = next(bank.bank.parameters()).device
            members = bank.scores(states.to(place), lengths.to(place)).cpu()
            scores.append(members.mean(2))
            half_widths.append(bank.half_widths(members))
        found = torch.cat(scores, 1).numpy()
        rows: list[list[float]] = (self.calibration.apply(found, self.targets) if self.calibration else found).tolist()
        return zip(rows, np.concatenate(half_widths, 1).tolist(), strict=True)


def _placed(banks: Sequence[LoadedBank], device: torch.device) -> tuple[LoadedBank, ...]:
    """The experts on the encoder's device; each bank that does not fit there stays with the processor."""
    placed = []
    for bank, info in banks:
        try:
            placed.append(LoadedBank(bank.eval().to(device), info))
        except torch.OutOfMemoryError:
            placed.append(LoadedBank(bank.to("cpu"), info))
            torch.cuda.empty_cache()
    return tuple(placed)


def assemble(captioner: Path | str, experts: Path, folder: Path) -> Path:
    """Put an encoder and its experts into one folder that `EmotionPipeline.from_folder` loads; whole or not at all.

    Args:
        captioner: folder or hub id whose encoder the experts were trained on, or `plugin:NAME[:ARGUMENT]`.
        experts: folder that `save_bank` wrote, or with several such folders.
        folder: where to; replaced if it exists.

    Raises:
        RequestError: if the experts were trained on another encoder's states, or their files are damaged.
    """
    encoder = _open_heard(str(captioner), read_info(bank_folders(experts)[0]), "float32")
    with replacing(folder) as partial:
        encoder.save(partial / ENCODER)
        shutil.copytree(experts, partial / EXPERTS, ignore=shutil.ignore_patterns("*.parquet"))  # no clips' scores
        # What does not fit is refused before anything is replaced; wide experts, of 295 MB each, are not loaded for it.
        _check_fit(encoder, list(check_banks(partial / EXPERTS).values()))
    return folder


def assemble_published(
    captioner: Path | str, published: PublishedFolder, folder: Path, *, progress: Progress = ignore
) -> tuple[ExpertsInfo, ...]:
    """The same with published experts, of which no more than one is in memory at a time.

    Args:
        captioner: folder or hub id whose encoder the experts were trained on.
        published: opened before the encoder is loaded, or even fetched.
        folder: where to; replaced if it exists.
        progress: called with the number of experts written of one bank.

    Returns:
        What the banks hold.

    Raises:
        RequestError: if weights are not finite, or the encoder gives other states than the experts hear.
    """
    encoder = open_encoder(str(captioner), precision="float32")
    with replacing(folder) as partial:
        encoder.save(partial / ENCODER)
        return import_published(published, encoder, partial / EXPERTS, progress=progress)


def experts_of(folder: Path) -> Path:
    """The folder of experts within a voice model's, or `folder` itself where that is one.

    Raises:
        RequestError: if it holds neither.
    """
    several = any(folder.glob(f"*/{INFO}")) and not (folder / ENCODER).is_dir()
    return folder if several or (folder / INFO).is_file() else _voice_folder(folder) / EXPERTS


def _open_heard(
    encoder: str, info: ExpertsInfo, precision: Precision = "auto", device: str | None = None
) -> ReadyEncoder:
    """The encoder with the layers and the window that experts hear."""
    return open_heard(
        encoder,
        _TRAINED_ON,
        layers=info.encoder_layers,
        window_seconds=info.window_seconds,
        precision=precision,
        device=device,
    )


def _check_fit(encoder: ReadyEncoder, infos: Sequence[ExpertsInfo]) -> None:
    other = next((info.encoder_digest for info in infos if info.encoder_digest != encoder.digest), None)
    if other is not None:
        raise RequestError(
            f"{_TRAINED_ON} the states of another encoder",
            expected=f"encoder weights {other[:16]}",
            found=f"encoder weights {encoder.digest[:16]}",
            hint="give the captioner that the store was extracted with",
        )
    check_alike(infos)


def strongest_first(scores: Mapping[str, float], spec: TargetSpec) -> dict[str, float]:
    """Emotions, strongest on its own scale first; whatever else is scored follows in its own order."""
    ranked = sorted(spec.ranked, key=lambda name: -spec[name].share(scores[name]))
    return {name: scores[name] for name in [*ranked, *spec.apart]}


def _voice_folder(folder: Path) -> Path:
    for candidate in (folder, *sorted((folder / "data").glob("*"))):  # MLflow keeps the name of what was registered
        if (candidate / ENCODER).is_dir() and (candidate / EXPERTS).is_dir():
            return candidate
    raise RequestError(
        "this folder holds no voice model",
        where=folder,
        expected=f"the folders {ENCODER}/ and {EXPERTS}/",
        found=", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder",
        hint="emonet heads trains one; its folder is runs/EXPERIMENT/voice",
    )
