"""The verb `benchmark`: models and encoders go through a plan's protocols; tables, pictures, one page."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from emonet.errors import EmonetError, RequestError
from emonet.protocols import ProtocolTable, corpora_table
from emonet.schema import Schema, digest
from emonet.tracking import ARTIFACTS
from emonet.version import __version__
from experiments.benchmark.context import Context
from experiments.benchmark.parts import PARTS, Draft, Part, read_part, remove_others, write_part
from experiments.benchmark.plan import AnyEntry, Plan, key_of, load_plan
from experiments.benchmark.protocols import RUNNERS
from experiments.benchmark.report import JSON, TABLES, Report, figures_of, report_of, write_report
from experiments.core import INDEX, console

if TYPE_CHECKING:
    from experiments.arguments import BenchmarkArguments, BenchmarkCorporaArguments

FOLDER = "benchmark"  # the MLflow experiment
_ROWS, _WIDEST = 8, 48  # rows of a table at the terminal, and characters of a cell; the page has all


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
    context = Context(plan, folder, arguments.runs, arguments.terms())
    unknown = sorted(set(arguments.only) - {key_of(entry) for entry in plan.protocols})
    if unknown:
        raise RequestError(
            "the plan has no such protocol",
            found=", ".join(unknown),
            expected=", ".join(map(key_of, plan.protocols)),
        )
    wanted = [entry for entry in plan.protocols if not arguments.only or key_of(entry) in arguments.only]
    parts: list[Part] = []
    try:
        parts.extend(_part(entry, context, force=arguments.force) for entry in wanted)
    finally:  # what is done is shown, also where a later protocol fails
        report = report_of(plan.name, plan.description, _facts(plan, context), parts)
        if parts:
            write_report(folder, report, parts, folder / PARTS)
    if not arguments.only:
        remove_others(folder / PARTS, [part.key for part in parts])
    return BenchmarkResult(folder=folder, report=report, run_id=_logged(plan, report, folder, arguments.runs))


def show(result: BenchmarkResult) -> None:
    """What was measured, the first rows of each table, on stderr; and where the page is, which has all."""
    for table in result.report.protocols.values():
        if not any(row.kind == "measured" for row in table.rows):
            continue  # copied from a publication
        console.console.print(_terminal(table))
        for note in table.notes:
            console.say(f"[dim]{console.name(note)}[/]")
    for key, why in result.report.skipped.items():
        console.say(f"[yellow]left out[/] {console.name(key)}: {console.name(why)}")
    page = result.folder / INDEX
    console.say(f"page: {console.name(page)}" if page.is_file() else f"tables: {console.name(result.folder / TABLES)}")


def corpora(arguments: BenchmarkCorporaArguments) -> ProtocolTable:
    """The 32 corpora of EmoBox: what each holds, under which licence, and where to get it."""
    del arguments
    return corpora_table()


def show_corpora(table: ProtocolTable) -> None:
    """The table on stderr."""
    console.console.print(_terminal(table, rows=len(table.rows)))
    for note in table.notes:
        console.say(console.name(note))


def _part(entry: AnyEntry, context: Context, *, force: bool) -> Part:
    """One protocol, or why it was left out; taken as it is where a former run has made it of the same."""
    key = key_of(entry)
    started = time.monotonic()
    try:
        prepared = RUNNERS[entry.protocol](entry, context)
    except EmonetError as error:
        return _left_out(entry, error)
    inputs = digest([__version__, entry.model_dump(mode="json"), context.settings, prepared.identity])
    folder = context.parts / key
    part = None if force else read_part(folder, inputs)
    if part is not None:
        console.say(f"[bold]{console.name(key)}[/]: up to date")
        return part
    draft, before = Draft(folder), context.unanswered
    try:
        prepared.run(draft)
    except RequestError as error:  # a model that scores nothing that this is about, for example
        return _left_out(entry, error)
    if unanswered := context.unanswered - before:
        console.say(f"[yellow]note[/] {unanswered:,} answers of services are missing: the same command asks again")
    part = Part(
        key=key,
        inputs="" if unanswered else inputs,
        tables=tuple(draft.tables),
        pictures=tuple(draft.pictures),
        seconds=round(time.monotonic() - started, 1),
    )
    write_part(folder, part)
    console.say(f"[bold]{console.name(key)}[/]: done in {console.duration(part.seconds)}")
    return part


def _left_out(entry: AnyEntry, error: EmonetError) -> Part:
    """What stands in the place of an optional protocol; of any other one, the error is that of the run."""
    if not entry.optional:
        raise error
    key, reason = key_of(entry), "; ".join(line.strip() for line in str(error).splitlines())
    console.say(f"[yellow]left out[/] {console.name(key)}: {console.name(reason)}")
    return Part(key=key, inputs="", skipped=reason)


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


def _terminal(table: ProtocolTable, rows: int = _ROWS) -> Table:
    """The first rows of a table, as the terminal shows them; columns of sentences are the page's."""
    drawn = Table(title=console.name(table.title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    columns = [
        column
        for number, column in enumerate(table.columns)
        if number == 0 or all(len(table.text(row, column)) <= _WIDEST for row in table.rows)
    ]
    for number, column in enumerate(columns):
        drawn.add_column(console.name(column.label), justify="left" if number == 0 else "right")
    styles = {"measured": "", "published": "dim", "optimistic": "dim italic"}
    for row in table.rows[:rows]:
        cells = (console.name(table.text(row, column)) for column in columns)
        drawn.add_row(*cells, style=styles[row.kind])
    if len(table.rows) > rows:
        drawn.add_row(f"... {len(table.rows) - rows} more rows on the page", style="dim")
    return drawn


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
