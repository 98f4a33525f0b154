"""Arguments of the verb `benchmark`, as models; their docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from experiments.arguments.flags import Positional
from experiments.arguments.verbs import Common

if TYPE_CHECKING:
    from emonet.peers import Consent, Terms


class BenchmarkProtocolArguments(Common):
    """Take models through one protocol of a plan: `benchmark run PLAN --only PROTOCOL`."""

    plan: Positional[str] = "benchmark"
    """A YAML file that says which models go through which protocols, or a shipped plan."""
    corpus: str | None = None
    """Of the protocols that name none, in place of the plan's, such as ravdess:PATH."""
    encoder: str | None = None
    """In place of the plan's encoders: folder or hub id."""
    max_cost: float | None = Field(None, ge=0)
    """What calls of other people's services may cost together (US dollars), in place of the plan's."""
    yes: bool = False
    """Agree to what they cost, whatever the estimate, which is shown; else it is asked for at a terminal."""
    replay: bool = False
    """Call no service: scores come from answers that are kept."""
    force: bool = False
    """Do again what is up to date."""
    runs: Path = Path("runs")
    """Folder to write to, and with the embedded registry unless MLFLOW_TRACKING_URI is set."""

    def terms(self, max_cost: float) -> Terms:
        """On which terms services may be called, `max_cost` (US dollars) being what the plan says."""
        from emonet.peers import Terms
        from experiments.core import console

        return Terms(
            folder=self.runs / "peers",
            max_cost=max_cost if self.max_cost is None else self.max_cost,
            replay_only=self.replay,
            say=lambda text: console.say(console.name(text)),
        )

    def consent(self) -> Consent | None:
        """Who is asked before more is spent; nobody where there is no terminal."""
        from experiments.core import console

        if self.yes:
            return lambda _: True
        return (lambda estimate: console.agreed(f"Go on ({estimate})?")) if console.can_ask() else None


class BenchmarkArguments(BenchmarkProtocolArguments):
    """Take models and encoders through published protocols: tables with intervals, pictures, one page."""

    only: tuple[str, ...] = ()
    """Of the plan's entries these alone, by their names or protocols: --only bench emobox."""


class BenchmarkCorporaArguments(Common):
    """List the 32 corpora of EmoBox: language, classes, size, licence, and where to get each."""
