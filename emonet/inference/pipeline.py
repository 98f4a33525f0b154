"""The pipeline from audio to scores: encoder and experts in one object, for library, command line and server."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from emonet.checkpoints import Calibration, Population, check_targets
from emonet.configs import Precision
from emonet.inference.onnx_pipeline import OnnxPipeline
from emonet.inference.predictions import SampleScores, sample_scores
from emonet.inference.scoring import Scoring
from emonet.runtime import Progress, ignore
from emonet.targets import TargetSpec
from emonet.windows import SAMPLE_RATE

if TYPE_CHECKING:  # all of them import torch, which `from_onnx` does without
    import torch

    from emonet.checkpoints import Familiarity, LoadedBank
    from emonet.encoders import ReadyEncoder
    from emonet.experts import ExpertsPrecision

CHAMPION_URI = "models:/emonet-voice@champion"


class EmotionPipeline(Scoring):
    """Scores recordings with an encoder and its experts.

    Recordings are decoded in processes of their own: one that crashes the decoder costs itself and nothing else.

    Args:
        encoder: turns audio into states.
        banks: the experts, one bank for each form and depth; all hear the same states.
        calibration: what becomes of their scores, if they are calibrated.
        familiarity: what the training clips of each bank are like, as far as that is known.

    Attributes:
        population: what the experts give their training clips, as far as that is known.

    Raises:
        RequestError: if experts were trained on another encoder's states, or a target has several, or the calibration
            has curves of other targets.

    Example:
        >>> pipeline = EmotionPipeline.from_registry("models:/emonet-voice@champion")  # doctest: +SKIP
        >>> pipeline("a.wav")  # doctest: +SKIP
        {'elation': 2.31, 'amusement': 1.08, ...}
    """

    def __init__(
        self,
        encoder: ReadyEncoder,
        banks: Sequence[LoadedBank],
        calibration: Calibration | None = None,
        familiarity: Sequence[Familiarity] = (),
    ) -> None:
        from emonet.inference.folders import check_fit

        infos = [info for _, info in banks]
        check_fit(encoder, infos)
        spec = TargetSpec(tuple(target for info in infos for target in info.target_spec))
        super().__init__(spec, Population.joined(info.population for info in infos))
        self.encoder: ReadyEncoder = encoder
        self.banks = _placed(banks, encoder.device)
        self.familiarity = tuple(familiarity)
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
    def from_pretrained(
        cls,
        name: Path | str,
        *,
        revision: str | None = None,
        precision: Precision = "auto",
        experts_precision: ExpertsPrecision = "float32",
        device: str | None = None,
    ) -> EmotionPipeline:
        """Load a voice model from the Hugging Face hub, as `emonet push` uploads it; or a local folder of that form.

        Without a network the copy that was downloaded before is used, with a warning that says so.

        Args:
            name: `ORG/NAME`, or a folder.
            revision: branch, tag or commit; by default main.
            precision: arithmetic of the encoder.
            experts_precision: as in `from_registry`.
            device: as in `from_registry`.

        Raises:
            RequestError: if there is no such model or revision, or it is not one of emonet's, or not whole.
            EmonetError: if the hub does not answer, and the model was not downloaded before.
        """
        from emonet.hub import fetch_model

        folder = fetch_model(str(name), revision, say=lambda text: warnings.warn(text, stacklevel=4))
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
        from emonet.encoders import open_encoder
        from emonet.inference.folders import voice_folder
        from emonet.registry import ENCODER, EXPERTS

        root = voice_folder(Path(folder))
        encoder = open_encoder(str(root / ENCODER), precision=precision, device=device)
        return cls._of_folder(encoder, root / EXPERTS, experts_precision)

    @classmethod
    def from_onnx(cls, folder: Path | str, *, threads: int | None = None) -> OnnxPipeline:
        """Load what `emonet export onnx` made; it scores on ONNX Runtime, and torch is not imported.

        Args:
            folder: with the ONNX files and `onnx.json`.
            threads: that compute (count); by default as many as there are cores.

        Raises:
            RequestError: if the folder holds no export, or one that is damaged or of another version.
        """
        return OnnxPipeline.from_folder(folder, threads=threads)

    @classmethod
    def _of_folder(cls, encoder: ReadyEncoder, experts: Path, precision: ExpertsPrecision) -> EmotionPipeline:
        from emonet.checkpoints import load_banks, read_calibration, read_familiarity

        banks = load_banks(experts, precision)
        return cls(encoder, banks, read_calibration(experts), read_familiarity(experts))

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
        from emonet.checkpoints import (
            bank_folders,
            check_banks,
            holds_published,
            load_published,
            open_published,
            read_info,
        )
        from emonet.encoders import open_encoder
        from emonet.inference.folders import open_ready

        folder = Path(experts)
        published = holds_published(folder)
        (open_published if published else check_banks)(folder)  # before the encoder is loaded, or even fetched
        if published:
            ready = open_encoder(encoder, precision=precision, device=device)
            return cls(ready, load_published(folder, ready, experts_precision, progress=progress))
        ready = open_ready(encoder, read_info(bank_folders(folder)[0]), precision, device)
        return cls._of_folder(ready, folder, experts_precision)

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

    def _scores(self, sounds: Sequence[Float32[np.ndarray, " _samples"]]) -> list[SampleScores]:
        import torch

        from emonet.audio import pad
        from emonet.encoders import Padded

        window = self.encoder.window
        samples = [min(len(sound), window.samples) for sound in sounds]
        heard = [window.speech_frames(count / SAMPLE_RATE, self.encoder.frames) for count in samples]
        with torch.inference_mode():
            states = self.encoder.states(Padded(pad(sounds, window), samples))
            return self._of_states(states, torch.tensor(heard))

    def _of_states(self, states: torch.Tensor, lengths: torch.Tensor) -> list[SampleScores]:
        import torch

        scores, half_widths = [], []
        for bank in self.banks:
            place = next(bank.bank.parameters()).device
            # One sound at a time: products of matrices round differently with what stands beside it. Experts on
            # flattened states are too large to be read again for each.
            parts = len(states) if bank.info.form == "flatten" else 1
            rows = zip(torch.split(states.to(place), parts), torch.split(lengths.to(place), parts), strict=True)
            members = torch.cat([bank.scores(*row).cpu() for row in rows])
            scores.append(members.mean(2))
            half_widths.append(bank.half_widths(members))
        found = torch.cat(scores, 1).numpy()
        scaled = self.calibration.apply(found, self.targets) if self.calibration else found
        each = list(zip(torch.split(states, 1), torch.split(lengths, 1), strict=True))
        distances = [np.concatenate([known.unfamiliarity(*one) for one in each]) for known in self.familiarity]
        farthest = np.max(distances, axis=0) if distances else None
        return sample_scores(self.targets, scaled, np.concatenate(half_widths, 1), farthest)


def _placed(banks: Sequence[LoadedBank], device: torch.device) -> tuple[LoadedBank, ...]:
    """The experts on the encoder's device; each bank that does not fit there stays with the processor."""
    import torch

    placed = []
    for loaded in banks:
        try:
            placed.append(loaded._replace(bank=loaded.bank.eval().to(device)))
        except torch.OutOfMemoryError:
            placed.append(loaded._replace(bank=loaded.bank.to("cpu")))
            torch.cuda.empty_cache()
    return tuple(placed)
