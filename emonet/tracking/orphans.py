"""Orphans: MLflow runs whose process was killed. Each run names its processes; the next start closes what they left."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from emonet.runtime import is_dead, stamp
from emonet.schema import digest

OWNER = "emonet.process."  # begins the names of tags; one for each process, since several may work on a study's run
_MOST = 1000  # experiments, and runs, of one look


def owner() -> dict[str, str]:
    """The tag by which a run names this process; `disown` takes it back."""
    mine = stamp()
    return {OWNER + digest(mine)[:8]: mine}


def close_orphans(server: Any) -> list[str]:
    """Close the runs that are still open although all processes that worked on them are known to be dead.

    Args:
        server: an MLflow client.

    Returns:
        Their ids. Runs of other machines, and those that name no process, are left alone.
    """
    closed = []
    experiments = [one.experiment_id for one in server.search_experiments(max_results=_MOST)]
    for run in server.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=_MOST):
        owners = [value for key, value in run.data.tags.items() if key.startswith(OWNER)]
        if owners and all(map(is_dead, owners)):
            server.set_terminated(run.info.run_id, "KILLED")
            closed.append(run.info.run_id)
    return closed


def disown(server: Any, run_id: str) -> None:
    """Take this process' tag back from a run that it has ended."""
    for name in owner():
        with suppress(Exception):  # it is gone, or the server is: the run has ended all the same
            server.delete_tag(run_id, name)
