"""Features of baselines: log-mel statistics, openSMILE's functionals, the mean of Whisper's last layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from emonet.audio import LogMel, pad, processors
from emonet.baselines.names import SETS, WHISPER
from emonet.encoders import depth_of, locate, open_encoder, weights_identity
from emonet.errors import RequestError
from emonet.runtime import PLUGIN, resolve_device, resolve_precision
from emonet.windows import CONV_STRIDE, PRETRAINED_SECONDS, SAMPLE_RATE, Window

if TYPE_CHECKING:
    from emonet.encoders import ReadyEncoder

MELS_VERSION = "1"  # of `_mel_features`; another one where its figures change

Measure = Callable[[Sequence[np.ndarray]], Float32[np.ndarray, "clips features"]]
"""Features of some clips' audio, 16 kHz, each as long as the clip or the window."""


@dataclass(frozen=True)
class FeatureSet:
    """Features that a clip has, whatever model is fitted on them.

    Args:
        name: of its file.
        version: of what measures them; other features have another one.
        window: as much audio as it hears.
        measure: the features of some clips.
    """

    name: str
    version: str
    window: Window
    measure: Measure = field(repr=False)


def feature_set(baseline: str, window: Window, captioner: str | None = None) -> FeatureSet:
    """What a baseline is fitted on.

    Args:
        baseline: its name, one that hears clips.
        window: as much audio as the experts hear.
        captioner: folder or hub id of the Whisper that `whisper_last_mean` hears by.

    Raises:
        RequestError: if it needs a whole Whisper of 30 s, and the captioner is none.
    """
    name = baseline.rpartition("_")[0]
    if baseline == WHISPER:
        return _whisper_last(captioner)
    if name in SETS:
        from importlib.metadata import version

        return FeatureSet(name, version("opensmile"), window, lambda waves: _functionals(waves, SETS[name]))
    return FeatureSet(name, MELS_VERSION, window, lambda waves: _mel_features(waves, window))


def require_whisper(baselines: Collection[str], captioner: str) -> None:
    """Check, before anything is computed, that there is a whole Whisper of 30 s if a baseline needs one.

    Args:
        baselines: by name.
        captioner: folder or hub id of the experts' encoder, or `plugin:NAME[:ARGUMENT]`.

    Raises:
        RequestError: if there is none.
    """
    if WHISPER in baselines:
        _whisper_of_30_seconds(captioner)


def _mel_features(waves: Sequence[np.ndarray], window: Window) -> Float32[np.ndarray, "clips features"]:
    """Mean and deviation of each log-mel band over the frames that hear the clip, `2 * 80` features."""
    rows = []
    for wave, mel in zip(waves, LogMel()(pad(waves, window)), strict=True):
        heard = mel[:, : CONV_STRIDE * window.speech_frames(len(wave) / SAMPLE_RATE)]
        rows.append(torch.cat((heard.mean(1), heard.std(1, correction=0))).numpy())
    return np.stack(rows)


def _functionals(waves: Sequence[np.ndarray], name: str) -> Float32[np.ndarray, "clips features"]:
    """Functionals of whole clips, by openSMILE, which knows no padding; it computes outside of Python's lock."""
    smile = _smile(name)
    with ThreadPoolExecutor(processors()) as pool:
        rows = list(pool.map(lambda wave: smile(wave, SAMPLE_RATE)[0, :, 0], waves))
    # openSMILE leaves some functionals of unvoiced clips open.
    features: np.ndarray = np.nan_to_num(np.stack(rows).astype(np.float32), posinf=0.0, neginf=0.0)
    return features


@cache
def _smile(name: str) -> Any:
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)


def _whisper_last(captioner: str | None) -> FeatureSet:
    """The mean over all states of the last layer at 30 s, padded with zeros: what most comparisons take of Whisper."""
    source, window = _whisper_of_30_seconds(captioner), Window(PRETRAINED_SECONDS)
    version = f"{weights_identity(source)} {resolve_precision('auto', resolve_device(None))}"
    encoders: list[ReadyEncoder] = []  # loaded for the first clip that nobody has measured

    def measure(waves: Sequence[np.ndarray]) -> Float32[np.ndarray, "clips features"]:
        if not encoders:
            encoders.append(open_encoder(source, layers="last"))
        parts = encoders[0].stream(torch.split(pad(waves, window), encoders[0].batch_size()))
        means: np.ndarray = torch.cat([states.float().mean(1) for states in parts]).numpy()
        return means

    return FeatureSet("whisper_last", version, window, measure)


def _whisper_of_30_seconds(captioner: str | None) -> str:
    found = "no captioner" if captioner is None else f"the encoder {captioner}"
    if captioner is not None and not captioner.startswith(PLUGIN):
        config = json.loads((Path(locate(captioner)) / "config.json").read_text("utf-8"))
        seconds = Window.of_frames(int(config["max_source_positions"])).seconds
        kept, depth = int(config["encoder_layers"]), depth_of(config)
        if seconds == PRETRAINED_SECONDS and kept == depth:
            return captioner
        lacks = "" if kept == depth else f" and keeps the first {kept} of {depth} layers"
        found = f"{captioner}, which hears {seconds:g} s{lacks}"
    raise RequestError(
        f"{WHISPER} needs a Whisper that hears {PRETRAINED_SECONDS:g} s, its last layer included",
        expected="the states of a pretrained Whisper, such as openai/whisper-base",
        found=found,
        hint=f"leave {WHISPER} out of --evaluation.baselines",
    )
