"""The experts as a graph: states of the encoder in, scores out, with the spread of ensembles and the unfamiliarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from emonet.checkpoints import Familiarity, LoadedBank
from emonet.encoders import ReadyEncoder
from emonet.experts import VARIANCE_FLOOR, ExpertBank, InputSpec
from emonet.exporting.graph import LARGEST, Graph


def experts_graph(
    banks: Sequence[LoadedBank], familiarity: Sequence[Familiarity], encoder: ReadyEncoder, *, int8: bool = False
) -> Graph:
    """Inputs `states` and `speech_frames`; outputs `scores`, and `spread` and `unfamiliarity` where they are known.

    Args:
        banks: the experts, in float32.
        familiarity: of their training clips.
        encoder: that they hear.
        int8: of the products that all experts have with the same input.
    """
    graph = Graph("emonet experts", int8=int8)
    states = graph.input("states", np.float32, ["batch", encoder.frames, encoder.width])
    lengths = graph.input("speech_frames", np.int64, ["batch"])
    scores, spreads = [], []
    for number, bank in enumerate(banks, 1):
        with graph.part(f"bank{number}"):
            found, spread = _bank(graph, bank, _Frames(graph, states, lengths, bank.info.spec))
        scores.append(found)
        spreads.append(spread)
    targets = sum(len(bank.info.targets) for bank in banks)
    graph.output("scores", _joined(graph, scores, 1), np.float32, ["batch", targets])
    if any(bank.info.ensemble > 1 for bank in banks):
        graph.output("spread", _joined(graph, spreads, 1), np.float32, ["batch", targets])
    if familiarity:
        with graph.part("familiarity"):
            distances = [_distance(graph, known, _Frames(graph, states, lengths, known.spec)) for known in familiarity]
            farthest = graph.add("ReduceMax", _joined(graph, distances, 1), graph.constant([1]), keepdims=0)
        graph.output("unfamiliarity", farthest, np.float32, ["batch"])
    return graph


@final
class _Frames:
    """The states that experts hear, and which of them count; as `emonet.experts.inputs` computes with them."""

    def __init__(self, graph: Graph, states: str, lengths: str, spec: InputSpec) -> None:
        self._graph, self._lengths, self.spec = graph, lengths, spec
        self.states = states
        if spec.picked is not None:
            one = spec.width // spec.layers
            columns = [column for at in spec.picked.positions for column in range(at * one, (at + 1) * one)]
            self.states = graph.add("Gather", states, graph.constant(np.array(columns, np.int64), "heard"), axis=2)

    def mask(self, over: str) -> tuple[str, str]:
        """Which frames count, shape (batch, frames, 1), and how many of each clip, shape (batch, 1, 1)."""
        graph, frames = self._graph, self.spec.frames
        count = graph.add("Unsqueeze", self._lengths, graph.constant([1, 2]))
        if over == "all":
            count = graph.add("Add", graph.add("Mul", count, graph.constant([0])), graph.constant([frames]))
        places = graph.constant(np.arange(frames, dtype=np.int64)[None, :, None], "frames")
        return graph.add("Less", places, count), graph.add("Cast", count, to=1)

    def mean(self, mask: str, count: str) -> str:
        """Over the frames that count, shape (batch, 1, width)."""
        return self._graph.add("Div", self.sum(self.where(mask, self.states)), count)

    def where(self, mask: str, values: str, other: float = 0.0) -> str:
        """Values of frames that count, and `other` in the rest."""
        return self._graph.add("Where", mask, values, self._graph.constant(np.float32(other)))

    def sum(self, values: str, operator: str = "ReduceSum") -> str:
        """Over frames."""
        return self._graph.add(operator, values, self._graph.constant([1]), keepdims=1)

    def statistics(self) -> str:
        """Those of the form, one after the other, shape (batch, features)."""
        graph = self._graph
        mask, count = self.mask(self.spec.pool_over)
        mean = self.mean(mask, count)
        apart = self.where(mask, graph.add("Sub", self.states, mean))
        one = graph.constant(np.float32(1))
        others = graph.add("Max", graph.add("Sub", count, one), one)
        deviation = graph.add("Sqrt", graph.add("Div", self.sum(graph.add("Mul", apart, apart)), others))
        parts = [mean, deviation]
        if self.spec.form == "statistics":
            low = self.sum(self.where(mask, self.states, np.inf), "ReduceMin")
            high = self.sum(self.where(mask, self.states, -np.inf), "ReduceMax")
            parts = [mean, low, high, deviation]
        return graph.add("Flatten", graph.add("Concat", *parts, axis=1), axis=1)

    def views(self, query: np.ndarray) -> str:
        """Attentive statistics, shape (experts, batch, features).

        Args:
            query: of each expert, shape (experts, queries, width).
        """
        graph = self._graph
        experts, queries, width = query.shape
        mask, count = self.mask(self.spec.pool_over)
        centre = self.mean(mask, count)
        centred = self.where(mask, graph.add("Sub", self.states, centre))
        wanted = graph.linear(centred, query.reshape(experts * queries, width))
        shares = graph.add("Softmax", self.where(mask, wanted, -np.inf), axis=1)
        turned = graph.add("Transpose", shares, perm=[0, 2, 1])
        mean = graph.add("MatMul", turned, centred)
        square = graph.add("MatMul", turned, graph.add("Mul", centred, centred))
        variance = graph.add("Relu", graph.add("Sub", square, graph.add("Mul", mean, mean)))
        deviation = graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.float32(VARIANCE_FLOOR))))
        pairs = graph.add("Concat", graph.add("Add", mean, centre), deviation, axis=2)
        each = graph.add("Reshape", pairs, graph.constant([0, experts, queries * 2 * width]))
        return graph.add("Transpose", each, perm=[1, 0, 2])


def _bank(graph: Graph, loaded: LoadedBank, frames: _Frames) -> tuple[str, str]:
    """Scores of a bank's targets, and the deviation over the experts of each; shape (batch, targets)."""
    bank, info = loaded
    assert isinstance(bank, ExpertBank)
    layers: Any = bank.layers
    first, *others = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers)
    if bank.query is not None:
        hidden = _stacked(graph, frames.views(bank.query.detach().numpy()), *first)
    else:
        flat = info.form == "flatten"
        inputs = graph.add("Flatten", frames.states, axis=1) if flat else frames.statistics()
        experts, outputs, features = first[0].shape
        some = max(1, LARGEST // first[0][0].nbytes)  # experts whose weights are one array: none may be 2 GiB
        parts = [slice(at, at + some) for at in range(0, experts, some)]
        product = _joined(
            graph,
            [
                graph.wide(inputs, first[0][part].reshape(-1, features), first[1][part].reshape(-1), exact=True)
                for part in parts
            ],
            1,
        )
        each = graph.add("Reshape", product, graph.constant([0, experts, outputs]))
        hidden = graph.add("Transpose", each, perm=[1, 0, 2])
    for weight, bias in others:
        hidden = _stacked(graph, graph.add("Relu", hidden), weight, bias)
    scores = graph.add("Transpose", graph.add("Squeeze", hidden, graph.constant([2])), perm=[1, 0])
    members = graph.add("Reshape", scores, graph.constant([0, len(info.targets), info.ensemble]))
    last = graph.constant([2])
    mean = graph.add("ReduceMean", members, last, keepdims=1)
    apart = graph.add("Sub", members, mean)
    squares = graph.add("ReduceSum", graph.add("Mul", apart, apart), last, keepdims=0)
    fewer = graph.constant(np.float32(max(info.ensemble - 1, 1)))
    return graph.add("Squeeze", mean, last), graph.add("Sqrt", graph.add("Div", squares, fewer))


def _stacked(graph: Graph, inputs: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """A layer of each expert, on inputs of its own: (experts, batch, inputs) to (experts, batch, outputs)."""
    product = graph.add("MatMul", inputs, graph.constant(weight.transpose(0, 2, 1), "weight"))
    return graph.add("Add", product, graph.constant(bias[:, None], "bias"))


def _distance(graph: Graph, known: Familiarity, frames: _Frames) -> str:
    """`Familiarity.unfamiliarity`, shape (batch, 1)."""
    mean = graph.add("Flatten", frames.mean(*frames.mask("speech")), axis=1)
    apart = graph.add("Sub", mean, graph.constant(known.mean, "mean"))
    components = known.components.astype(np.float32) * known.scales[:, None]
    return graph.add("ReduceL2", graph.linear(apart, components), graph.constant([1]), keepdims=1)


def _joined(graph: Graph, parts: Sequence[str], axis: int) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=axis)
