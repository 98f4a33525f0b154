"""Arguments of the verbs that hand a model on, as models; their docstrings are the help."""

from __future__ import annotations

from pathlib import Path

from experiments.arguments.flags import Positional
from experiments.arguments.verbs import Common


class ExportOnnxArguments(Common):
    """Write a voice model as ONNX files, which score without torch, and check them against the model."""

    model: Positional[str]
    """A registry URI, hf://ORG/NAME[@REVISION], or a voice model's folder."""
    out: Positional[Path]
    """The folder to make: encoder.onnx, experts.onnx and onnx.json."""
    int8: bool = False
    """Keep the weights of wide layers in one byte each, and compute their products in int8."""
    sound: tuple[Path, ...] = ()
    """Recordings that the files are checked on, their first window each; by default sounds that are made for it."""
    force: bool = False
    """Replace OUT if it already exists."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""
