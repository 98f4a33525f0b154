"""Arguments of the verb `benchmark`, as models; their docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from experiments.arguments.flags import Positional
from experiments.arguments.verbs import Common

if TYPE_CHECKING:
    from emonet.peers import Terms


class BenchmarkArguments(Common):
    """Take models and encoders through published protocols: tables with intervals, pictures, one page."""

    plan: Positional[str] = "benchmark"
    """A YAML file that says which models go through which protocols, or a shipped plan."""
    corpus: str | None = None
    """Of the protocols that name none, in place of the plan's, such as ravdess:PATH."""
    encoder: str | None = None
    """In place of the plan's encoders: folder or hub id."""
    only: tuple[str, ...] = ()
    """Of the plan's protocols these alone, by name."""
    max_cost: float = Field(0.0, ge=0)
    """What calls of other people's services may cost together (US dollars)."""
    replay: bool = False
    """Call no service: scores come from answers that are kept."""
    force: bool = False
    """Do again what is up to date."""
    runs: Path = Path("runs")
    """Folder to write to, and with the embedded registry unless MLFLOW_TRACKING_URI is set."""

    def terms(self) -> Terms:
        """On which terms services may be called."""
        from emonet.peers import Terms
        from experiments.core import say

        return Terms(folder=self.runs / "peers", max_cost=self.max_cost, replay_only=self.replay, say=say)


class BenchmarkCorporaArguments(Common):
    """List the 32 corpora of EmoBox: language, classes, size, licence, and where to get each."""
