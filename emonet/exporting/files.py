"""Graphs as ONNX files: with their description, and with weights beside them where these are too large."""

from __future__ import annotations

from pathlib import Path

from emonet.exporting.graph import LARGEST, Graph
from emonet.inference import METADATA, OnnxDescription

BESIDE = ".data"
"""What the name of a file of weights ends with, behind that of its graph."""


def write_graph(graph: Graph, path: Path, description: OnnxDescription) -> None:
    """Write a graph; weights of more than 1 GiB go into a file `NAME.onnx.data` beside it.

    Args:
        graph: of encoder or experts.
        path: of the file.
        description: that stands in its metadata.
    """
    import onnx

    model = graph.model()
    onnx.helper.set_model_props(model, {METADATA: description.model_dump_json()})
    onnx.save(model, path, save_as_external_data=graph.weight_bytes > LARGEST, location=f"{path.name}{BESIDE}")
    onnx.checker.check_model(str(path))
