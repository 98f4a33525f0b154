"""Configuration of a sweep: its search space as data, checked against the experiment's own schema.

`problems_of(experiment)` says what is wrong with an experiment's space; `space_of` is the space itself; `merged` puts a
trial's values into an experiment, through validation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from emonet.errors import RequestError
from emonet.runtime import expanded
from emonet.schema import Schema
from emonet.tracking import sqlite_path, sqlite_url

SPACES = Path(__file__).parents[1] / "spaces"
SweepStage = Literal["heads", "pretrain"]
Objective = Literal["mae", "pearson", "ua", "parameters", "seconds", "loss"]
SECTIONS: dict[SweepStage, str] = {"heads": "heads", "pretrain": "captioner"}
OBJECTIVES: dict[SweepStage, tuple[Objective, ...]] = {
    "heads": ("mae", "pearson", "ua", "parameters", "seconds"),
    "pretrain": ("loss", "parameters", "seconds"),
}
HIGHER: frozenset[Objective] = frozenset({"pearson", "ua"})  # of the rest, less is better
_NO_JOURNAL = "a study is kept in a database, and no longer in a journal file"
_COPIED = '"Journal files" in docs/sweeps.md has the lines that copy its trials into a database'

E = TypeVar("E", bound=BaseModel)


class Dimension(Schema):
    """One field that a sweep varies: a range, or choices."""

    low: int | float | None = None
    """Lowest value (in the field's unit)."""
    high: int | float | None = None
    """Highest value (in the field's unit)."""
    step: int | float | None = None
    """Distance of the values (in the field's unit); by default 1 for whole numbers, none for others."""
    log: bool = False
    """Whether values are drawn evenly over orders of magnitude."""
    choices: tuple[Any, ...] = ()
    """Values in place of a range: numbers, texts, null, or lists."""
    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Only where other fields have one of these values: path -> some of its choices."""

    def applies(self, params: Mapping[str, Any]) -> bool:
        """Whether it is asked for in a trial that has the values `params` so far."""
        return all(path in params and _among(params[path], values) for path, values in self.when.items())


class SweepConfig(Schema):
    """A search for the best settings, `emonet sweep`."""

    stage: SweepStage = "heads"
    """What is trained in each trial: the experts, or the captioner."""
    trials: PositiveInt = 50
    """Trials that the study shall have, completed or pruned, whoever runs them (count)."""
    epochs: PositiveInt | None = None
    """Most epochs of a trial (count); by default the experiment's, which the best trial gets in any case."""
    objectives: tuple[Objective, ...] = ()
    """What is optimised on validation clips: mae, pearson, ua (mean recall over classes), parameters, seconds, or loss
    of a captioner; by default mae or loss. Of several, no trial is pruned, and the first decides between the trials
    that no other one beats."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are chosen: by what earlier trials gave, or at random."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are stopped early: those worse than the median at the same epoch, by brackets, or none."""
    startup_trials: PositiveInt = 10
    """Trials with random settings, and without pruning, before the rest (count)."""
    warmup_epochs: int = Field(3, ge=0)
    """Epochs that every trial gets (count)."""
    workers: PositiveInt = 1
    """Processes on this machine, or on a Ray cluster (count); they share its processor cores."""
    engine: Literal["local", "ray"] = "local"
    """Where workers are: on this machine (local), or wherever a Ray cluster has room (ray)."""
    address: str | None = None
    """Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default one of this machine alone, for this run."""
    storage: str | None = None
    """The study: a database URL as in SQLAlchemy; by default sqlite in `runs/optuna.db`."""
    heartbeat: PositiveFloat = 15.0
    """Every trial gives a sign of life this often; after four that are missing it counts as failed (seconds)."""
    patience: PositiveFloat = 300.0
    """How long a storage that does not answer is tried again (seconds)."""
    timeout: PositiveFloat | None = None
    """Start no further trial after this time (seconds)."""
    final: Literal["auto", "yes", "no"] = "auto"
    """Train the best trial in full, test and register it here; auto does so where the study was created."""
    space: dict[str, Dimension] = Field(default_factory=dict)
    """The fields that are varied: dotted path -> low and high, or choices; by default the stage's own space."""

    @property
    def aims(self) -> tuple[Objective, ...]:
        """The objectives, defaults filled in."""
        return self.objectives or OBJECTIVES[self.stage][:1]


@cache
def default_space(stage: SweepStage) -> dict[str, Dimension]:
    """The space that comes with emonet, `experiments/spaces/STAGE.yaml`."""
    values = yaml.safe_load((SPACES / f"{stage}.yaml").read_text("utf-8"))
    return {path: Dimension.model_validate(dimension) for path, dimension in values.items()}


def space_of(config: SweepConfig) -> dict[str, Dimension]:
    """The sweep's space, each field after those that it depends on.

    Raises:
        ValueError: if conditions go in a circle.
    """
    waiting = dict(config.space or default_space(config.stage))
    ordered: dict[str, Dimension] = {}
    while waiting:
        ready = [path for path, one in waiting.items() if not (set(one.when) & set(waiting))]
        if not ready:
            raise ValueError(f"conditions go in a circle: {', '.join(waiting)}")
        ordered |= {path: waiting.pop(path) for path in ready}
    return ordered


def merged(experiment: E, params: Mapping[str, Any]) -> E:
    """The experiment with a trial's values in it, validated, and without its sweep.

    Args:
        experiment: an `Experiment`.
        params: dotted path -> value.

    Raises:
        pydantic.ValidationError: if a value does not fit.
    """
    values = experiment.model_dump(exclude={"sweep"})
    for path, value in params.items():
        *sections, name = path.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[name] = value
    return type(experiment).model_validate(values)


def storage_of(config: SweepConfig, runs: Path) -> str:
    """Where the study is kept: a database URL, files with their whole path.

    Args:
        config: of the sweep.
        runs: folder of the default, `optuna.db`.

    Raises:
        RequestError: if it is a journal file, as earlier releases had.
    """
    storage = config.storage or sqlite_url(runs / "optuna.db")
    if _is_journal(storage):
        raise RequestError(_NO_JOURNAL, where=storage, hint=_COPIED)
    path = sqlite_path(storage)
    return storage if path is None else sqlite_url(expanded(path).resolve())


def _is_journal(storage: str) -> bool:
    return storage.startswith("journal:") or (":" not in storage and storage.endswith(".journal"))


def value_at(experiment: BaseModel, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = experiment
    for name in path.split("."):
        value = getattr(value, name)
    return value


def whole(experiment: BaseModel, path: str, dimension: Dimension) -> bool:
    """Whether a range holds whole numbers only, by the field's own schema."""
    ends = [value_at(merged(experiment, {path: end}), path) for end in (dimension.low, dimension.high)]
    return all(isinstance(end, int) for end in ends)


def problems_of(experiment: BaseModel) -> list[str]:
    """What is wrong with the sweep of an experiment, a line each; empty if nothing is.

    Args:
        experiment: an `Experiment`, whose field `sweep` is a `SweepConfig`. A space that is left to its default is not
            looked at: a test holds that it fits.
    """
    sweep: SweepConfig = experiment.sweep  # type: ignore[attr-defined]  # Experiment is above this module
    found = [
        f"sweep.objectives: {aim} is none of the stage {sweep.stage}; there are {', '.join(OBJECTIVES[sweep.stage])}"
        for aim in sweep.objectives
        if aim not in OBJECTIVES[sweep.stage]
    ]
    if len(set(sweep.objectives)) < len(sweep.objectives):
        found.append("sweep.objectives: one is named twice")
    if sweep.storage is not None and _is_journal(sweep.storage):
        found.append(f"sweep.storage: {_NO_JOURNAL}; found {sweep.storage!r}; {_COPIED}")
    elif sweep.storage is not None and ":" not in sweep.storage:
        found.append(f"sweep.storage: expected a database URL; found {sweep.storage!r}")
    section = SECTIONS[sweep.stage]
    if sweep.epochs is not None and f"{section}.epochs" in sweep.space:
        found.append(f"sweep.epochs: {section}.epochs is varied already; leave out one of the two")
    for path, dimension in sweep.space.items():
        found += [f"sweep.space.{path}: {problem}" for problem in _problems(experiment, section, path, dimension)]
    found += [f"sweep.space.{problem}" for problem in _conditions(sweep.space)]
    return found


def _problems(experiment: BaseModel, section: str, path: str, dimension: Dimension) -> Iterator[str]:
    fields = list(_paths(type(getattr(experiment, section)), section))
    if path not in fields:
        near = difflib.get_close_matches(path, fields, n=1)
        others = f"{section}.FIELD, as in docs/configuration.md"
        yield f"no such field of {section}; {f'did you mean {near[0]}?' if near else f'expected {others}'}"
        return
    if dimension.choices:
        yield from _wrong_choices(experiment, path, dimension)
    else:
        yield from _wrong_range(experiment, path, dimension)


def _wrong_choices(experiment: BaseModel, path: str, dimension: Dimension) -> Iterator[str]:
    if dimension.low is not None or dimension.high is not None or dimension.step is not None or dimension.log:
        yield "choices leave no room for low, high, step or log"
    if any(choice == other for n, choice in enumerate(dimension.choices) for other in dimension.choices[:n]):
        yield "a choice is named twice"
    for choice in dimension.choices:
        yield from _refused(experiment, path, choice)


def _wrong_range(experiment: BaseModel, path: str, dimension: Dimension) -> Iterator[str]:
    low, high, step = dimension.low, dimension.high, dimension.step
    if low is None or high is None:
        yield "expected low and high, or choices"
        return
    refused = [*_refused(experiment, path, low), *_refused(experiment, path, high)]
    yield from refused
    if low >= high:
        yield f"low must be less than high; found {low} and {high}"
    if dimension.log and low <= 0:
        yield f"log needs low above 0; found {low}"
    if step is not None and dimension.log:
        yield "log and step exclude each other"
    elif step is not None and (step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-9):
        yield f"step must lead from low to high; found {step}"
    elif step is not None and not refused and whole(experiment, path, dimension) and step != int(step):
        yield f"step must be a whole number, as the field; found {step}"


def _refused(experiment: BaseModel, path: str, value: Any) -> Iterator[str]:
    try:
        merged(experiment, {path: value})
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"][0].lower() + detail["msg"][1:] for detail in error.errors())
        yield f"{', or '.join(reasons)}; found {value!r}"


def _conditions(space: Mapping[str, Dimension]) -> Iterator[str]:
    wrong = False
    for path, dimension in space.items():
        for other, values in dimension.when.items():
            if other == path or other not in space or not space[other].choices:
                wrong = True
                yield f"{path}: when {other}: expected another field of the space that has choices"
                continue
            for value in values:
                if not _among(value, space[other].choices):
                    yield f"{path}: when {other}: {value!r} is none of its choices"
    if not wrong:
        try:
            space_of(SweepConfig(space=dict(space)))
        except ValueError as error:
            yield f"{next(iter(space))}: {error}"


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


def _among(value: Any, values: Sequence[Any]) -> bool:
    return any(_plain(value) == _plain(one) and isinstance(value, bool) == isinstance(one, bool) for one in values)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
