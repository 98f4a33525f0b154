"""ONNX graphs, node by node: what is needed of `onnx.helper`, with names that say where a node comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np

OPSET = 20  # ONNX 1.15: the first one with Gelu
IR = 9  # of the same time
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
LARGEST = (
    1 << 30
)  # bytes of weights within a file, or of one array: Protocol Buffers, which ONNX files are, end at 2 GiB
BLOCK = 64  # weights that share a step in int8, and inputs that they are multiplied with
_LEVELS = 127  # of int8, on either side of 0
_ZERO = 128  # of weights, which are kept without a sign
_AS_INT8 = 4  # accuracy level of MatMulNBits at which inputs are rounded to int8, too, block by block


@final
class Graph:
    """A graph that grows.

    Args:
        name: of the graph.
        int8: products with wide weights are computed in int8.
    """

    def __init__(self, name: str, *, int8: bool = False) -> None:
        self._name, self._int8 = name, int8
        self._nodes: list[Any] = []
        self._weights: dict[str, np.ndarray] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._part: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Nodes that are added within are named after this part of the model."""
        self._part.append(name)
        yield
        self._part.pop()

    def input(self, name: str, kind: type[np.generic], shape: Sequence[int | str]) -> str:
        """What the graph is given; sizes that are text may be anything."""
        self._inputs.append(_value(name, kind, shape))
        return name

    def output(self, name: str, value: str, kind: type[np.generic], shape: Sequence[int | str]) -> None:
        """What it gives: a value, under this name."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"/{name}"))
        self._outputs.append(_value(name, kind, shape))

    def constant(self, value: np.ndarray | np.float32 | Sequence[int], name: str = "") -> str:
        """Weights under their name; of small numbers without one there is one of each."""
        found = np.asarray(value, np.int64 if isinstance(value, Sequence) else None)
        found = np.ascontiguousarray(found).reshape(found.shape)  # which makes one dimension of none
        key = (str(found.dtype), found.shape, found.tobytes() if found.nbytes <= 256 else b"")
        if not name and key[2] and key in self._small:
            return self._small[key]
        name = self._named(name or "constant", len(self._weights))
        self._weights[name] = found
        self._small.setdefault(key, name)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output; gives the name of its value."""
        return self.several(operator, *inputs, outputs=1, **attributes)[0]

    def several(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """A node of several outputs."""
        from onnx import helper

        name = self._named(operator, len(self._nodes))
        values = tuple(f"{name}:{number}" for number in range(outputs))
        self._nodes.append(helper.make_node(operator, inputs, values, name=name, domain=domain, **attributes))
        return values

    def linear(self, value: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """A linear layer: its weight of shape (outputs, inputs), as PyTorch has it."""
        product = self.add("MatMul", value, self.constant(weight.T, "weight"))
        return product if bias is None else self.add("Add", product, self.constant(bias, "bias"))

    def wide(self, value: str, weight: np.ndarray, bias: np.ndarray, *, exact: bool = False) -> str:
        """A linear layer that is worth int8, if the graph is to have it.

        Steps are of blocks of 64 weights and inputs: with one step for all inputs, as of `DynamicQuantizeLinear`, the
        few strong values of a transformer's states leave the others next to nothing.

        Args:
            value: its input.
            weight: as of `linear`.
            bias: of each output.
            exact: round the weights alone.
        """
        if not self._int8:
            return self.linear(value, weight, bias)
        outputs, inputs = weight.shape
        blocks = np.pad(weight, ((0, 0), (0, -inputs % BLOCK))).reshape(outputs, -1, BLOCK)
        steps = np.abs(blocks).max(2, keepdims=True) / _LEVELS
        levels = np.round(np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps > 0))
        kept = self.constant((levels + _ZERO).astype(np.uint8), "weight"), self.constant(steps.reshape(-1), "steps")
        level = 0 if exact else _AS_INT8
        sizes = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK}
        product = self.add("MatMulNBits", value, *kept, domain=CONTRIB, **sizes, accuracy_level=level)
        return self.add("Add", product, self.constant(bias, "bias"))

    @property
    def weight_bytes(self) -> int:
        """Size of all weights."""
        return sum(array.nbytes for array in self._weights.values())

    def model(self) -> Any:
        """The `onnx.ModelProto`."""
        from onnx import helper, numpy_helper

        weights = [numpy_helper.from_array(array, name) for name, array in self._weights.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, weights)
        opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(CONTRIB, 1)] if self._int8 else [])]
        return helper.make_model(graph, opset_imports=opsets, producer_name="emonet", ir_version=IR)

    def _named(self, name: str, number: int) -> str:
        return f"/{'/'.join([*self._part, f'{name}_{number}'])}"


def _value(name: str, kind: type[np.generic], shape: Sequence[int | str]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(shape))
