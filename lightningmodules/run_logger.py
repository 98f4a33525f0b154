"""Logger for Lightning that writes into an MLflow run which already exists; others start and end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

from emonet.tracking import Run


class RunLogger(Logger):  # type: ignore[misc]
    """Logs metrics by way of a run, whose backlog keeps what a server that is away does not take.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def name(self) -> str:
        """No name of its own."""
        return "run"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run.id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step."""
        self._run.metrics({key: float(value) for key, value in metrics.items()}, step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the run has its whole configuration."""
