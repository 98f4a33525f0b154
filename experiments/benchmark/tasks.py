"""Tasks of a benchmark: each protocol of the plan is prepared, what services cost is agreed to, then it is run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from emonet.clips import Clip
from emonet.errors import EmonetError, RequestError
from emonet.peers import Consent, Peer, agree_on_costs
from emonet.protocols import every_condition
from emonet.schema import digest
from emonet.version import __version__
from experiments.benchmark.context import Context, Prepared, Scoring
from experiments.benchmark.parts import Draft, Part, read_part, write_part
from experiments.benchmark.plan import AnyEntry, key_of
from experiments.benchmark.protocols import RUNNERS
from experiments.core import console


@dataclass(frozen=True)
class Task:
    """One protocol of the plan.

    Args:
        entry: of the plan.
        part: what came of it, where that is known: left out, or as a former run has made it of the same.
        prepared: what is left to be run.
        inputs: digest of everything that fixes the outcome.
    """

    entry: AnyEntry
    part: Part | None = None
    prepared: Prepared | None = None
    inputs: str = ""


def prepare(entry: AnyEntry, context: Context, *, force: bool) -> Task:
    """Find all that a protocol needs, and what a former run has made of the same; `force` does it again.

    Raises:
        EmonetError: if it is not optional and lacks something.
    """
    try:
        prepared = RUNNERS[entry.protocol](entry, context)
    except EmonetError as error:
        return Task(entry, _left_out(entry, error))
    inputs = digest([__version__, entry.model_dump(mode="json"), context.settings, prepared.identity])
    part = None if force else read_part(context.parts / key_of(entry), inputs)
    return Task(entry, part, prepared, inputs)


def settle_costs(tasks: Sequence[Task], context: Context, consent: Consent | None) -> None:
    """Before anything is sent: estimate what all tasks cost together, tell it, and ask once.

    Raises:
        RequestError: if it is more than may be spent, and nobody agrees.
    """
    paid = any(model.peer is not None and model.peer.may_cost for model in context.opened)
    if context.terms.replay_only or not paid:
        return
    asked: dict[str, tuple[Peer, list[Scoring]]] = {}
    by_model: defaultdict[str, list[Scoring]] = defaultdict(list)
    for task in tasks:
        for one in () if task.part is not None else _scorings(task):
            if one.model.peer is not None:
                by_model[one.model.label].append(one)
                asked[one.model.label] = (one.model.peer, by_model[one.model.label])
    agree_on_costs([(peer, _heard(some, context.plan.seed)) for peer, some in asked.values()], context.terms, consent)


def finish(task: Task, context: Context) -> Part:
    """Run a protocol, unless it is known what comes of it.

    Raises:
        EmonetError: if it fails.
    """
    key = key_of(task.entry)
    if task.part is not None or task.prepared is None:
        assert task.part is not None
        if task.part.skipped is None:
            console.say(f"[bold]{console.name(key)}[/]: up to date")
        return task.part
    folder, started = context.parts / key, time.monotonic()
    draft, before = Draft(folder), context.unanswered
    try:
        task.prepared.run(draft)
    except RequestError as error:  # a model that scores nothing that this is about, for example
        return _left_out(task.entry, error)
    if unanswered := context.unanswered - before:
        console.say(f"[yellow]note[/] {unanswered:,} answers of services are missing: the same command asks again")
    part = Part(
        key=key,
        inputs="" if unanswered else task.inputs,
        tables=tuple(draft.tables),
        pictures=tuple(draft.pictures),
        seconds=round(time.monotonic() - started, 1),
    )
    write_part(folder, part)
    console.say(f"[bold]{console.name(key)}[/]: done in {console.duration(part.seconds)}")
    return part


def _scorings(task: Task) -> Sequence[Scoring]:
    try:
        return task.prepared.scorings() if task.prepared is not None else ()
    except RequestError:
        if not task.entry.optional:
            raise
        return ()  # told, and left out, when its turn comes


def _heard(scorings: Sequence[Scoring], seed: int) -> Iterator[Clip]:
    return chain.from_iterable(every_condition(one.clips, one.perturbations, seed=seed) for one in scorings)


def _left_out(entry: AnyEntry, error: EmonetError) -> Part:
    """What stands in the place of an optional protocol; of any other one, the error is that of the run."""
    if not entry.optional:
        raise error
    key, reason = key_of(entry), "; ".join(" ".join(line.split()) for line in str(error).splitlines())
    console.say(f"[yellow]left out[/] {console.name(key)}: {console.name(error.what)}")
    return Part(key=key, inputs="", skipped=reason)
