"""The pipeline on ONNX Runtime: audio to scores without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32
from pydantic import ValidationError

from emonet.errors import EmonetError, RequestError
from emonet.inference.onnx_files import ENCODER_FILE, EXPERTS_FILE, METADATA, OnnxDescription, read_manifest
from emonet.inference.predictions import SampleScores, sample_scores
from emonet.inference.scoring import Scoring
from emonet.windows import SAMPLE_RATE, Window


@final
class OnnxPipeline(Scoring):
    """Scores recordings, sounds in memory and live sound, as `EmotionPipeline` does, with an exported model.

    Args:
        description: of the model.
        encoder: ONNX Runtime's session of the encoder.
        experts: that of the experts.

    Attributes:
        encoder: what is known of it: window, digest, precision.

    Example:
        >>> pipeline = EmotionPipeline.from_onnx("exported")  # doctest: +SKIP
        >>> pipeline("a.wav")  # doctest: +SKIP
        {'elation': 2.31, 'amusement': 1.08, ...}
    """

    def __init__(self, description: OnnxDescription, encoder: Any, experts: Any) -> None:
        super().__init__(description.target_spec, description.population)
        self.encoder: OnnxDescription = description
        self.calibration = description.calibration
        self._encoder, self._experts = encoder, experts
        self._outputs = [one.name for one in experts.get_outputs()]

    @classmethod
    def from_folder(cls, folder: Path | str, *, threads: int | None = None) -> OnnxPipeline:
        """Load what `emonet export onnx` made.

        Args:
            folder: with the ONNX files and `onnx.json`.
            threads: that compute (count); by default as many as there are cores.

        Raises:
            RequestError: if the folder holds no export, or one that is damaged or of another version; or for a number
                of threads that there cannot be.
        """
        if threads is not None and threads < 1:
            raise RequestError("a pipeline needs at least one thread", expected="threads of 1 and more", found=threads)
        place = Path(folder).expanduser()
        description = read_manifest(place).description
        sessions = [_session(place / name, description, threads) for name in (ENCODER_FILE, EXPERTS_FILE)]
        return cls(description, *sessions)

    @property
    def calibrated(self) -> bool:
        """Whether scores are calibrated on the validation clips of the experts."""
        return self.calibration is not None

    @property
    def coverage(self) -> float | None:
        """Share of true scores that uncertainties are made to hold (0 to 1); None where there are no ensembles."""
        intervals = self.encoder.intervals
        return None if intervals is None else intervals.coverage

    def _scores(self, sounds: Sequence[Float32[np.ndarray, " _samples"]]) -> list[SampleScores]:
        # One sound at a time: int8 takes its steps from all that a product holds, so what stands beside would count.
        found = [self._computed(sound) for sound in sounds]
        rows = {name: np.concatenate([one[name] for one in found]) for name in self._outputs}
        scores = rows["scores"]
        if not np.isfinite(scores).all():
            raise EmonetError("the exported model gives scores that are not finite", hint="emonet export onnx again")
        half_widths = np.full(scores.shape, math.nan)
        if self.encoder.intervals is not None and "spread" in rows:
            half_widths = self.encoder.intervals.half_widths(rows["spread"].astype(np.float64), self.targets)
        scaled = scores if self.calibration is None else self.calibration.apply(scores, self.targets)
        return sample_scores(self.targets, scaled, half_widths, rows.get("unfamiliarity"))

    def states(self, waveforms: Float32[np.ndarray, "batch samples"]) -> Float32[np.ndarray, "batch frames width"]:
        """The encoder's states of sounds, rounded to float16.

        Args:
            waveforms: 16 kHz mono, cut or padded with zeros to the window, shape (batch, window.samples).
        """
        (found,) = self._encoder.run(["states"], {"waveforms": waveforms})
        states: np.ndarray = found
        return states

    def _computed(self, sound: Float32[np.ndarray, " _samples"]) -> Mapping[str, np.ndarray]:
        window = self.encoder.window
        heard = sound[: window.samples]
        count = np.array([window.speech_frames(len(heard) / SAMPLE_RATE, self.encoder.frames)], np.int64)
        given = {"states": self.states(padded([heard], window)), "speech_frames": count}
        return dict(zip(self._outputs, self._experts.run(self._outputs, given), strict=True))


def padded(sounds: Sequence[Float32[np.ndarray, " _samples"]], window: Window) -> Float32[np.ndarray, "batch samples"]:
    """Sounds cut or padded with zeros to a window; as `emonet.audio.pad`, which makes a tensor."""
    waveforms = np.zeros((len(sounds), window.samples), np.float32)
    for row, sound in zip(waveforms, sounds, strict=True):
        heard = sound[: window.samples]
        row[: len(heard)] = heard
    return waveforms


def _session(path: Path, description: OnnxDescription, threads: int | None) -> Any:
    """ONNX Runtime's session of a file that is what the description says.

    Raises:
        RequestError: if ONNX Runtime does not take the file, or it carries no, or another, description.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of its own optimisations
    # Its threads wait for more work at full speed. Once a pass is done they are in the way of the other file's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except (
        states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NoSuchFile,
        states.NotImplemented, states.RuntimeException,
    ) as error:  # fmt: skip
        raise RequestError(
            "ONNX Runtime cannot load a file of the exported model",
            where=path,
            found=str(error).splitlines()[0],
            hint="emonet export onnx MODEL FOLDER makes it again; or a newer onnxruntime",
        ) from error
    told = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if told is None or not _same(told, description):
        raise RequestError(
            "a file of the exported model carries no description" if told is None else "a file is of another model",
            where=path,
            expected=f"metadata {METADATA!r} that say the same as onnx.json",
            found="none" if told is None else None,
            hint="keep the files of one export together",
        )
    return session


def _same(told: str, description: OnnxDescription) -> bool:
    """Whether metadata say what a description does, however they are written."""
    try:
        return OnnxDescription.model_validate_json(told) == description
    except ValidationError:
        return False
