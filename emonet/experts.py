"""All experts in one module: each is a published `FullEmbeddingMLP`, all run in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emonet.inputs import Features, InputSpec, attentive_views
from emonet.randomness import seed_of
from emonet.scaling import Scaling

Preset = Literal["small", "large"]
WIDTHS: dict[Preset, tuple[int, ...]] = {"small": (64, 64, 32, 16, 1), "large": (128, 128, 64, 32, 1)}
"""Outputs of the projection and of each layer after it (EmoNet-Voice Small and Large)."""
PUBLISHED_KEYS = ("proj", "mlp.2", "mlp.5", "mlp.8", "mlp.11")
"""The layers' names in published files; each has `.weight` and `.bias`."""
QUERY_KEY = "pool.query"


class StackedLinear(nn.Module):
    """One linear layer per expert, computed together.

    Args:
        experts: how many.
        inputs: features in.
        outputs: features out.
    """

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))

    def forward(self, inputs: Tensor) -> Float[Tensor, "experts batch outputs"]:
        """Apply every expert's layer to its own (`experts batch inputs`) or a shared (`batch inputs`) input."""
        experts, outputs, width = self.weight.shape
        if inputs.dim() == 3:
            return torch.baddbmm(self.bias.unsqueeze(1), inputs, self.weight.transpose(1, 2))
        # Views, no copies: with 1,152,000 inputs the weights of 40 experts take 11.8 GB.
        shared = nn.functional.linear(inputs, self.weight.view(experts * outputs, width), self.bias.view(-1))
        return shared.view(len(inputs), experts, outputs).transpose(0, 1)

    @torch.no_grad()
    def initialise(self, expert: int, generator: torch.Generator) -> None:
        """Draw one expert's weights and biases as `nn.Linear` does, in place."""
        bound = 1 / math.sqrt(self.weight.shape[2])
        self.weight[expert].uniform_(-bound, bound, generator=generator)
        self.bias[expert].uniform_(-bound, bound, generator=generator)


class HeadBank(nn.Module):
    """All experts as stacked tensors.

    `bank(spec.prepare(states, speech_frames))` gives scores, `batch experts`, unclamped: published experts leave
    their range, too.

    Args:
        spec: the form of the input.
        targets: ids, one expert each; also seeds each expert's start, which so does not depend on its company.
        preset: width of the layers.
        seed: of the random start; None leaves zeros, for weights that are about to be loaded.
        dropout: after the projection and after each of three hidden layers (0 to 1).
    """

    def __init__(
        self,
        spec: InputSpec,
        targets: Sequence[str],
        preset: Preset,
        *,
        seed: int | None = 0,
        dropout: Sequence[float] = (0.0, 0.1, 0.1, 0.1),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.targets = tuple(targets)
        self.preset: Preset = preset
        widths = (spec.features, *WIDTHS[preset])
        experts = len(self.targets)
        self.layers = nn.ModuleList(StackedLinear(experts, *pair) for pair in pairwise(widths))
        self.dropouts = nn.ModuleList(nn.Dropout(share) for share in dropout)
        # Zeros weight all frames alike: the start is plain mean and deviation.
        queries = torch.zeros(experts, spec.queries, spec.width) if spec.form == "attention" else None
        self.query = nn.Parameter(queries) if queries is not None else None
        # Set by `standardise`, gone after `fold`; never saved.
        self.shift: Tensor | None
        self.scale: Tensor | None
        self.state_scale: Tensor | None
        for name in ("shift", "scale", "state_scale"):
            self.register_buffer(name, None, persistent=False)
        if seed is not None:
            self._initialise(seed)

    def forward(self, features: Features) -> Float[Tensor, "batch experts"]:
        """Scores of a batch of clips by all experts."""
        hidden = self.layers[0](self._inputs(features))
        for dropout, layer in zip(self.dropouts, list(self.layers)[1:], strict=True):
            hidden = layer(dropout(hidden.relu()))
        scores: Tensor = hidden.squeeze(2).T
        return scores

    def _inputs(self, features: Features) -> Tensor:
        if self.query is None:
            inputs = features.values.float()
        else:
            query = self.query if self.state_scale is None else self.query / self.state_scale
            inputs = attentive_views(features.values, features.lengths, query)
        return inputs if self.shift is None or self.scale is None else (inputs - self.shift) / self.scale

    def standardise(self, scaling: Scaling) -> None:
        """Scale inputs by what was measured on the training clips, until `fold` moves that into the weights."""
        device = next(self.parameters()).device
        self.shift, self.scale = scaling.shift.to(device), scaling.scale.to(device)
        self.state_scale = scaling.states.to(device)

    @torch.no_grad()
    def fold(self) -> None:
        """Move the scaling of inputs into the first layer, in place, so that experts have the published form.

        w ((x - m) / s) + b = (w / s) x + (b - (w / s) m); a query over scaled states is one divided by their scale,
        since a constant does not change a softmax.
        """
        if self.shift is None or self.scale is None or self.state_scale is None:
            return
        first = self.layers[0]
        assert isinstance(first, StackedLinear)
        first.weight.div_(self.scale)
        shift = self.shift.double()
        for weight, bias in zip(first.weight.flatten(0, 1), first.bias.view(-1), strict=True):
            bias.sub_(weight.double() @ shift)  # row by row: a double copy of all weights would not fit
        if self.query is not None:
            self.query.div_(self.state_scale)
        self.shift = self.scale = self.state_scale = None

    def tensors(self, expert: int) -> Iterator[tuple[str, Tensor]]:
        """One expert's tensors (views) under their published names; attention's query under `pool.query`."""
        for key, layer in zip(PUBLISHED_KEYS, self.layers, strict=True):
            assert isinstance(layer, StackedLinear)
            yield f"{key}.weight", layer.weight.detach()[expert]
            yield f"{key}.bias", layer.bias.detach()[expert]
        if self.query is not None:
            yield QUERY_KEY, self.query.detach()[expert]

    def _initialise(self, seed: int) -> None:
        for expert, target in enumerate(self.targets):
            generator = torch.Generator().manual_seed(seed_of(seed, "expert", target))
            for layer in self.layers:
                assert isinstance(layer, StackedLinear)
                layer.initialise(expert, generator)
