"""The bank of experts: all in one module, each a published `FullEmbeddingMLP` (an MLP head), run in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emonet.experts.dropout import ExpertDropout
from emonet.experts.inputs import Features, InputSpec
from emonet.experts.layer_mix import LayerMix
from emonet.experts.pooling import attentive_views
from emonet.experts.scaling import Scaling
from emonet.experts.stacked import StackedLinear
from emonet.runtime import seed_of
from emonet.targets import Target

QUERY_KEY = "pool.query"
MIX_KEY = "layer_mix"


def layer_keys(hidden: int) -> tuple[str, ...]:
    """The layers' names in published files, for an expert with so many hidden layers; each has `.weight` and `.bias`.

    They are positions in `Sequential(ReLU, Dropout, Linear, ReLU, Dropout, Linear, ...)` behind `proj`.
    """
    return ("proj", *(f"mlp.{2 + 3 * position}" for position in range(hidden)))


class ExpertBank(nn.Module):
    """All experts as stacked tensors.

    `bank(spec.prepare(states, speech_frames))` gives scores, `batch experts`, unclamped: published experts leave
    their range, too.

    Args:
        spec: the form of the input.
        targets: ids, one expert each; also seeds each expert's start and dropout, which so depend on no company.
        hidden: outputs of the projection and of each hidden layer after it; a last layer gives the score.
        seed: of the random start and of dropout; None leaves zeros, for weights that are about to be loaded.
        dropout: after the projection and after each hidden layer (0 to 1); further layers have the last one's.
        mixed: each expert learns how much it makes of each layer of `spec`, until `fold`: statistics only.

    Raises:
        ValueError: if layers are to be mixed of another form.
    """

    def __init__(
        self,
        spec: InputSpec,
        targets: Sequence[str],
        hidden: Sequence[int],
        *,
        seed: int | None = 0,
        dropout: Sequence[float] = (0.0, 0.1, 0.1, 0.1),
        mixed: bool = False,
    ) -> None:
        super().__init__()
        if mixed and not spec.per_value:
            raise ValueError(f"layers can be mixed of statistics, not of {spec.form}")
        self.spec = spec
        self.targets = tuple(targets)
        self.hidden = tuple(hidden)
        self.seed = seed or 0
        widths = (spec.features // spec.layers if mixed else spec.features, *self.hidden, 1)
        experts = len(self.targets)
        self.layers = nn.ModuleList(StackedLinear(experts, *pair) for pair in pairwise(widths))
        shares = (*dropout, *(dropout[-1],) * len(self.hidden))[: len(self.hidden)]
        self.dropout = ExpertDropout(self.targets, self.hidden, shares, self.seed)
        # Zeros weight all frames alike: the start is plain mean and deviation.
        queries = torch.zeros(experts, spec.queries, spec.width) if spec.form == "attention" else None
        self.query = nn.Parameter(queries) if queries is not None else None
        self.mix = LayerMix(experts, spec.layers, spec.per_value) if mixed else None
        # Set by `standardise`, gone after `fold`; never saved.
        self.shift: Tensor | None
        self.scale: Tensor | None
        self.state_scale: Tensor | None
        # Set by `score_on`, gone after `fold`; never saved.
        self.start: Tensor | None
        self.unit: Tensor | None
        for name in ("shift", "scale", "state_scale", "start", "unit"):
            self.register_buffer(name, None, persistent=False)
        if seed is not None:
            self._initialise(seed)

    def forward(self, features: Features) -> Float[Tensor, "batch experts"]:
        """Scores of a batch of clips by all experts."""
        hidden = self.first(self._inputs(features))
        masks = self.dropout(hidden.shape[1], hidden)
        for mask, layer in zip(masks, list(self.layers)[1:], strict=True):
            hidden = hidden.relu()
            hidden = layer(hidden if mask is None else hidden * mask)
        scores: Tensor = hidden.squeeze(2).T
        return scores if self.unit is None or self.start is None else scores * self.unit + self.start

    @property
    def first(self) -> StackedLinear:
        """The layer behind the input: nearly all weights are here."""
        first = self.layers[0]
        assert isinstance(first, StackedLinear)
        return first

    @property
    def has_own_inputs(self) -> bool:
        """Whether each expert's first layer has inputs of its own."""
        return self.query is not None or self.mix is not None

    def _inputs(self, features: Features) -> Tensor:
        if self.query is None:
            inputs = features.values.to(self.first.bias.dtype)
        else:
            query = self.query if self.state_scale is None else self.query / self.state_scale
            inputs = attentive_views(features.values, features.lengths, query)
        scaled = inputs if self.shift is None or self.scale is None else (inputs - self.shift).div_(self.scale)
        return scaled if self.mix is None else self.mix(scaled)

    def standardise(self, scaling: Scaling) -> None:
        """Scale inputs by what was measured on the training clips, until `fold` moves that into the weights."""
        device = next(self.parameters()).device
        self.shift, self.scale = scaling.shift.to(device), scaling.scale.to(device)
        self.state_scale = scaling.states.to(device)

    def score_on(self, scales: Sequence[Target]) -> None:
        """Let experts learn on a scale of 4 units from 0, whatever their targets' is, until `fold` undoes it.

        Steps of an optimiser have one size, and so would take the longer the wider a scale is, and the farther from 0.
        Nothing changes for emotions from 0 to 4.

        Args:
            scales: of the targets, in their order.
        """
        starts, units = [target.start for target in scales], [(target.high - target.low) / 4 for target in scales]
        if any(starts) or any(unit != 1 for unit in units):
            bias = self.first.bias
            self.start, self.unit = (torch.tensor(values, device=bias.device) for values in (starts, units))

    @torch.no_grad()
    def fold(self) -> None:
        """Move the scaling of inputs and scores into the layers, in place, so that experts have the published form.

        w ((x - m) / s) + b = (w / s) x + (b - (w / s) m); a query over scaled states is one divided by their scale,
        since a constant does not change a softmax. Mixed layers become weights on all layers. Weights that were kept
        in bf16 for training become float32.
        """
        first = self.first
        if self.mix is not None:
            first.weight = nn.Parameter(self.mix.unmixed(first.weight))
            self.mix = None
        if first.weight.dtype == torch.bfloat16:
            first.cast(torch.float32)
        last = self.layers[-1]
        assert isinstance(last, StackedLinear)
        if self.start is not None and self.unit is not None:
            last.weight.mul_(self.unit[:, None, None])
            last.bias.copy_(last.bias * self.unit.view_as(last.bias) + self.start.view_as(last.bias))
            self.start = self.unit = None
        if self.shift is None or self.scale is None or self.state_scale is None:
            return
        first.weight.div_(self.scale)
        shift = self.shift.double()
        for weight, bias in zip(first.weight.flatten(0, 1), first.bias.view(-1), strict=True):
            bias.sub_(weight.double() @ shift)  # row by row: a double copy of all weights would not fit
        if self.query is not None:
            self.query.div_(self.state_scale)
        self.shift = self.scale = self.state_scale = None

    @torch.no_grad()
    def narrowed(self, experts: Sequence[int]) -> ExpertBank:
        """A copy of some of these experts as they are now; dropout goes on there, and not here any more.

        Args:
            experts: positions.
        """
        targets = [self.targets[expert] for expert in experts]
        mixed = self.mix is not None
        narrow = ExpertBank(self.spec, targets, self.hidden, seed=None, dropout=self.dropout.shares, mixed=mixed)
        index = torch.as_tensor(experts)
        for mine, theirs in zip(narrow.parameters(), self.parameters(), strict=True):
            mine.data = theirs.detach()[index]  # of its type, on its device
        narrow.dropout, narrow.seed = self.dropout.narrowed(experts), self.seed
        narrow.shift, narrow.scale, narrow.state_scale = self.shift, self.scale, self.state_scale
        if self.start is not None and self.unit is not None:
            narrow.start, narrow.unit = (values[index.to(values.device)] for values in (self.start, self.unit))
        return narrow.train(self.training)

    def tensors(self, expert: int) -> Iterator[tuple[str, Tensor]]:
        """One expert's tensors (views) under their published names; attention's query under `pool.query`.

        Until `fold`, what it makes of the layers stands under `layer_mix`.
        """
        for key, layer in zip(layer_keys(len(self.hidden)), self.layers, strict=True):
            assert isinstance(layer, StackedLinear)
            yield f"{key}.weight", layer.weight.detach()[expert]
            yield f"{key}.bias", layer.bias.detach()[expert]
        if self.query is not None:
            yield QUERY_KEY, self.query.detach()[expert]
        if self.mix is not None:
            yield MIX_KEY, self.mix.logits.detach()[expert]

    def _initialise(self, seed: int) -> None:
        def draw(expert: int) -> None:
            generator = torch.Generator().manual_seed(seed_of(seed, "expert", self.targets[expert]))
            with torch.inference_mode(is_inference):  # a thread begins without
                for layer in self.layers:
                    assert isinstance(layer, StackedLinear)
                    layer.initialise(expert, generator)

        is_inference = torch.is_inference_mode_enabled()
        # Numbers are drawn one after the other, whatever torch's threads; experts have generators of their own.
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(draw, range(len(self.targets))))
