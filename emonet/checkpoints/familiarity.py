"""Familiarity: how far a clip lies from those that a model was trained on, as the encoder hears it.

The distance is Mahalanobis' to the mean of the training clips (Lee et al. 2018, arXiv:1807.03888, with one Gaussian for
all classes), of a clip's mean state, in the leading principal components of the training clips, whose covariance is
shrunk (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4). Its unit is the 99th percentile over validation clips:
no test clip has a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, Float16, Float32, Float64, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from emonet.checkpoints.files import bank_folders, read_info
from emonet.errors import RequestError
from emonet.experts import InputSpec

FILE = "familiarity.safetensors"
LEVEL = 0.99
"""Share of validation clips that are to lie within a distance of 1."""
FEWEST = 20
"""Clips (count) in training and in validation below which distances would be noise."""
_FORMAT = "1"
_COMPONENTS = 64
_CLIPS_PER_COMPONENT = 4  # so that its variance is known
_COMPONENT_BYTES = 960 << 10  # of all of them: the file stays below 1 MB, however many layers experts hear
_SHAPE_FIELDS = ("mean", "components", "scales")


@final
@dataclass(frozen=True)
class Familiarity:
    """What a bank's training clips are like.

    Args:
        spec: of the experts: which layers of the states are heard.
        mean: of the training clips' mean states.
        components: orthonormal directions, in which the shrunk covariance is diagonal.
        scales: of each: one over its deviation, and over the distance that 99 % of validation clips lie within.
        clips: training clips that it was measured on (count).
        validation_clips: that it was calibrated on (count).
    """

    spec: InputSpec
    mean: Float32[np.ndarray, " width"]
    components: Float16[np.ndarray, "components width"]
    scales: Float32[np.ndarray, " components"]
    clips: int
    validation_clips: int

    def unfamiliarity(
        self, states: Float[Tensor, "batch _ given"], speech_frames: Int[Tensor, " batch"]
    ) -> Float64[np.ndarray, " batch"]:
        """Distance of each clip to the training clips; 1 is as far as 99 % of validation clips reach.

        Args:
            states: of the encoder, as the experts are given them.
            speech_frames: how many leading states of each clip hear it.
        """
        return self.of_means(self.spec.means(states, speech_frames.to(states.device)).cpu().numpy())

    def of_means(self, means: Float[np.ndarray, "batch width"]) -> Float64[np.ndarray, " batch"]:
        """The same of clips' mean states (`InputSpec.means`)."""
        along = (means.astype(np.float32) - self.mean) @ self.components.astype(np.float32).T
        found: Float64[np.ndarray, " batch"] = np.linalg.norm((along * self.scales).astype(np.float64), axis=1)
        return found

    def write(self, folder: Path) -> None:
        """Write it beside the experts of `folder`."""
        counts = {"clips": str(self.clips), "validation_clips": str(self.validation_clips)}
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _SHAPE_FIELDS}
        save_file(tensors, folder / FILE, {"format_version": _FORMAT, **counts})


def fit_familiarity(
    train: Float32[np.ndarray, "train width"], validation: Float32[np.ndarray, "validation width"], spec: InputSpec
) -> Familiarity | None:
    """Measure training clips, and calibrate the distance to them on validation clips.

    Args:
        train: mean states of clips that the experts were trained on (`InputSpec.means`).
        validation: the same of clips that no expert was trained on.
        spec: of the experts.

    Returns:
        None where there are fewer than 20 clips of either, or all are the same.
    """
    if min(len(train), len(validation)) < FEWEST or not np.ptp(train, axis=0).any():
        return None
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    width = train.shape[1]
    count = min(_COMPONENTS, len(train) // _CLIPS_PER_COMPONENT, width, _COMPONENT_BYTES // (2 * width))
    mean = train.mean(0, dtype=np.float64).astype(np.float32)
    # Not scaled value by value: the few strong values of a transformer tell most of what is no speech.
    principal: Any = PCA(max(count, 1), svd_solver="randomized", random_state=0).fit(train - mean)
    along = (train - mean) @ principal.components_.T
    variances, turned = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(along.astype(np.float64)).covariance_)
    components = (turned.T @ principal.components_).astype(np.float16)
    raw = Familiarity(spec, mean, components, (1 / np.sqrt(variances)).astype(np.float32), len(train), len(validation))
    unit = float(np.quantile(raw.of_means(validation), LEVEL))
    if not (np.isfinite(unit) and unit > 0):
        return None
    scales = (raw.scales / unit).astype(np.float32)
    return Familiarity(spec, mean, components, scales, len(train), len(validation))


def read_familiarity(experts: Path) -> tuple[Familiarity, ...]:
    """That of each bank in a folder of experts; older and published experts have none.

    Raises:
        RequestError: if a file cannot be read, or is of other states than the experts hear.
    """
    return tuple(found for folder in bank_folders(experts) if (found := _read(folder)) is not None)


def _read(folder: Path) -> Familiarity | None:
    path = folder / FILE
    if not path.exists():
        return None
    spec = read_info(folder).spec
    try:
        with safe_open(path, "numpy") as file:
            told: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in _SHAPE_FIELDS}
            counts = int(told["clips"]), int(told["validation_clips"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RequestError("what is known of the training clips cannot be read", where=path, found=error) from error
    components = tensors["scales"].size
    expected = {"mean": (spec.width,), "components": (components, spec.width), "scales": (components,)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected or told.get("format_version") != _FORMAT:
        raise RequestError(
            "what is known of the training clips does not fit the experts",
            where=path,
            expected=f"format {_FORMAT}, shapes {expected}",
            found=f"format {told.get('format_version')}, shapes {found}",
            hint="keep the files of one training together",
        )
    return Familiarity(spec, tensors["mean"], tensors["components"], tensors["scales"], *counts)
