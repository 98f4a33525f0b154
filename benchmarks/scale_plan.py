"""`emonet plan` against reality: each stage of an experiment planned on this machine, then run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row, seconds_of
from experiments import extract, pretrain
from experiments.arguments import PlanArguments
from experiments.core import Experiment, load
from experiments.heads import run as train_heads
from experiments.plan import run as plan

FACTOR = 3.0  # planned and measured are to lie within


def measure(out: Path, *, quick: bool) -> list[Row]:
    """Planned and measured seconds of the stages of the sandbox' experiment.

    Args:
        out: folder for the runs.
        quick: few epochs, to see that everything runs; what each stage takes to begin then hides the rest.
    """
    experiment = load("sandbox")
    settings = {**experiment.model_dump(), "runs": out / "plan"}
    if quick:
        settings |= {
            "captioner": {**experiment.captioner.model_dump(), "epochs": 1},
            "heads": {**experiment.heads.model_dump(), "epochs": 2, "inputs": ["statistics"]},
        }
    experiment = Experiment.model_validate(settings)
    pretrain_seconds = seconds_of(lambda: pretrain.run(experiment))  # makes the corpus, too
    stages = plan(PlanArguments(config=experiment)).stages
    planned: dict[str, float] = {stage.stage: 3600 * stage.hours for stage in stages}
    measured = {
        "pretrain": pretrain_seconds,
        "extract": seconds_of(lambda: extract.run(experiment)),
        "heads": seconds_of(lambda: train_heads(experiment)),
    }
    return [
        Row(
            name=f"plan of the sandbox: {stage} ({planned[stage]:.0f} s planned)",
            figure=seconds,
            unit="s",
            peer=f"its plan, within {FACTOR:g} times",
            ratio=FACTOR * min(planned[stage] / seconds, seconds / planned[stage]),
            reach=1.0,
        )
        for stage, seconds in measured.items()
    ]
