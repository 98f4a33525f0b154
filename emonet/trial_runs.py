"""Runs of trials below a study's: logged whole after the event, and looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from emonet.connection import Param
from emonet.tracking import PARENT, Run, flat


def record_run(
    parent: Run,
    *,
    name: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    curves: Mapping[str, Sequence[float]],
    figures: Mapping[str, float],
    span: tuple[float, float],
    status: Literal["FINISHED", "FAILED", "KILLED"],
) -> None:
    """Log a run below another that happened elsewhere; touches nothing global, so that a thread may do it.

    Args:
        parent: the run above it.
        name: of the run.
        config: JSON-able, as of `start_run`.
        tags: of the run.
        curves: by key, the steps counted from 0.
        figures: metrics without steps.
        span: when it began and ended (seconds since 1970).
        status: how it ended.
    """
    server, (began, ended) = parent.client, (int(1000 * moment) for moment in span)
    experiment = server.get_run(parent.id).info.experiment_id
    run_id = server.create_run(experiment, began, {**tags, PARENT: parent.id}, name).info.run_id
    run = Run(run_id, server, parent.uri)
    server.log_dict(run_id, dict(config), "config.json")
    server.log_batch(run_id, params=[Param(key, value) for key, value in flat(config)])
    run.curves(curves)
    run.metrics(figures)
    server.set_terminated(run_id, status, ended)


def recorded(parent: Run, tag: str) -> set[str]:
    """The values of a tag among the runs below another; those that were not logged to their end are deleted."""
    experiment, found, token = parent.client.get_run(parent.id).info.experiment_id, set(), None
    while True:
        runs = parent.client.search_runs([experiment], f"tags.`{PARENT}` = '{parent.id}'", page_token=token)
        for run in runs:
            if tag in run.data.tags and run.info.status == "RUNNING":
                parent.client.delete_run(run.info.run_id)
            elif tag in run.data.tags:
                found.add(run.data.tags[tag])
        token = runs.token
        if not token:
            return found
