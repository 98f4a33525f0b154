"""The verb `sweep`: trials with different settings, then the best of them trained in full, tested and registered."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock
from pydantic import Field

from emonet.errors import RequestError
from emonet.schema import Registered, Schema, digest
from emonet.tracking import hidden
from experiments.core import (
    SECTIONS,
    Experiment,
    StageContext,
    StageResult,
    SweepStage,
    console,
    decoration,
    merged,
    require_result,
    resolve_source,
    run_stage,
    space_of,
    write_text,
)
from experiments.sweep.cluster import require_reachable
from experiments.sweep.records import TrialRecord, encoded, plan_of
from experiments.sweep.search import search
from experiments.sweep.view import settings
from experiments.sweep.workers import COMMAND

if TYPE_CHECKING:
    from emonet.tracking import Run
    from experiments.sweep.studies import Study

NAMES: dict[SweepStage, str] = {"heads": "sweep", "pretrain": "sweep-pretrain"}  # of results and folders
BEST = "best.yaml"
SHOWN = 3  # reasons of failures (count)
ENOUGH = 20  # trials after which it is told what mattered (count)


class BestTrial(Schema):
    """The trial that a sweep found best."""

    number: int
    """In the study, counted from 0."""
    params: dict[str, Any]
    """Dotted path -> value."""
    values: dict[str, float]
    """Objective -> value on the validation clips."""


class SweepResult(StageResult):
    """What `emonet sweep` found."""

    study: str
    """Name of the study."""
    storage: str
    """Where the study is kept, without its password."""
    finished: int = Field(ge=0)
    """Complete and pruned trials (count)."""
    pruned: int = Field(ge=0)
    """Trials that were stopped early (count)."""
    failed: int = Field(ge=0)
    """Trials without a result; they are not counted among the finished ones (count)."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Why trials failed -> how many did (count), the most frequent reason first."""
    best: BestTrial | None
    """The best trial; None if none was complete."""
    importance: dict[str, float]
    """Dotted path -> how much it tells the best tenth of the trials from the rest (share, 0 to 1; PED-ANOVA)."""
    settings: Path | None = None
    """An experiment file with the best trial's settings."""
    complete: bool
    """Whether the study has all its trials and the best of them was trained in full here."""
    final_run: str | None = None
    """The MLflow run of the best trial's full training."""
    registered: Registered | None = None
    """The version of the best trial's model."""
    test: dict[str, float | None] = Field(default_factory=dict)
    """Test figures of that model, means over targets; of a captioner none: it is judged on validation clips."""


@dataclass(frozen=True)
class Subject:
    """What trials of an experiment have in common, and how its best one is trained in full.

    Args:
        comparable: whatever makes trials comparable with each other, JSON-able.
        train: trains an experiment into a folder, below an MLflow run.
    """

    comparable: Mapping[str, Any]
    train: Callable[[Experiment, Path, str], Mapping[str, Any]]


def run(experiment: Experiment, *, command: Sequence[str] = COMMAND) -> SweepResult:
    """Search, train the best, test and register it; goes on where an earlier call was stopped.

    Args:
        experiment: the resolved configuration.
        command: that starts a worker.

    Raises:
        RequestError: if the stage before has not finished, or the study's storage cannot be of its kind.
        EmonetError: if all trials fail, no worker is left, or the study's storage does not answer.
        KeyboardInterrupt: after Ctrl-C or another heeded signal, when the workers have ended.
    """
    subject = _heads(experiment) if experiment.sweep.stage == "heads" else _pretrain(experiment)
    plan = plan_of(experiment, study_name(experiment, subject.comparable))
    inputs = {
        "study": plan.name,
        "storage": hidden(plan.storage),
        "trials": experiment.sweep.trials,
        "epochs": _section(experiment).epochs,
        "evaluation": experiment.evaluation.distinguishing(),
    }
    require_reachable(experiment.sweep, plan.storage)
    from experiments.sweep.studies import Study
    from experiments.sweep.tracking import study_run

    def work(job: StageContext) -> Mapping[str, Any]:
        return _work(job, study, subject, command)

    def opened() -> AbstractContextManager[Run]:
        return study_run(experiment, study)

    study, name = Study(plan), NAMES[experiment.sweep.stage]
    outputs = [_folder(experiment) / BEST]
    return run_stage(experiment, name, SweepResult, inputs, outputs, work, shared=True, opened=opened)


def show(result: SweepResult) -> None:
    """A summary on stderr."""
    console.say(
        f"{result.study}: {console.counted(result.finished, 'trial')} finished ({result.pruned} pruned), "
        f"{result.failed} failed; in {console.name(result.storage)}"
    )
    for reason, count in list(result.reasons.items())[:SHOWN]:
        console.say(f"  {console.counted(count, 'trial')} failed: {console.name(reason)}")
    if result.best is not None:
        best = result.best
        shown = ", ".join(f"{name} {value:z.4g}" for name, value in best.values.items())
        console.say(f"best: trial {best.number}, {shown} (validation); {console.name(settings(best.params))}")
    if result.importance and result.finished >= ENOUGH:
        first = sorted(result.importance.items(), key=lambda row: -row[1])[:3]
        console.say(f"what mattered most: {', '.join(f'{path} ({100 * share:.0f} %)' for path, share in first)}")
    if result.registered is not None:
        test = ", ".join(f"{name} {value:z.4g}" for name, value in result.test.items() if value is not None)
        console.say(
            f"trained in full{test and f' and tested once ({test})'}, registered as {result.registered.name} version "
            f"{result.registered.version} (@candidate); its settings: {console.name(result.settings)}"
        )


def study_name(experiment: Experiment, comparable: Mapping[str, Any]) -> str:
    """`EXPERIMENT-STAGE-DIGEST`: trials are in one study if they can be compared and proposed together.

    The digest covers data, seed, objectives, the epochs of a trial, all settings that are not varied, and the choices
    of those that are (Optuna does not let them change). Ranges may change.
    """
    sweep = experiment.sweep
    config = _section(experiment)
    space, section = space_of(sweep), config.distinguishing(exclude=config.how_fields)
    if "memory" in config.how_fields:
        section["memory"] = "auto"  # whatever it is: studies were named after it once, by default after this
    epochs = sweep.epochs or section["epochs"]
    for path in [*space, f"{SECTIONS[sweep.stage]}.epochs"]:
        _, *sections, name = path.split(".")
        place = section
        for inner in sections:
            place = place[inner]
        place.pop(name, None)
    fixed = {
        **comparable,
        "section": section,
        "epochs": epochs,
        "aims": sweep.aims,
        "seed": experiment.seed,
        "space": {path: [encoded(choice) for choice in one.choices] for path, one in sorted(space.items())},
    }
    return f"{experiment.name}-{sweep.stage}-{digest(fixed)[:8]}"


def _heads(experiment: Experiment) -> Subject:
    from experiments import heads
    from experiments.extract import ExtractResult
    from experiments.heads import (
        digest_of_labels,
        digest_of_weights,
        open_corpus_of,
        open_data,
        require_classes,
        require_correlation,
    )
    from experiments.sweep.trials import require_trainable

    extracted = require_result(experiment, "extract", ExtractResult)
    corpus = open_corpus_of(experiment, extracted)
    comparable = {"store": extracted.fingerprint, "corpus": extracted.corpus, "weights": digest_of_weights(corpus)}
    if "pearson" in experiment.sweep.aims:
        require_correlation(open_data(experiment, corpus, tested=False))
    by_classes = "ua" in experiment.sweep.aims
    if by_classes:
        require_classes(open_data(experiment, corpus, tested=False), "the objective ua")
    space = space_of(experiment.sweep)
    require_trainable(open_data(experiment, corpus, tested=False), experiment.heads, space)
    selected_by = space.get("heads.select_by")
    if "ua" in (selected_by.choices if selected_by else (experiment.heads.select_by,)):
        require_classes(open_data(experiment, corpus, tested=False), "heads.select_by ua")
        by_classes = True
    if by_classes:
        comparable |= digest_of_labels(corpus)

    def train(best: Experiment, folder: Path, parent: str) -> Mapping[str, Any]:
        result = heads.run(best, out=folder, parent=parent)
        with decoration("the table of test figures"):
            heads.show(result)
        test = {name: result.test.of(name).mean.value for name in ("mae", "pearson")}
        if result.classes is not None:
            test["ua"] = result.classes.ua.value
        return {"final_run": result.run_id, "registered": result.registered, "test": test}

    return Subject(comparable, train)


def _pretrain(experiment: Experiment) -> Subject:
    from emonet.encoders import weights_identity
    from experiments import pretrain
    from experiments.core import open_experiments_corpus

    captioner = experiment.captioner
    if captioner.devices > 1 or captioner.num_nodes > 1:
        raise RequestError(
            "a trial of a sweep trains on one device",
            found=f"--captioner.devices {captioner.devices}, --captioner.num-nodes {captioner.num_nodes}",
            hint="leave both out; --workers N runs trials beside each other, one on each GPU",
        )
    corpus = open_experiments_corpus(experiment)

    def train(best: Experiment, folder: Path, parent: str) -> Mapping[str, Any]:
        result = pretrain.run(best, out=folder, parent=parent)
        pretrain.show(result)
        return {"final_run": result.run_id, "registered": result.registered}

    source = resolve_source(experiment.captioner.model, experiment)
    return Subject({"corpus": corpus.fingerprint, "weights": weights_identity(source)}, train)


def _folder(experiment: Experiment) -> Path:
    return experiment.folder / NAMES[experiment.sweep.stage]


def _section(experiment: Experiment) -> Any:
    return getattr(experiment, SECTIONS[experiment.sweep.stage])


def _work(job: StageContext, study: Study, subject: Subject, command: Sequence[str]) -> Mapping[str, Any]:
    from experiments.sweep.tracking import Mirror

    experiment, folder = job.experiment, _folder(job.experiment)
    folder.mkdir(parents=True, exist_ok=True)
    if not study.plan.prunes and experiment.sweep.pruner != "none":
        job.say("no trial is pruned: of several objectives Optuna cannot tell which trial is poor")
    home = f"{platform.node()}:{folder.resolve()}"
    if study.attribute("home") is None:
        study.note("home", home)
    with Mirror(experiment, job.run) as mirror:
        search(experiment, study, folder, command, mirror)
    records, best = study.records(), study.best()
    summary = _summary(study, records, best)
    if summary["finished"] < experiment.sweep.trials:
        job.say("the sweep's time is over; the same command goes on")
    elif best is None:
        job.say("[yellow]no trial was complete: all were pruned[/]; more trials (--trials), or --pruner none")
    else:
        with FileLock(folder / ".final.lock"):  # of several sweeps of this folder the first trains; others find it done
            return summary | _finish(job, study, best, records, subject, home)
    return summary | {"complete": False}


def _finish(
    job: StageContext, study: Study, best: TrialRecord, records: Sequence[TrialRecord], subject: Subject, home: str
) -> dict[str, Any]:
    """Log the whole study, and train its best trial in full; the fields of the result that this fills."""
    from experiments.sweep.tracking import log_missing, log_study

    experiment, folder = job.experiment, _folder(job.experiment)
    chosen, path = merged(experiment, best.params), folder / BEST
    write_text(path, _as_file(chosen, study, best))
    log_missing(experiment, job.run, records)
    log_study(job.run, study, records, folder)
    job.run.artifact(path)
    place = study.attribute("home")
    if experiment.sweep.final == "no" or (experiment.sweep.final == "auto" and place != home):
        job.say(
            "the study is complete; its best trial is trained in full where the study was created, "
            f"{console.name(place)}. To train it here: --final yes"
        )
        return {"settings": path, "complete": False}
    return {"settings": path, "complete": True, **subject.train(chosen, folder, job.run.id)}


def _summary(study: Study, records: Sequence[TrialRecord], best: TrialRecord | None) -> dict[str, Any]:
    states = [record.state for record in records]
    return {
        "study": study.plan.name,
        "storage": study.where,
        "finished": sum(record.finished for record in records),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "reasons": dict(Counter(one.reason or "unknown" for one in records if one.state == "failed").most_common()),
        "best": None if best is None else _best(best),
        "importance": study.importance(),
    }


def _best(record: TrialRecord) -> BestTrial:
    return BestTrial(number=record.number, params=dict(record.params), values={**record.values})


def _as_file(chosen: Experiment, study: Study, best: TrialRecord) -> str:
    """An experiment file; only what differs from the defaults stands in it."""
    fields = chosen.model_dump(mode="json", exclude={"sweep", "force", "name", "description"}, exclude_defaults=True)
    description = f"The best of a sweep: trial {best.number} of study {study.plan.name}."
    head = f"# emonet {study.plan.config.stage} --experiment THIS-FILE\n"
    return head + yaml.safe_dump({"name": chosen.name, "description": description, **fields}, sort_keys=False)
