"""The verb `compare`: models on the same clips, with intervals, p values and costs; and whether one is promoted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emonet.errors import EmonetError, RequestError
from emonet.evaluation import Comparison
from emonet.schema import Schema, digest
from emonet.targets import open_targets
from emonet.tracking import ARTIFACTS, hidden
from experiments.compare.clips import classes_of, corpus_of, open_clips, targets_of
from experiments.compare.origins import Origin, origin_of, require_new
from experiments.core import console, read_labels

if TYPE_CHECKING:
    from emonet.tracking import Run
    from experiments.arguments import CompareArguments
    from experiments.compare.promotion import Challenge
    from experiments.compare.work import Compared

FOLDER = "compare"  # below `runs`, and the MLflow experiment


class ComparedModel(Schema):
    """A model of a comparison."""

    label: str
    """What tables call it."""
    given: str
    """What was typed."""
    version: int | None
    """Of `emonet-voice`, if it is registered."""
    encoder_digest: str | None
    """SHA-256 of the encoder's weights; null for a plug-in's scorer."""
    calibrated: str | None
    """How its scores are calibrated, if they are."""
    origin: Origin
    """What it knows of the clips."""


class CompareResult(Schema):
    """What `emonet compare` found."""

    folder: Path
    """Holds index.html, comparison.json, metrics.csv and differences.csv."""
    on: str
    """The corpus or the store."""
    split: str
    """Of its clips."""
    models: tuple[ComparedModel, ...]
    """In the order in which they were named."""
    forced: bool
    """Whether a model was trained on some of these clips."""
    warnings: tuple[str, ...]
    """What must not be overlooked: overlaps, speakers heard in training, unknown origins, what was left out."""
    comparison: Comparison
    """All figures."""
    names: dict[str, str]
    """Id of each target -> its name."""
    promoted: bool | None
    """With --promote: whether the challenger is @champion now."""
    decision: tuple[str, ...]
    """Why, or why not."""
    margin: float | None = None
    """With --promote: of non-inferiority, as a share of the range of a target's scores (0 to 1)."""
    unproven: tuple[str, ...] = ()
    """With --promote: ids of the targets in which the challenger is not shown to be non-inferior."""
    run_id: str
    """The MLflow run."""


def run(arguments: CompareArguments) -> CompareResult:
    """Compare models on the same clips, write the page and the tables, and log all of it.

    Raises:
        RequestError: as in `examine`, or if the comparison could not be logged afterwards.
        EmonetError: if states cannot be read or made, or the registry cannot be used.
    """
    from emonet.tracking import default_uri, require_experiment

    hint = "name the models by their folders (emonet registry show tells them), with --runs FOLDER of your own"
    require_experiment(default_uri(arguments.runs), FOLDER, arguments.runs / ARTIFACTS, hint)
    return _publish(arguments, *examine(arguments))


def examine(arguments: CompareArguments) -> tuple[Compared, Challenge | None]:
    """Compare models on the same clips; nothing is written but states and features that nobody has.

    Returns:
        What came of it, and with --promote who challenges whom.

    Raises:
        RequestError: if a model or the clips cannot be found, a model was trained on the clips and nothing is forced,
            no target is common to all, --out is a file, or there is nothing that --promote could decide.
        EmonetError: if states cannot be read or made, or the registry cannot be used.
    """
    from emonet.tracking import default_uri
    from experiments.compare.models import open_models
    from experiments.compare.promotion import challenge_of, with_champion
    from experiments.compare.scorers import SCORER, open_scorers
    from experiments.compare.work import compare_models

    if not arguments.models:
        raise RequestError("no model was named", hint="emonet compare champion candidate --on CORPUS")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise RequestError("--out names a file, not a folder to write", where=arguments.out)
    uri = default_uri(arguments.runs)
    given = with_champion(arguments.models, uri) if arguments.promote else arguments.models
    plugged = [one for one in given if one.startswith(SCORER)]
    if plugged and arguments.promote:
        raise RequestError(
            "only a registered version can be promoted, or challenged", found=plugged[0], hint="leave out --promote"
        )
    models = open_models([one for one in given if one not in plugged], uri, arguments.runs)
    scorers = open_scorers(plugged, arguments.runs)
    challenge = challenge_of(models) if arguments.promote else None
    targets = targets_of(models) if arguments.targets is None else open_targets(arguments.targets)
    classes = read_labels(arguments.labels, targets) or classes_of(models)
    clips = open_clips(arguments.on or corpus_of(models), arguments.split, arguments.runs, targets, classes)
    origins = {model.label: origin_of(model, clips, arguments.runs) for model in models}
    if not arguments.force:
        require_new(origins, clips)
    origins |= {scorer.label: Origin(known="unknown") for scorer in scorers}
    return compare_models(arguments, models, clips, origins, scorers), challenge


def show(result: CompareResult) -> None:
    """The tables on stderr, and what must not be overlooked first."""
    from experiments.compare.table import (
        class_pairs_table,
        classes_table,
        comparison_table,
        costs_table,
        differences_table,
        pairs_table,
        sentence,
    )

    comparison = result.comparison
    for warning in result.warnings:
        style = "bold red" if warning.startswith("FORCED") else "yellow"
        console.say(f"[{style}]note[/] {console.name(warning)}")
    console.console.print(comparison_table(comparison))
    if comparison.classes:
        console.console.print(classes_table(comparison))
    console.console.print(costs_table(comparison))
    if comparison.pairs:
        console.console.print(pairs_table(comparison))
    if any(pair.classes is not None for pair in comparison.pairs):
        console.console.print(class_pairs_table(comparison))
    models = [pair for pair in comparison.pairs if not comparison.facts[pair.other].baseline]
    if len(models) == 1:
        console.console.print(differences_table(comparison, models[0], result.names))
    for pair in models or comparison.pairs:
        console.say(console.name(sentence(comparison, pair)))
    if result.promoted is not None:
        console.say("[bold green]promoted[/]" if result.promoted else "[bold yellow]not promoted[/]")
        for reason in result.decision:
            console.say(f"  {console.name(reason)}")
    if result.forced:
        console.say("[bold red]FORCED[/] a model was trained on some of these clips: the figures prove nothing")
    page = result.folder / "index.html"
    console.say(f"page: {console.name(page)}" if page.is_file() else f"tables: {console.name(result.folder)}")


def _publish(arguments: CompareArguments, compared: Compared, challenge: Challenge | None) -> CompareResult:
    """Write the files, log them, and promote; what was computed is on disk before a server is asked."""
    from emonet.tracking import default_uri, start_run
    from experiments.compare.promotion import apply_verdict, verdict_of
    from experiments.compare.report import config_of, log, log_files, tags_of, write

    uri = default_uri(arguments.runs)
    folder = arguments.out or arguments.runs / FOLDER / _name(arguments, compared)
    verdict = None if challenge is None else verdict_of(challenge, compared, arguments.margin)
    write(folder, arguments, compared, verdict.reasons if verdict else ())
    promoted: bool | None = None
    decision: tuple[str, ...] = ()
    try:
        with start_run(
            uri,
            experiment=FOLDER,
            name=folder.name,
            artifacts=arguments.runs / ARTIFACTS,
            config=config_of(arguments, compared),
            tags=tags_of(compared),
        ) as run:
            log(run, folder, compared)
            run.flush()
            if challenge is not None and verdict is not None:  # last: whoever is promoted has the figures that prove it
                promoted, decision = apply_verdict(challenge, verdict, arguments, uri, run.id)
                write(folder, arguments, compared, decision)
                run.tags({"promoted": str(promoted).lower()})
                log_files(run, folder)
            outcome = {} if verdict is None else {"margin": arguments.margin, "unproven": verdict.unproven}
            outcome |= {"promoted": promoted, "decision": decision}
            return _result(arguments, compared, folder, run, outcome)
    except EmonetError:
        console.say(f"[yellow]note[/] the comparison itself is done and lies in {console.name(folder)}")
        if promoted:
            console.say(f"[yellow]note[/] {console.name(decision[-1])}")
        raise
    except Exception as error:  # mlflow lets SQLAlchemy's, requests' and the operating system's errors through
        raise EmonetError(
            "the comparison is done, but it could not be logged" + (f"; {decision[-1]}" if promoted else ""),
            where=hidden(uri),
            found=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            hint=f"its files lie in {folder}; the same command logs it again",
        ) from error


def _result(
    arguments: CompareArguments,
    compared: Compared,
    folder: Path,
    run: Run,
    outcome: Mapping[str, Any],
) -> CompareResult:
    models: list[dict[str, Any]] = [
        {
            "label": model.label,
            "given": model.given,
            "version": None if model.version is None else model.version.version,
            "encoder_digest": model.encoder_digest,
            "calibrated": model.calibrated,
            "origin": compared.origins[model.label],
        }
        for model in compared.models
    ]
    return CompareResult(
        folder=folder,
        on=compared.clips.on,
        split=arguments.split,
        models=tuple(ComparedModel.model_validate(model) for model in models),
        forced=compared.forced,
        warnings=compared.warnings,
        comparison=compared.comparison,
        names={target.id: target.name for target in compared.clips.targets.subset(compared.targets)},
        run_id=run.id,
        **outcome,
    )


def _name(arguments: CompareArguments, compared: Compared) -> str:
    """The same for the same comparison, so that it is written over, and another one's is not."""
    models = [model.identity for model in compared.models]
    how = [arguments.experts_precision, arguments.resamples, arguments.seed, arguments.baselines]
    return digest([models, compared.clips.digest, how])[:12]
