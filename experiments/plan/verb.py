"""The verb `plan`: what an experiment takes with so many clips, stage by stage, on this machine or on rented GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from emonet.errors import RequestError
from emonet.runtime import durable
from emonet.schema import Schema
from experiments.core import console
from experiments.plan.page import draw
from experiments.plan.rates import rented
from experiments.plan.stages import StagePlan, plan_stages
from experiments.plan.words import size, taken
from experiments.plan.workload import Workload, workload_of

if TYPE_CHECKING:
    from experiments.arguments import PlanArguments
    from experiments.core import Experiment
    from experiments.plan.rates import Rates

PAGE = "plan.html"


class PlanResult(Schema):
    """What an experiment takes."""

    experiment: str
    """Its name."""
    clips: int
    """Of all splits (count)."""
    clip_seconds: float
    """Length of a clip in the mean (seconds)."""
    machines: str
    """What it was planned for."""
    stages: tuple[StagePlan, ...]
    """In their order; a sweep is no part of the sums."""
    hours: float
    """Of all stages but a sweep (hours)."""
    usd: float
    """Price of these (US dollars)."""
    disk_gb: float
    """What they leave on disk (GB)."""
    assumptions: tuple[str, ...]
    """What the plan takes for granted."""
    page: Path
    """The same as a page."""


def run(arguments: PlanArguments) -> PlanResult:
    """Plan an experiment, and write `runs/EXPERIMENT/plan.html`.

    Raises:
        RequestError: if there is no such GPU or model, neither the corpus nor a number of clips is given, or memory
            does not suffice for one expert.
    """
    experiment = arguments.config
    rates = None if arguments.gpus is None else rented(arguments.gpus, arguments.usd)
    work = workload_of(experiment, arguments.clips, arguments.clip_seconds)
    if work.train == 0 or work.validation == 0:
        raise RequestError(
            "so few clips have no training or no validation clip",
            found=f"{work.clips} clips: {work.train} for training, {work.validation} for validation",
            hint="--clips 100",
        )
    if rates is None:
        rates = _here(experiment, work, arguments.usd)
    result = planned(experiment, work, rates)
    durable.write(_place(result.page), draw(result).encode())
    return result


def planned(experiment: Experiment, work: Workload, rates: Rates) -> PlanResult:
    """The plan of some work at some rates."""
    stages = plan_stages(experiment, work, rates)
    counted = [stage for stage in stages if stage.stage != "sweep"]
    return PlanResult(
        experiment=experiment.name,
        clips=work.clips,
        clip_seconds=work.seconds,
        machines=rates.label,
        stages=tuple(stages),
        hours=sum(stage.hours for stage in counted),
        usd=sum(stage.usd for stage in counted),
        disk_gb=sum(stage.disk_gb for stage in counted),
        assumptions=(*work.notes, *rates.notes),
        page=experiment.folder / PAGE,
    )


def show(result: PlanResult) -> None:
    """A table of the stages, and what it takes for granted."""
    console.say(
        f"[bold]{console.name(result.experiment)}[/]: {result.clips:,} clips of {result.clip_seconds:.3g} s on "
        f"{console.name(result.machines)}"
    )
    table = Table("stage", "takes", "waits for", "clips/s", "disk", "GPU or process", "machine", "network", "USD")
    for one in result.stages:
        table.add_row(
            one.stage, taken(one.hours), one.bottleneck, f"{one.clips_per_second:,.0f}", size(one.disk_gb),
            size(one.device_gb), size(one.host_gb), size(one.network_gb), f"{one.usd:,.2f}",
        )  # fmt: skip
    table.add_row(
        "all but a sweep", taken(result.hours), "", "", size(result.disk_gb), "", "", "", f"{result.usd:,.2f}"
    )
    console.console.print(table)
    for one in result.stages:
        for note in one.notes:
            console.say(f"  {one.stage}: {console.name(note)}")
    console.say("taken for granted:")
    for assumption in result.assumptions:
        console.say(f"  - {console.name(assumption)}")
    console.say(f"as a page: {console.name(result.page)}")


def _here(experiment: Experiment, work: Workload, usd: float | None) -> Rates:
    from experiments.plan.measuring import measured

    with console.progress("measuring this machine", "rates") as progress:
        rates = measured(experiment, work, progress)
    return replace(rates, usd=usd or 0.0)


def _place(page: Path) -> Path:
    try:
        with durable.explained(page.parent, what="the plan", kept="nothing was begun", then="it is written"):
            page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            "the folder for the plan cannot be written", where=page.parent, found=error.strerror, hint="--runs FOLDER"
        ) from error
    return page
