"""Records of a study and its trials, without Optuna; values as they stand in its storage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.core import (
    SECTIONS,
    Dimension,
    Experiment,
    Objective,
    SweepConfig,
    space_of,
    storage_of,
    value_at,
    whole,
)

State = Literal["running", "complete", "pruned", "failed"]
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Plan:
    """What a study is.

    Args:
        name: of the study; the same for all processes that work on it.
        storage: as in `sweep_config.storage_of`.
        config: how it is searched.
        space: what is varied, each field after those that it depends on.
        whole: the fields whose range holds whole numbers only.
        epochs: most epochs of a trial (count).
        seed: of the sampler.
    """

    name: str
    storage: str
    config: SweepConfig
    space: Mapping[str, Dimension]
    whole: frozenset[str]
    epochs: int
    seed: int

    @property
    def prunes(self) -> bool:
        """Whether poor trials are stopped early: Optuna can judge them by one objective only."""
        return self.config.pruner != "none" and len(self.config.aims) == 1


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the study knows it.

    Args:
        number: in the study, counted from 0.
        state: where it stands.
        params: dotted path -> value.
        values: objective -> value, of a complete trial.
        curve: validation error by epoch, so far.
        facts: what else was measured: seconds, epochs, the best input form.
        reason: why it failed.
        worker: which process ran it, as in `identity`.
        started: seconds since 1970.
        ended: seconds since 1970; None while it runs.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    values: Mapping[Objective, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    worker: str = ""
    started: float = 0.0
    ended: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it counts towards the trials of the study."""
        return self.state in {"complete", "pruned"}


def plan_of(experiment: Experiment, name: str) -> Plan:
    """The plan of an experiment's study.

    Args:
        experiment: whose sweep it is.
        name: of the study.
    """
    sweep, space = experiment.sweep, space_of(experiment.sweep)
    ranges = [path for path, dimension in space.items() if not dimension.choices]
    return Plan(
        name=name,
        storage=storage_of(sweep, experiment.runs),
        config=sweep,
        space=space,
        whole=frozenset(path for path in ranges if whole(experiment, path, space[path])),
        epochs=sweep.epochs or value_at(experiment, f"{SECTIONS[sweep.stage]}.epochs"),
        seed=experiment.seed,
    )


def encoded(choice: Any) -> Any:
    """Optuna's choices are scalars; anything else goes as JSON."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else json.dumps(choice)


def decoded(value: Any, dimension: Dimension | None) -> Any:
    """The choice that was stored as `value`; a number of a range as it is."""
    choices = () if dimension is None else dimension.choices
    return next((one for one in choices if encoded(one) == value and type(encoded(one)) is type(value)), value)
