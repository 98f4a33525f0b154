"""Export to ONNX: a voice model as two files that ONNX Runtime computes, checked against the model before it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64

from emonet.checkpoints import Intervals
from emonet.encoders import FrozenEncoder, ReadyEncoder
from emonet.errors import EmonetError, RequestError
from emonet.experts import QuantizedBank
from emonet.exporting.encoder_graph import encoder_graph
from emonet.exporting.experts_graph import experts_graph
from emonet.exporting.files import BESIDE, write_graph
from emonet.inference import (
    ENCODER_FILE,
    EXPERTS_FILE,
    MANIFEST,
    EmotionPipeline,
    OnnxDescription,
    OnnxFile,
    OnnxManifest,
    OnnxPipeline,
    padded,
)
from emonet.runtime import Progress, ignore, replacing
from emonet.schema import Schema
from emonet.targets import TargetSpec
from emonet.version import __version__
from emonet.windows import SAMPLE_RATE, Window

TOLERANCE = 1e-3
"""Largest difference to the model's own scores and uncertainties that an export in float32 may have, on a scale of 0 to
4; and to the encoder's states, as a share of them, since experts that hardly tell sounds apart would hide any."""
OnnxPrecision = Literal["float32", "int8"]


class Differences(Schema):
    """How far the scores of the files are from those of the model on PyTorch in float32, on the same sounds."""

    sounds: int
    """That were compared (count)."""
    largest: float
    """Of all scores, on a scale of 0 to 4."""
    mean: float
    """Of all scores, on a scale of 0 to 4."""
    target: str
    """Whose score differs most."""
    states: float
    """Of the encoder's states: root mean square, as a share of theirs; of the sound where it is largest."""
    uncertainties: float = 0.0
    """Of the half-widths of all scores' intervals, on a scale of 0 to 4: the largest; 0 where there are none."""
    unfamiliarity: float = 0.0
    """Of how unfamiliar sounds are, as a share of it where it is above 1: the largest; 0 where that is not known."""

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max(self.largest, self.states, self.uncertainties, self.unfamiliarity)


class OnnxExport(Schema):
    """What was written."""

    folder: Path
    """Of the files."""
    description: OnnxDescription
    """Of the model."""
    files: dict[str, OnnxFile]
    """By name."""
    differences: Differences
    """To the model on PyTorch."""


def export_onnx(
    pipeline: EmotionPipeline,
    folder: Path,
    *,
    name: str,
    version: int | None = None,
    precision: OnnxPrecision = "float32",
    sounds: Sequence[Float32[np.ndarray, " _samples"]] = (),
    progress: Progress = ignore,
) -> OnnxExport:
    """Write a model as ONNX files; they appear when they are whole and have been checked.

    Args:
        pipeline: the model, encoder and experts in float32 on the processor.
        folder: where to; replaced if it exists.
        name: of the model, for those who read the files.
        version: in the registry.
        precision: int8 keeps the weights of wide layers in one byte each, and rounds what they are multiplied with.
        sounds: that the files are checked on, 16 kHz mono; by default some that are made here.
        progress: called with the number of sounds that were compared.

    Raises:
        RequestError: if the encoder is no Whisper's, or the package onnx is not installed.
        EmonetError: if the files compute otherwise than the model.
        ValueError: if the pipeline was opened in another precision, or on a GPU.
    """
    require_onnx()
    encoder = _whisper(pipeline.encoder)
    _require_float32(pipeline)
    description = _describe(pipeline, encoder, name, version, precision)
    int8 = precision == "int8"
    graphs = {
        ENCODER_FILE: encoder_graph(encoder, int8=int8),
        EXPERTS_FILE: experts_graph(pipeline.banks, pipeline.familiarity, encoder, int8=int8),
    }
    with replacing(folder) as partial:
        for file, graph in graphs.items():
            write_graph(graph, partial / file, description)
        del graphs
        files = {path.name: OnnxFile.of(path) for path in sorted(partial.iterdir())}
        OnnxManifest(description=description, files=files).write(partial)
        differences = compare(pipeline, OnnxPipeline.from_folder(partial), sounds, progress)
        if precision == "float32" and not differences.worst <= TOLERANCE:
            raise EmonetError(
                "the exported files compute otherwise than the model, and were not kept",
                expected=f"differences up to {TOLERANCE:g} of scores and uncertainties, on a scale of 0 to 4, and of "
                "the rest, as a share",
                found=f"scores {differences.largest:.2g} ({differences.target}), states {differences.states:.2g}, "
                f"uncertainties {differences.uncertainties:.2g}, unfamiliarity {differences.unfamiliarity:.2g}",
            )
    return OnnxExport(folder=folder, description=description, files=files, differences=differences)


def compare(
    model: EmotionPipeline,
    exported: OnnxPipeline,
    sounds: Sequence[Float32[np.ndarray, " _samples"]] = (),
    progress: Progress = ignore,
) -> Differences:
    """How far the scores of two pipelines are apart.

    Args:
        model: on PyTorch, in float32.
        exported: on ONNX Runtime.
        sounds: that both hear; by default some that are made here.
        progress: called with the number of sounds that were compared.
    """
    window, spec = model.encoder.window, model.target_spec
    heard = list(sounds) or made_sounds(window)
    scores, widths, states, distances = [], [], [], []
    for done, sound in enumerate(heard):
        progress(done, len(heard))
        mine, theirs = (one.score_samples([sound])[0] for one in (exported, model))
        scores.append(_apart(mine.scores, theirs.scores, spec))
        widths.append(_apart(mine.uncertainties, theirs.uncertainties, spec))
        distances.append(_farther(mine.unfamiliarity, theirs.unfamiliarity))
        waveforms = padded([sound], window)
        wanted = model.encoder.states(torch.from_numpy(waveforms)).float().numpy()
        states.append(np.linalg.norm(exported.states(waveforms) - wanted) / np.linalg.norm(wanted))
    progress(len(heard), len(heard))
    apart = np.array(scores)
    return Differences(
        sounds=len(heard),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        target=spec.ids[int(apart.max(0).argmax())],
        states=float(np.max(states)),
        uncertainties=float(np.max(widths)),
        unfamiliarity=float(np.max(distances)),
    )


def _apart(mine: Mapping[str, float], theirs: Mapping[str, float], spec: TargetSpec) -> Float64[np.ndarray, " targets"]:
    """Of each target, on a scale of 0 to 4; 0 where neither knows, all of it where only one does."""
    values = np.array([[one.get(name, math.nan) for name in spec.ids] for one in (mine, theirs)])
    apart: np.ndarray = np.abs(values[0] - values[1]) * 4 / (spec.high - spec.low)
    return np.where(np.isnan(values).all(0), 0.0, np.nan_to_num(apart, nan=4.0))


def _farther(mine: float | None, theirs: float | None) -> float:
    if mine is None or theirs is None:
        return 0.0 if mine is theirs else 1.0
    return abs(mine - theirs) / max(theirs, 1.0)


def made_sounds(window: Window) -> list[Float32[np.ndarray, " samples"]]:
    """Sounds that differ in length, pitch, loudness and noise; one of them is as long as the window."""
    random, sounds = np.random.default_rng(0), []
    for share, hertz, noise in ((1.0, 120, 0.01), (0.6, 210, 0.1), (0.3, 330, 0.001), (0.8, 90, 0.3)):
        moments = np.arange(round(share * window.samples)) / SAMPLE_RATE
        phase = 2 * np.pi * (hertz * moments + 3 * np.sin(2 * np.pi * 5 * moments))
        voice = sum(np.sin(part * phase) / part for part in range(1, 9)) * (0.6 + 0.4 * np.sin(9 * moments))
        sounds.append((0.1 * voice + noise * random.normal(0, 1, len(moments))).clip(-1, 1).astype(np.float32))
    return sounds


def nothing_but_onnx(folder: Path) -> bool:
    """Whether all that a folder holds is what an export writes, so that nothing else is lost with it."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir()}
    known = {MANIFEST, *(file + end for file in (ENCODER_FILE, EXPERTS_FILE) for end in ("", BESIDE))}
    return MANIFEST in names and names <= known


def _describe(
    pipeline: EmotionPipeline, encoder: FrozenEncoder, name: str, version: int | None, precision: OnnxPrecision
) -> OnnxDescription:
    fitted = [info.intervals for _, info in pipeline.banks if info.intervals is not None and info.intervals.factors]
    factors = {target: factor for one in fitted for target, factor in one.factors.items()}
    coverage = pipeline.coverage
    return OnnxDescription(
        emonet_version=__version__,
        name=name,
        version=version,
        precision=precision,
        window_seconds=encoder.window.seconds,
        frames=encoder.frames,
        width=encoder.width,
        layers=encoder.layers,
        encoder_digest=encoder.digest,
        targets=pipeline.target_spec.to_json(),
        population=pipeline.population,
        intervals=None if coverage is None else Intervals(coverage=coverage, factors=factors),
        calibration=pipeline.calibration,
    )


def _whisper(encoder: ReadyEncoder) -> FrozenEncoder:
    if not isinstance(encoder, FrozenEncoder):
        raise RequestError(
            "only models on a Whisper's encoder can be exported to ONNX",
            expected="an encoder of Whisper's form",
            found="one of wav2vec 2.0's family" if encoder.depth is not None else "one of a plug-in",
        )
    return encoder


def _require_float32(pipeline: EmotionPipeline) -> None:
    """Raise unless the pipeline computes in float32 on the processor: else the files would be compared with less."""
    rounded = any(isinstance(bank, QuantizedBank) for bank, _ in pipeline.banks)
    if rounded or pipeline.encoder.precision != "float32" or pipeline.encoder.device.type != "cpu":
        raise ValueError("open the model with precision='float32' and device='cpu' to export it")


def require_onnx() -> None:
    """Raise unless the package onnx is there.

    Raises:
        RequestError: if it is not.
    """
    from importlib.util import find_spec

    if find_spec("onnx") is None:
        raise RequestError("the package onnx is not installed", hint="pip install 'emonet[onnx]'")
