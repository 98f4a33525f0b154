"""Report of a comparison: where it is written and logged (page, tables, an MLflow run, the versions themselves)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emonet.evaluation import METRIC_NAMES, Scores
from emonet.runtime import durable
from experiments.compare.page import ComparisonFindings, write_page
from experiments.compare.work import Compared
from experiments.core import console

if TYPE_CHECKING:
    from emonet.tracking import Run
    from experiments.arguments import CompareArguments

_KEY = re.compile(r"[^\w. -]+")  # what MLflow's keys do not hold, and slashes, which part them


def write(folder: Path, arguments: CompareArguments, compared: Compared, decision: Sequence[str]) -> None:
    """Write the page, comparison.json, metrics.csv and differences.csv.

    Args:
        folder: where to.
        arguments: of the verb.
        compared: what was found.
        decision: about the promotion, a sentence each.

    Raises:
        EmonetError: if the disk is full.
        RequestError: if the folder cannot be written.
    """
    clips, comparison = compared.clips, compared.comparison
    models = " ".join(shlex.quote(model.given) for model in compared.models)
    facts = {
        "Clips": f"{clips.on}, split {clips.split}: {console.counted(comparison.clips, 'clip')}, "
        f"{console.counted(comparison.speakers, 'speaker')}",
        "Corpus": f"{clips.spec} (fingerprint {clips.fingerprint[:12]})",
        "Experts held in": arguments.experts_precision,
        "Command": f"emonet compare {models} --on {shlex.quote(compared.clips.on)} --split {arguments.split}"
        + (" --force" if compared.forced else ""),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    findings = ComparisonFindings(
        comparison=comparison,
        spec=clips.targets.subset(compared.targets),
        truth=compared.truth,
        predictions=compared.predictions,
        facts=facts,
        note=clips.note,
        warnings=compared.warnings,
        decision=tuple(decision),
    )
    kept, then = "states that were extracted are kept", "it takes them from there"
    with durable.explained(folder, what="the comparison", kept=kept, then=then):
        write_page(folder, findings)


def config_of(arguments: CompareArguments, compared: Compared) -> dict[str, Any]:
    """What the MLflow run shows as its parameters."""
    shown = arguments.model_dump(mode="json", exclude={"json_output", "debug", "models"})
    return {**shown, "models": [model.given for model in compared.models]}


def tags_of(compared: Compared) -> dict[str, str]:
    """What the MLflow run is found by."""
    versions = [str(model.version.version) for model in compared.models if model.version is not None]
    return {
        "stage": "compare",
        "versions": ",".join(versions),
        "corpus": compared.clips.spec,
        "corpus_fingerprint": compared.clips.fingerprint,
        "split": compared.clips.split,
        "forced": str(compared.forced).lower(),
        "warnings": "\n".join(compared.warnings)[:4000],
    }


def log(run: Run, folder: Path, compared: Compared) -> None:
    """Log the files and all figures to the run, and each registered version's figures to itself.

    Args:
        run: of the comparison.
        folder: that `write` has filled.
        compared: what was found.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import tag_version, tell_metrics

    log_files(run, folder)
    for label, scores in compared.comparison.scores.items():
        run.metrics({f"{_key(label)}/{key}": value for key, value in scores.flat().items()})
    for label, classes in compared.comparison.classes.items():
        run.metrics({f"{_key(label)}/{key}": value for key, value in classes.flat().items()})
    data = dataset_of(compared)
    registered = {model.label: model.version for model in compared.models if model.version is not None}
    run.used([version.model_id for version in registered.values() if version.model_id is not None])
    for label, version in registered.items():
        scores = compared.comparison.scores[label]
        prefix = f"compare/{data}" + ("/FORCED" if compared.forced else "")
        figures = scores.flat()
        if label in compared.comparison.classes:
            figures |= compared.comparison.classes[label].flat()
        values = {f"{prefix}/{key}": value for key, value in figures.items()}
        tell_metrics(version, run, values, (data, compared.clips.digest[:8]))
        tag_version(version, run.uri, {_key(f"compare {data}"): _sentence(scores, compared, run.id)})


def log_files(run: Run, folder: Path) -> None:
    """Log the page and the tables as artefacts; those that were logged before are replaced."""
    run.artifact(folder, "comparison")


def dataset_of(compared: Compared) -> str:
    """What MLflow calls the clips: the corpus' kind and last folder or file, the split, and what is not all of it.

    A mean over the few emotions that two models share must not stand beside one over all of them.
    """
    parts = [part.partition(":") for part in compared.clips.spec.split("+")]
    names = [f"{kind} {Path(path).name}".strip() for kind, _, path in parts]
    counts = {
        "targets": (len(compared.targets), compared.rated),
        "clips": (len(compared.rows), len(compared.clips.table)),
    }
    partial = [f"{count} of {of} {what}" for what, (count, of) in counts.items() if count < of]
    return _key(" ".join([*names, compared.clips.split, *partial]))


def _sentence(scores: Scores, compared: Compared, run_id: str) -> str:
    figures = ", ".join(
        f"{name} {value:z.4g}" for name in METRIC_NAMES if (value := scores.of(name).mean.value) is not None
    )
    return f"{'FORCED: ' if compared.forced else ''}{figures} on {compared.comparison.clips} clips; run {run_id}"


def _key(text: str) -> str:
    return " ".join(_KEY.sub(" ", text).split()).strip(".") or "model"
