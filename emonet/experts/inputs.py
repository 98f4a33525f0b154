"""Inputs of experts: what they see of a clip, in one object for training, export and prediction alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from emonet.configs import InputForm

QUERIES = 4  # attention: pooled views per expert, each a mean and a deviation
STATISTICS = 4  # of each value over time: mean, minimum, maximum, unbiased deviation
_MOMENTS = (0, 3)  # of these: mean and deviation
_PER_VALUE: dict[InputForm, int] = {"statistics": STATISTICS, "moments": len(_MOMENTS)}
POOLED_FORMS = frozenset(_PER_VALUE)
"""Forms that are statistics over time, which a pooled store keeps."""
VARIANCE_FLOOR = 1e-6  # keeps the square root's gradient finite where all states agree


class Features(NamedTuple):
    """What an `ExpertBank` takes: prepared once by `InputSpec.prepare`, without any trained parameter.

    Args:
        values: `batch features` for flatten and statistics; `batch frames width` states for attention.
        lengths: `batch`, how many leading frames of each clip count.
    """

    values: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str) -> Features:
        """The same on another device."""
        return Features(self.values.to(device), self.lengths.to(device))

    def rows(self, index: Tensor) -> Features:
        """The clips at positions `index`."""
        return Features(self.values[index], self.lengths[index])


class LayerPick(NamedTuple):
    """Some of the layers that stand side by side in the states.

    Args:
        of: layers that there are (count).
        positions: of those that experts hear, from 0.
    """

    of: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class InputSpec:
    """The form of an expert's input, and its size.

    * `flatten`: all states one after the other, `frames * width` values (EmoNet-Voice).
    * `statistics`: mean, minimum, maximum and unbiased deviation over time, `4 * width` values, in float32
      (EmoNet-Voice "Plus").
    * `moments`: of these the mean and the deviation alone, `2 * width` values (statistics pooling of x-vectors, Snyder
      et al. 2018, doi:10.1109/ICASSP.2018.8461375).
    * `attention`: each expert weights the states by its own `queries` learned queries (softmax over time) and sees each
      view's weighted mean and deviation, `queries * 2 * width` values (attentive statistics pooling, Okabe et al.
      2018, arXiv:1803.10963).

    Args:
        form: which of them.
        pool_over: `all` frames, or only those that hear the clip (`speech`); flatten always takes all.
        frames: states per clip (1500 for 30 s).
        width: values per state that experts hear (768 for one layer of Whisper small).
        queries: views per expert of the attention form.
        layers: that stand side by side in this width (count).
        picked: which of the layers of the states that are given these are; None is all of them.
    """

    form: InputForm
    pool_over: Literal["all", "speech"]
    frames: int
    width: int
    queries: int = QUERIES
    layers: int = 1
    picked: LayerPick | None = None

    @property
    def given_width(self) -> int:
        """Values per state that is given, of which `width` are heard."""
        return self.width if self.picked is None else self.width // self.layers * self.picked.of

    @property
    def per_value(self) -> int:
        """Of a form that is statistics over time, how many there are of each value; 0 of any other form."""
        return _PER_VALUE.get(self.form, 0)

    @property
    def features(self) -> int:
        """Values that enter an expert's first layer."""
        other = {"flatten": self.frames, "attention": self.queries * 2}
        return (self.per_value or other[self.form]) * self.width

    @property
    def bytes_per_clip(self) -> int:
        """Size of one prepared clip in bytes."""
        return 4 * self.features if self.per_value else 2 * self.frames * self.width

    def prepare(
        self, states: Float[Tensor, "batch _ given"], speech_frames: Int[Tensor, " batch"], *, pooled: bool = False
    ) -> Features:
        """Turn encoder states into what the experts take.

        Args:
            states: encoder states, float16 or float32, `frames` by `given_width`; or what a pooled store keeps of
                them, 4 by `given_width`.
            speech_frames: how many leading states of each clip hear it, 1 to `frames`.
            pooled: the states are statistics over those that hear the clip.

        Raises:
            ValueError: if the states have another shape, or something else than statistics is made of pooled ones.
        """
        expected = (STATISTICS if pooled else self.frames, self.given_width)
        if tuple(states.shape[1:]) != expected:
            raise ValueError(f"states of {tuple(states.shape[1:])}, expected {expected}")
        states = self._heard(states)
        if pooled:
            if not self.per_value or self.pool_over != "speech":
                raise ValueError(f"{self.form} over {self.pool_over} frames cannot be made of statistics over speech")
            return Features(self._of_statistics(states.float()), speech_frames)
        everything = self.form == "flatten" or self.pool_over == "all"
        lengths = torch.full_like(speech_frames, self.frames) if everything else speech_frames
        if self.form == "flatten":
            return Features(states.flatten(1), lengths)
        if self.per_value:
            made = statistics(states, lengths).view(len(states), STATISTICS, self.width)
            return Features(self._of_statistics(made), lengths)
        return Features(states, lengths)

    def means(
        self, states: Float[Tensor, "batch _ given"], speech_frames: Int[Tensor, " batch"], *, pooled: bool = False
    ) -> Float32[Tensor, "batch width"]:
        """Mean over the states that hear each clip, of the layers that are heard, whatever the form of the input.

        Args:
            states: as in `prepare`.
            speech_frames: as in `prepare`.
            pooled: as in `prepare`.
        """
        states = self._heard(states)
        if pooled:
            return states[:, 0].float()
        mask = heard(speech_frames, states.shape[1]).unsqueeze(2)
        return states.float().masked_fill(~mask, 0).sum(1) / speech_frames.unsqueeze(1)

    def _of_statistics(self, made: Float32[Tensor, "batch 4 width"]) -> Float32[Tensor, "batch features"]:
        return (made if self.form == "statistics" else made[:, _MOMENTS]).flatten(1)

    def _heard(self, states: Tensor) -> Tensor:
        """The states of the layers that experts hear."""
        if self.picked is None:
            return states
        layered = states.view(*states.shape[:2], self.picked.of, self.width // self.layers)
        return layered[:, :, torch.tensor(self.picked.positions)].flatten(2)

    def summary(self, features: Features) -> Float32[Tensor, "batch features"]:
        """The first layer's input before anything is learned; standardisation is measured on it.

        That is the features themselves, and for attention every query's view under uniform weights.
        """
        if self.form != "attention":
            return features.values.float()
        pooled = uniform_views(features.values, features.lengths)
        return pooled.repeat(1, self.queries)


def heard(lengths: Int[Tensor, " batch"], frames: int) -> Tensor:
    """Which frames count, `batch frames` of bool."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def statistics(
    states: Float[Tensor, "batch frames width"], lengths: Int[Tensor, " batch"]
) -> Float32[Tensor, "batch features"]:
    """Mean, minimum, maximum and unbiased deviation over the first `lengths` frames, one after the other.

    The deviation of a single frame is 0.
    """
    mask = heard(lengths, states.shape[1]).unsqueeze(2)
    states = states.float()
    count = lengths.unsqueeze(1).float()
    mean = states.masked_fill(~mask, 0).sum(1) / count
    squares = (states - mean.unsqueeze(1)).masked_fill_(~mask, 0).square_().sum(1)
    low = states.masked_fill(~mask, torch.inf).amin(1)
    high = states.masked_fill(~mask, -torch.inf).amax(1)
    return torch.cat((mean, low, high, (squares / (count - 1).clamp(min=1)).sqrt()), 1)


def uniform_views(
    states: Float[Tensor, "batch frames width"], lengths: Int[Tensor, " batch"]
) -> Float32[Tensor, "batch views"]:
    """Mean and deviation under uniform weights: what one query sees before it has learned anything."""
    mask = heard(lengths, states.shape[1]).unsqueeze(2)
    count = lengths.unsqueeze(1).float()
    states = states.float()
    mean = states.masked_fill(~mask, 0).sum(1) / count
    variance = (states - mean.unsqueeze(1)).masked_fill_(~mask, 0).square_().sum(1) / count
    return torch.cat((mean, (variance + VARIANCE_FLOOR).sqrt()), 1)
