"""Arguments of the verb that serves a model; the docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from experiments.arguments.verbs import Common


class ServeArguments(Common):
    """Serve a registered model on 127.0.0.1: recordings in, scores out, by MLflow's scoring server."""

    model: str = "models:/emonet-voice@champion"
    """A registry URI, or the folder of a model as MLflow logged it."""
    port: int = Field(5001, ge=1, le=65535)
    """Port to listen on."""
    experts_precision: Literal["float32", "bf16", "int8"] = "float32"
    """How experts on flattened states are held: bf16 and int8 need a half and a quarter of the memory."""
    allow_paths: str = "any"
    """Which files of this machine a request may name: any, off, or those within a folder."""
    allow_urls: tuple[str, ...] = ()
    """Hosts (HOST or HOST:PORT) that audio may be fetched from; none by default."""
    timeout: PositiveInt = 300
    """The longest that a request may take (seconds)."""
    env_manager: Literal["local", "virtualenv", "uv", "conda"] = "local"
    """What it runs in: this environment, or a new one with the model's own requirements (minutes, and gigabytes)."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""
