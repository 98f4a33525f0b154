"""Parts of `heads`: nodes that see one run folder train a share of the experts each; the last one goes on with all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emonet.clips import Corpus
from emonet.configs import HeadsConfig
from emonet.errors import RequestError
from emonet.schema import digest
from experiments.core import Experiment, StageContext, StageResult, console, read_result, run_stage
from experiments.heads import HeadsResult, open_data, origin, requests, scratch_folder, train_form
from experiments.heads import run as run_all
from experiments.heads import show as show_all

FOLDER = "heads.parts"


class HeadsPart(StageResult):
    """One part of the experts, trained and left for whoever joins all."""

    index: int
    """Which, from 0."""
    count: int
    """Of as many (count)."""
    targets: tuple[str, ...]
    """Whose experts are in it."""
    missing: tuple[int, ...] = ()
    """Parts that were not there when this one was done."""


def run(experiment: Experiment) -> HeadsPart | HeadsResult:
    """Train one part of the experts; of all parts that are there, make the model.

    Args:
        experiment: the resolved configuration.

    Raises:
        RequestError: as `heads` does, or if there is no such part.
    """
    require_part(experiment.heads)
    folder = experiment.folder
    corpus, inputs = origin(experiment)
    if _is_done(experiment, folder, inputs):
        return run_all(experiment)
    part = run_part(experiment, corpus, inputs, folder)
    lock = None if part.missing else joining(folder)
    if lock is None:
        return part
    with lock:
        done = run_all(experiment, parts=part_folders(folder, inputs, part.count))
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return done


def show(result: HeadsPart | HeadsResult) -> None:
    """What is there, and what is not."""
    if isinstance(result, HeadsResult):
        show_all(result)
        return
    console.say(f"part {result.index + 1} of {result.count} is trained: {console.name(', '.join(result.targets))}")
    if result.missing:
        missing = " ".join(map(str, result.missing))
        console.say(f"  [yellow]the model is not there yet[/]: shard-index {missing}; the part that ends last makes it")
    else:
        console.say("  all parts are there, and another process makes the model of them")


def _is_done(experiment: Experiment, folder: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether the experts of all parts are joined already."""
    there = (folder / "heads.json").is_file() and not experiment.force
    done = read_result(experiment, "heads", HeadsResult) if there else None
    return done is not None and done.inputs == digest(dict(inputs))


def part_folders(folder: Path, inputs: Mapping[str, Any], count: int) -> list[Path]:
    """Where the parts of a training are left, in their order.

    Args:
        folder: of the stage's outputs.
        inputs: everything that fixes the outcome.
        count: of parts.
    """
    place = folder / FOLDER / digest(dict(inputs))[:16]
    return [place / f"heads-{index:05}-of-{count:05}" for index in range(count)]


def require_part(config: HeadsConfig) -> None:
    """Check that the part that is asked for is one of as many.

    Raises:
        RequestError: if not.
    """
    if config.shard_index >= config.num_shards:
        raise RequestError(
            "there is no such part of the experts",
            expected=f"--heads.shard-index 0 to {config.num_shards - 1}",
            found=f"--heads.shard-index {config.shard_index} --heads.num-shards {config.num_shards}",
        )


def run_part(experiment: Experiment, corpus: Corpus, inputs: Mapping[str, Any], folder: Path) -> HeadsPart:
    """Train this process' part, unless it is there.

    Args:
        experiment: the resolved configuration.
        corpus: that the store was made from.
        inputs: everything that fixes the outcome.
        folder: of the stage's outputs.

    Raises:
        RequestError: if there is no such part.
    """
    from lightningmodules.experts import part_of, write_part

    require_part(experiment.heads)
    count, index = experiment.heads.num_shards, experiment.heads.shard_index
    places = part_folders(folder, inputs, count)

    def work(job: StageContext) -> Mapping[str, Any]:
        data, targets = open_data(experiment, corpus), tuple[str, ...]()
        parts = {form: part_of(request, count, index) for form, request in requests(job, data).items()}
        with scratch_folder(places[index].parent, f"{index}-") as scratch:
            for form, part in parts.items():
                targets = part.targets
                job.say(f"part {index + 1} of {count}: {', '.join(targets)}")
                write_part(train_form(job, form, part, scratch), places[index] / form)
        return {"index": index, "count": count, "targets": targets}

    mine = places[index]
    part = run_stage(experiment, mine.name, HeadsPart, inputs, [mine], work, out=mine.parent)
    missing = [number for number, place in enumerate(places) if not place.with_name(f"{place.name}.json").is_file()]
    return type(part).model_validate({**dict(part), "missing": tuple(missing)})


def joining(folder: Path) -> AbstractContextManager[object] | None:
    """What the process that joins the parts holds within a block; None if another one does so."""
    try:
        return FileLock(folder / ".heads.join.lock").acquire(timeout=0)
    except Timeout:
        return None
