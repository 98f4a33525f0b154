"""The verb `benchmark`: models and encoders go through a plan's protocols; tables, pictures, one page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import EmonetError, RequestError
from emonet.protocols import ProtocolTable, corpora_table
from emonet.schema import Schema
from emonet.tracking import ARTIFACTS
from emonet.version import __version__
from experiments.benchmark.context import Context
from experiments.benchmark.parts import PARTS, Part, remove_others
from experiments.benchmark.plan import AnyEntry, Plan, key_of, load_plan
from experiments.benchmark.report import JSON, TABLES, Report, figures_of, report_of, write_report
from experiments.benchmark.summary import drawn, summary
from experiments.benchmark.tasks import finish, prepare, settle_costs
from experiments.core import INDEX, console

if TYPE_CHECKING:
    from experiments.arguments import BenchmarkArguments, BenchmarkCorporaArguments, BenchmarkProtocolArguments

FOLDER = "benchmark"  # the MLflow experiment


class BenchmarkResult(Schema):
    """What `emonet benchmark run` found."""

    folder: Path
    """Holds index.html, benchmark.json and the tables."""
    report: Report
    """All tables."""
    run_id: str
    """The MLflow run."""


def run(arguments: BenchmarkArguments) -> BenchmarkResult:
    """Take models and encoders through the protocols of a plan; what a stopped run has finished is kept.

    Raises:
        RequestError: if the plan cannot be used, or a protocol that is not optional lacks what it needs.
        EmonetError: if a protocol fails.
    """
    from emonet.tracking import default_uri, require_experiment

    plan = load_plan(arguments.plan, corpus=arguments.corpus, encoder=arguments.encoder)
    require_experiment(default_uri(arguments.runs), FOLDER, arguments.runs / ARTIFACTS, "another --runs FOLDER")
    folder = arguments.runs / plan.name
    context = Context(plan, folder, arguments.runs, arguments.terms(plan.max_cost))
    wanted = _wanted(plan, arguments.only)
    tasks = [prepare(entry, context, force=arguments.force) for entry in wanted]
    settle_costs(tasks, context, arguments.consent())
    parts: list[Part] = []
    try:
        parts.extend(finish(task, context) for task in tasks)
    finally:  # what is done is shown, also where a later protocol fails
        report = report_of(plan.name, plan.description, _facts(plan, context), parts)
        if parts:
            write_report(folder, report, parts, folder / PARTS)
    if not arguments.only:
        remove_others(folder / PARTS, [part.key for part in parts])
    return BenchmarkResult(folder=folder, report=report, run_id=_logged(plan, report, folder, arguments.runs))


def robustness(arguments: BenchmarkProtocolArguments) -> BenchmarkResult:
    """The plan's robustness alone; raises as `run`."""
    return _alone("robustness", arguments)


def fairness(arguments: BenchmarkProtocolArguments) -> BenchmarkResult:
    """The plan's fairness alone; raises as `run`."""
    return _alone("fairness", arguments)


def _alone(protocol: str, arguments: BenchmarkProtocolArguments) -> BenchmarkResult:
    from experiments.arguments import BenchmarkArguments

    return run(BenchmarkArguments.model_validate({**dict(arguments), "only": (protocol,)}))


def _wanted(plan: Plan, only: Sequence[str]) -> list[AnyEntry]:
    """The entries that were asked for, by their names or protocols; all where nothing was asked for.

    Raises:
        RequestError: if the plan has none of a name.
    """
    known = {name for entry in plan.protocols for name in (key_of(entry), entry.protocol)}
    if unknown := [name for name in only if name not in known]:
        raise RequestError(
            "the plan has no such protocol",
            found=", ".join(unknown),
            expected=", ".join(map(key_of, plan.protocols)),
            hint="--only takes names of the plan's entries, or of their protocols: --only bench emobox",
        )
    return [entry for entry in plan.protocols if not only or {key_of(entry), entry.protocol} & set(only)]


def show(result: BenchmarkResult) -> None:
    """For each protocol one short table, on stderr, and where the page is, which has all."""
    for key in result.report.headlines.values():
        console.console.print(summary(result.report.protocols[key]))
    for why in dict.fromkeys(result.report.skipped.values()):
        keys = ", ".join(key for key, other in result.report.skipped.items() if other == why)
        console.say(f"[yellow]left out[/] {console.name(keys)}: {console.name(why)}")
    page = result.folder / INDEX
    console.say(f"page: {console.name(page)}" if page.is_file() else f"tables: {console.name(result.folder / TABLES)}")


def corpora(arguments: BenchmarkCorporaArguments) -> ProtocolTable:
    """The 32 corpora of EmoBox: what each holds, under which licence, and where to get it."""
    del arguments
    return corpora_table()


def show_corpora(table: ProtocolTable) -> None:
    """The table on stderr."""
    console.console.print(drawn(table, table.columns, table.rows))
    for note in table.notes:
        console.say(console.name(note))


def _facts(plan: Plan, context: Context) -> Mapping[str, str]:
    return {
        "Command": shlex.join(["emonet", *sys.argv[1:]]),
        "Date": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "emonet": __version__,
        "Intervals": f"{100 * plan.evaluation.confidence:g} % of {plan.evaluation.resamples:,} resamples of speakers, "
        "or of clips where there are few of them, as each table says",
        "Seed": str(plan.seed),
        **{f"Model {one.label}": one.about for one in context.opened},
        **{f"Encoder {one.label}": one.encoder for one in plan.encoders},
    }


def _logged(plan: Plan, report: Report, folder: Path, runs: Path) -> str:
    """Log the figures and files; they are on disk by now, whatever MLflow says."""
    from emonet.tracking import default_uri, start_run

    tags = {"plan": plan.name, **{f"left_out.{key}": "true" for key in report.skipped}}
    try:
        with start_run(
            default_uri(runs),
            experiment=FOLDER,
            name=plan.name,
            artifacts=runs / ARTIFACTS,
            config=plan.model_dump(mode="json", include={"name", "description", "evaluation", "seed"}),
            tags=tags,
        ) as run:
            run.metrics({f"seconds/{key}": value for key, value in report.seconds.items()} | figures_of(report))
            for name in (JSON, INDEX):
                if (folder / name).is_file():
                    run.artifact(folder / name)
            return run.id
    except EmonetError:
        console.say(f"[yellow]note[/] the benchmark itself is done and lies in {console.name(folder)}")
        raise
