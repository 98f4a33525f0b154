"""Configuration of an experiment: read from YAML, completed by defaults, overridden by flags."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NoReturn, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from emonet.configs import CaptionerConfig, EvaluationConfig, ExtractionConfig, HeadsConfig
from emonet.errors import RequestError, raise_collected
from emonet.runtime import expanded
from emonet.schema import Schema
from emonet.targets import TargetSpec
from experiments.core.sweep_config import SweepConfig, problems_of

SHIPPED = Path(__file__).parents[1]
_PROBLEMS = "problems"  # the type of an error that lists several


class Experiment(Schema):
    """One experiment: a corpus, a captioner, its states, and experts on them."""

    name: str = Field("sandbox", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the folder under `runs` and of the MLflow experiment."""
    description: str = ""
    """What it is for, in one sentence."""
    corpus: str = "sandbox"
    """What to train on: sandbox, ravdess:PATH, emodb:PATH, nemo:PATH, manifest:FILE or tars:SHARDS, joined with +; a
    column of class labels that is not called label is named as in manifest:FILE#COLUMN."""
    targets: str = "emotions"
    """What is scored: emotions, attributes, quality, published, classes (one target for each class of the corpus), or a
    YAML file of targets of your own."""
    labels: Path | None = None
    """YAML or JSON file that says which target each class label stands for; clips without scores are scored by it."""
    seed: int = Field(0, ge=0)
    """Fixes weights, order, dropout, augmentation and captions (integer)."""
    runs: Path = Path("runs")
    """Folder that everything is written to."""
    captioner: CaptionerConfig = CaptionerConfig()
    """Stage 1, `emonet pretrain`."""
    extraction: ExtractionConfig = ExtractionConfig()
    """Between the stages, `emonet extract`."""
    heads: HeadsConfig = HeadsConfig()
    """Stage 2, `emonet heads`."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the test figures are made."""
    sweep: SweepConfig = SweepConfig()
    """The search for the best settings, `emonet sweep`."""
    force: bool = False
    """Run the stage again although its output is complete."""

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        if problems := problems_of(self):
            raise PydanticCustomError(_PROBLEMS, "{text}", {"text": "; ".join(problems), "problems": problems})
        return self

    @property
    def folder(self) -> Path:
        """Where this experiment's stages write: `runs/NAME`."""
        return self.runs / self.name

    def open_targets(self) -> TargetSpec:
        """The set that `targets` names.

        Raises:
            RequestError: if there is no such set, or its file cannot be used.
        """
        from emonet.targets import open_targets

        return open_targets(self.targets)

    def open_labels(self) -> dict[str, str | None]:
        """What the file `labels` says; empty without one.

        Raises:
            RequestError: if it cannot be used, or classes are targets themselves.
        """
        return read_labels(self.labels, self.open_targets())

    @property
    def corpora(self) -> Path:
        """Where synthesised corpora are kept: `runs/corpora`."""
        return self.runs / "corpora"


def read_labels(file: Path | None, targets: TargetSpec) -> dict[str, str | None]:
    """What a file says that labels stand for; empty without one.

    Args:
        file: named by `--labels`.
        targets: that it is for.

    Raises:
        RequestError: if it cannot be used, or classes are targets themselves.
    """
    from emonet.corpora import read_mapping
    from emonet.targets import are_classes

    if file is None:
        return {}
    if are_classes(targets):
        raise RequestError(
            "labels stand for targets by a file, or are targets themselves",
            expected="labels, or targets that are classes",
            found=f"labels {file}, and targets that are classes",
            hint="leave out one of the two",
        )
    return read_mapping(expanded(file))


def shipped() -> dict[str, Path]:
    """The experiments that come with emonet: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(name_or_file: str) -> Experiment:
    """The experiment of a shipped name or of a YAML file.

    Raises:
        RequestError: if there is no such experiment, or if the file has unknown or invalid fields; all in one message.
    """
    path = _find(name_or_file)
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        raise RequestError("the experiment file cannot be read", where=path, found=error) from error
    if not isinstance(values, dict):
        raise RequestError(
            "the experiment file is not a mapping",
            where=path,
            expected="field: value lines",
            found=type(values).__name__,
        )
    try:
        return Experiment.model_validate({"name": path.stem, **values})
    except ValidationError as error:
        refuse(error, where=path)


def refuse(error: ValidationError, *, where: object) -> NoReturn:
    """Raise one clear message about all fields that are unknown or invalid, with their values.

    Raises:
        RequestError: always.
    """
    problems = [problem for detail in error.errors() for problem in _problems(detail)]
    raise_collected(
        "the experiment has fields that cannot be used", problems, where=where, hint="docs/configuration.md"
    )
    raise AssertionError  # there was at least one problem


def refuse_flags(error: ValidationError, command: str) -> NoReturn:
    """Raise one clear message about all flags whose values cannot be used.

    Args:
        error: what the experiment, a section of it, or another model of flags says.
        command: with its verb.

    Raises:
        RequestError: always.
    """
    section = _sections(Experiment).get(error.title, "")
    wrong: dict[str, list[str]] = {}  # a flag that takes several kinds of values is refused by each
    found: dict[str, object] = {}
    several = [problem for detail in error.errors() if detail["type"] == _PROBLEMS for problem in _problems(detail)]
    for detail in error.errors():
        if detail["type"] == _PROBLEMS:
            continue
        flag = f"--{section}{'.'.join(map(str, detail['loc'][:1])).replace('_', '-')}"
        wrong.setdefault(flag, []).append(detail["msg"][0].lower() + detail["msg"][1:])
        found[flag] = detail["input"]
    problems = [f"{flag}: {', or '.join(reasons)}; found {found[flag]!r}" for flag, reasons in wrong.items()]
    raise_collected("a flag has a value that cannot be used", [*problems, *several], hint=f"{command} --help")
    raise AssertionError  # there was at least one problem


def _sections(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Name of each section's model -> what its flags begin with."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = f"{prefix}{name}."
            found |= {field.annotation.__name__: inner} | _sections(field.annotation, inner)
    return found


def _problems(detail: Any) -> list[str]:
    if detail["type"] == _PROBLEMS:
        return list(detail["ctx"]["problems"])
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return [f"{field}: no such field; {_suggestion(detail['loc'])}"]
    return [f"{field}: {detail['msg'][0].lower()}{detail['msg'][1:]}; found {detail['input']!r}"]


def _suggestion(location: tuple[str | int, ...]) -> str:
    model: Any = Experiment
    for part in location[:-1]:
        of_key = get_args(model)[1:]  # of a mapping of models: this part is a key
        model = of_key[0] if of_key else model.model_fields[str(part)].annotation
    fields = list(model.model_fields)
    near = difflib.get_close_matches(str(location[-1]), fields, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"


def _find(name_or_file: str) -> Path:
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise RequestError("there is no such experiment file", where=path, hint="emonet experiments")
        return path
    known = shipped()
    if name_or_file in known:
        return known[name_or_file]
    near = difflib.get_close_matches(name_or_file, known, n=1)
    raise RequestError(
        f"there is no experiment called {name_or_file!r}",
        expected=f"one of {', '.join(known)}, or a .yaml file",
        found=name_or_file,
        hint=f"--experiment {near[0] if near else 'sandbox'}",
    )
