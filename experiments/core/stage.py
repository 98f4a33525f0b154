"""Stages: skip when up to date, one process at a time, an MLflow run, an atomic result file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from emonet.errors import EmonetError, RequestError
from emonet.runtime import PLUGIN, Progress, durable
from emonet.schema import Schema, digest
from emonet.tracking import ARTIFACTS
from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from emonet.tracking import Run


class StageResult(Schema):
    """What every stage reports, in `runs/EXPERIMENT/STAGE.json` and with `--json`."""

    stage: str
    """The verb that made it."""
    experiment: str
    """Name of the experiment."""
    inputs: str
    """SHA-256 of everything that fixes the outcome; a stage runs again when it changes."""
    run_id: str
    """The MLflow run."""
    seconds: float = Field(ge=0)
    """How long the stage took (seconds)."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do; false where the work is done and safe, and what follows it failed."""
        return True


class Output(Protocol):
    """A file or folder that a stage leaves, of this machine or of an object store."""

    def exists(self) -> bool:
        """Whether it is there."""


R = TypeVar("R", bound=StageResult)
_PROBE = 1 << 20  # bytes that must find room before a stage begins


@dataclass(frozen=True)
class StageContext:
    """What a stage's work is handed.

    Args:
        experiment: the resolved configuration.
        run: the MLflow run that it logs to.
        result: where the stage's result stands, the former one's until `commit`.
        keep: writes the result as far as its own fields are known, and returns it. Once outputs are on disk, nothing
            that fails after it costs the work. What a stage returns is kept in any case.
    """

    experiment: Experiment
    run: Run
    result: Path
    keep: Callable[[Mapping[str, Any]], Any]

    def commit(self) -> None:
        """Say that outputs are about to be replaced: from here on the former result does not describe them."""
        self.result.unlink(missing_ok=True)

    def progress(self, label: str, unit: str = "clips") -> AbstractContextManager[Progress]:
        """A progress callback, shown as a bar at a terminal."""
        return console.progress(label, unit)

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        console.say(text)


def run_stage(
    experiment: Experiment,
    stage: str,
    result_type: type[R],
    inputs: Mapping[str, Any],
    outputs: Sequence[Output],
    work: Callable[[StageContext], Mapping[str, Any]],
    *,
    shared: bool = False,
    check: Callable[[], None] = lambda: None,
    out: Path | None = None,
    parent: str | None = None,
    opened: Callable[[], AbstractContextManager[Run]] | None = None,
    resume: Callable[[StageContext, R], Mapping[str, Any]] | None = None,
    relog: Callable[[StageContext, R], None] | None = None,
) -> R:
    """Run a stage unless its output is complete and its inputs are unchanged.

    Args:
        experiment: the resolved configuration.
        stage: the verb; the result goes to `STAGE.json` in `out`, by default `runs/NAME`.
        result_type: the model of the result.
        inputs: everything that fixes the outcome, JSON-able.
        outputs: files and folders that a complete stage has left; the first one is there when a result is kept.
        work: does it; calls `StageContext.commit` before it replaces an output, and returns the fields of the result;
            among them `complete` may say that others have yet to do their part: then the result is not written.
        shared: whether several processes may run this stage at once; `work` sees to it that they do not collide.
        check: called before a stage is taken for up to date; raises if an output is damaged.
        out: folder for the result, if not the experiment's own: a stage that runs as part of another one.
        parent: id of the MLflow run of that other one.
        opened: opens the MLflow run that it logs to, where that is not one of its own.
        resume: does what is left where a former run kept its result and then failed; returns all of its own fields.
        relog: logs what a complete result says, where MLflow did not take it.

    Raises:
        EmonetError: if another process runs this stage, and it is not shared.
        RequestError: if the folder cannot be written.
    """
    fixed = digest(dict(inputs))
    folder = out or experiment.folder
    path = folder / f"{stage}.json"
    done = None if experiment.force else _complete(path, result_type, fixed, outputs)
    unlogged = folder / f".{stage}.unlogged"
    left = None if done is None else _left(done, resume, relog if unlogged.exists() else None)
    if done is not None and left is None:
        check()
        console.say(f"[bold]{stage}[/]: up to date ({console.name(path)}); --force runs it again")
        return done
    if done is not None:
        console.say(f"[bold]{stage}[/]: its work is done and safe ({console.name(path)}); going on with what is left")
    _make(folder)
    with nullcontext() if shared else _alone(folder, stage):
        started = time.monotonic() - (0.0 if done is None else done.seconds)
        with opened() if opened else _run_of(experiment, stage, {**inputs, "inputs": fixed}, parent, done) as run:

            def keep(fields: Mapping[str, Any]) -> R:
                own = {"stage": stage, "experiment": experiment.name, "inputs": fixed, "run_id": run.id}
                seconds = round(time.monotonic() - started, 2)
                result = result_type.model_validate({**fields, **own, "seconds": seconds})
                if fields.get("complete", True):
                    write_text(path, result.model_dump_json(indent=2) + "\n")
                return result

            job = StageContext(experiment, run, path, keep)
            fields = work(job) if done is None or left is None else left(job, done)
            if relog is not None:
                unlogged.touch()  # until the run has ended
            result = keep(fields)  # before the run ends: the server may be gone by now
    unlogged.unlink(missing_ok=True)
    where = str(path) if fields.get("complete", True) else f"this part; {path} is written when all are done"
    console.say(f"[bold]{stage}[/]: done in {console.duration(result.seconds)} ({console.name(where)})")
    return result


def read_result(experiment: Experiment, stage: str, result_type: type[R]) -> R | None:
    """The result that a stage left, or None if it did not finish; one that cannot be read is told."""
    return _read(experiment.folder / f"{stage}.json", result_type)


def require_result(experiment: Experiment, stage: str, result_type: type[R]) -> R:
    """The result of an earlier stage.

    Raises:
        RequestError: if the stage has not finished; says what to type.
    """
    result = read_result(experiment, stage, result_type)
    if result is None:
        there = (experiment.folder / f"{stage}.json").exists()
        raise RequestError(
            f"the stage {stage!r} of experiment {experiment.name!r} has not finished",
            where=experiment.folder,
            expected=f"{stage}.json",
            found="a file that cannot be used" if there else "no such file",
            hint=f"emonet {stage}, with the same --experiment and flags",
        )
    return result


def resolve_source(source: str, experiment: Experiment) -> str:
    """The folder of a registry URI; anything else as it is, without waiting for mlflow to be imported.

    A plug-in's encoder (`plugin:NAME:ARGUMENT`) is such a thing, whatever its argument looks like.

    Raises:
        RequestError: if the registry has no such model.
    """
    if ":/" not in source or source.startswith(PLUGIN):
        return source
    from emonet.registry import resolve
    from emonet.tracking import default_uri

    return resolve(source, default_uri(experiment.runs), experiment.runs)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, text.encode())


def _left(
    done: R,
    resume: Callable[[StageContext, R], Mapping[str, Any]] | None,
    relog: Callable[[StageContext, R], None] | None,
) -> Callable[[StageContext, R], Mapping[str, Any]] | None:
    """Does what is left of a stage whose work is done, if anything is."""
    if not done.settled:
        return resume
    if relog is None:
        return None

    def log(job: StageContext, result: R) -> Mapping[str, Any]:
        relog(job, result)
        return dict(result)

    return log


def _complete(path: Path, result_type: type[R], fixed: str, outputs: Sequence[Output]) -> R | None:
    done = _read(path, result_type)
    if done is None or done.inputs != fixed:
        return None
    return done if all(one.exists() for one in (outputs if done.settled else outputs[:1])) else None


def _read(path: Path, result_type: type[R]) -> R | None:
    """A result; None if there is none, or if it is damaged or of another version: then its stage is to be run again."""
    try:
        return result_type.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error.errors(include_url=False)[0]["msg"]
        console.say(f"[yellow]{console.name(path)} does not hold a result of this version[/] ({console.name(reason)})")
        return None


def _make(folder: Path) -> None:
    """Make the folder, and see that something can be written there before hours go into it."""
    try:
        with durable.explained(folder, what="the results", kept="nothing was begun", then="it begins"):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_PROBE))
                probe.flush()
                os.fsync(probe.fileno())
    except (RequestError, OSError) as error:
        raise _unwritable(folder, error) from error


def _alone(folder: Path, stage: str) -> AbstractContextManager[Any]:
    try:
        return FileLock(folder / f".{stage}.lock", timeout=0).acquire()
    except Timeout as error:
        raise EmonetError(
            f"another process is running the stage {stage!r} of this experiment",
            where=folder,
            hint="wait for it, or give this one another --name",
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: Exception) -> RequestError:
    reason = error.__cause__ if isinstance(error, RequestError) else error
    found = reason.strerror or reason if isinstance(reason, OSError) else None
    return RequestError("the folder for the results cannot be written", where=folder, found=found, hint="--runs FOLDER")


def _run_of(
    experiment: Experiment, stage: str, inputs: Mapping[str, Any], parent: str | None, done: StageResult | None
) -> AbstractContextManager[Run]:
    """An MLflow run for the stage: that of the result whose work is done, if there is one and MLflow still has it."""
    from emonet.tracking import default_uri, run_exists, start_run, taken_up

    uri, artifacts = default_uri(experiment.runs), experiment.runs / ARTIFACTS
    if done is not None and run_exists(uri, done.run_id, artifacts):
        return taken_up(uri, done.run_id, artifacts)
    config = experiment.model_dump(mode="json", exclude={"force", "description", "sweep"})
    tags = {"stage": stage, **{key: str(value) for key, value in inputs.items() if _short(value)}}
    return start_run(
        uri, experiment=experiment.name, name=stage, artifacts=artifacts, config=config, tags=tags, parent=parent
    )


def _short(value: Any) -> bool:
    return isinstance(value, str | int | float)
