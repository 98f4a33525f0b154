"""The encoder as a graph: waveforms in, log-mel, Whisper's layers, states out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from torch import Tensor

from emonet.audio import DYNAMIC_RANGE, FLOOR, LogMel
from emonet.encoders import FrozenEncoder, WhisperEncoder
from emonet.errors import RequestError
from emonet.exporting.graph import Graph
from emonet.windows import HOP, N_FFT

ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}
Weights = Callable[[str], np.ndarray]


def encoder_graph(encoder: FrozenEncoder, *, int8: bool = False) -> Graph:
    """Input `waveforms`, shape (batch, samples); output `states`, shape (batch, frames, width), rounded to float16.

    Args:
        encoder: of a Whisper.
        int8: of the products of its linear layers.

    Raises:
        RequestError: if the layers have an activation that there is no operator for.
    """
    network = encoder.network
    if network.config["activation_function"] not in ACTIVATIONS:
        raise RequestError(
            "this encoder's layers have an activation that cannot be exported",
            expected=" or ".join(ACTIVATIONS),
            found=network.config["activation_function"],
        )
    graph = Graph("emonet encoder", int8=int8)
    waveforms = graph.input("waveforms", np.float32, ["batch", encoder.window.samples])
    with graph.part("logmel"):
        mel = _logmel(graph, waveforms, encoder.mels)
    states = _layers(graph, mel, network)
    with graph.part("rounding"):  # experts were trained on states that a store keeps in float16
        half = graph.add("Cast", states, to=_type(np.float16))
        states = graph.add("Cast", half, to=_type(np.float32))
    graph.output("states", states, np.float32, ["batch", encoder.frames, encoder.width])
    return graph


def _logmel(graph: Graph, waveforms: str, mels: int) -> str:
    """As `LogMel`; the Fourier transform is a convolution, which every runtime computes fast."""
    half = N_FFT // 2
    sound = graph.add("Unsqueeze", waveforms, graph.constant([1]))
    # The frame that is centred on the end of the audio is not computed: Whisper drops it.
    padded = graph.add("Pad", sound, graph.constant([0, 0, half, 0, 0, half - HOP]), mode="reflect")
    bins = np.arange(half + 1)[:, None] * np.arange(N_FFT)[None] * (2 * np.pi / N_FFT)
    logmel = LogMel(mels)
    waves = np.concatenate([np.cos(bins), np.sin(bins)]) * logmel.hann.double().numpy()
    kernel = graph.constant(waves[:, None].astype(np.float32), "fourier")
    spectrum = graph.add("Conv", padded, kernel, strides=[HOP])
    parts = graph.several("Split", spectrum, outputs=2, axis=1, num_outputs=2)
    power = graph.add("Add", *(graph.add("Mul", part, part) for part in parts))
    bank = logmel.bank.numpy().T[:, :, None]
    bands = graph.add("Conv", power, graph.constant(bank, "bank"))
    floored = graph.add("Clip", bands, graph.constant(np.float32(FLOOR)))
    log = graph.add("Mul", graph.add("Log", floored), graph.constant(np.float32(1 / np.log(10))))
    loudest = graph.add("ReduceMax", log, graph.constant([1, 2]), keepdims=1)
    clamped = graph.add("Max", log, graph.add("Sub", loudest, graph.constant(np.float32(DYNAMIC_RANGE))))
    return graph.add("Mul", graph.add("Add", clamped, graph.constant(np.float32(4))), graph.constant(np.float32(0.25)))


def _layers(graph: Graph, mel: str, network: WhisperEncoder) -> str:
    weights = partial(_weights, network.state_dict(), "")
    with graph.part("convolutions"):
        states = mel
        for name, stride in (("conv1", 1), ("conv2", 2)):
            parts = (graph.constant(weights(f"{name}.{kind}"), f"{name}.{kind}") for kind in ("weight", "bias"))
            states = graph.add("Gelu", graph.add("Conv", states, *parts, strides=[stride], pads=[1, 1]))
        states = graph.add("Transpose", states, perm=[0, 2, 1])
        states = graph.add("Add", states, graph.constant(weights("embed_positions.weight"), "positions"))
    found = []
    for number in range(1, len(network.layers) + 1):
        with graph.part(f"layer{number}"):
            mine = partial(_weights, network.state_dict(), f"layers.{number - 1}.")
            states = _layer(graph, states, mine, network)
        if number in network.picked:
            last = number == network.depth
            found.append(_norm(graph, states, weights, "layer_norm") if last else states)
    return found[0] if len(found) == 1 else graph.add("Concat", *found, axis=2)


def _weights(tensors: Mapping[str, Tensor], prefix: str, name: str) -> np.ndarray:
    found: np.ndarray = tensors[f"{prefix}{name}"].float().numpy()
    return found


def _layer(graph: Graph, states: str, weights: Weights, network: WhisperEncoder) -> str:
    heard = _attention(graph, _norm(graph, states, weights, "self_attn_layer_norm"), weights, network)
    states = graph.add("Add", states, heard)
    normed = _norm(graph, states, weights, "final_layer_norm")
    hidden = graph.wide(normed, weights("fc1.weight"), weights("fc1.bias"))
    active = graph.add(ACTIVATIONS[network.config["activation_function"]], hidden)
    return graph.add("Add", states, graph.wide(active, weights("fc2.weight"), weights("fc2.bias")))


def _attention(graph: Graph, states: str, weights: Weights, network: WhisperEncoder) -> str:
    """Query, key and value in one product; the query is scaled in its weights, by a power of two in every Whisper."""
    heads, width = network.heads, network.width
    scale = np.float32((width // heads) ** -0.5)
    weight = np.concatenate(
        [weights("self_attn.q_proj.weight") * scale, *(weights(f"self_attn.{name}_proj.weight") for name in "kv")]
    )
    no_bias = np.zeros(width, np.float32)
    bias = np.concatenate([weights("self_attn.q_proj.bias") * scale, no_bias, weights("self_attn.v_proj.bias")])
    product = graph.wide(states, weight, bias)
    parts = graph.several("Split", product, outputs=3, axis=2, num_outputs=3)
    shape = graph.constant([0, 0, heads, width // heads])
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, shape), perm=perm)
        for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    shares = graph.add("Softmax", graph.add("MatMul", query, key), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant([0, 0, width]))
    return graph.wide(joined, weights("self_attn.out_proj.weight"), weights("self_attn.out_proj.bias"))


def _norm(graph: Graph, states: str, weights: Weights, name: str) -> str:
    parts = (graph.constant(weights(f"{name}.{kind}"), f"{name}.{kind}") for kind in ("weight", "bias"))
    return graph.add("LayerNormalization", states, *parts, axis=-1, epsilon=1e-5)


def _type(kind: type[np.generic]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
