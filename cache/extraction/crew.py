"""The crew of a cluster's extraction: its workers, whom shards are handed to and taken back from if they are lost.

Ray places workers, starts nodes for those that wait, and tells which have died. One worker more than there is room for
is always asked for while shards wait: it is placed when a node joins, or when a dead one's processors are free again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np

from cache.extraction.losses import cannot_start, die_at_a_shard, die_on_a_node, no_node_can, none_placed, reason_of
from cache.extraction.report import NodeShare
from cache.extraction.throughput import Speed
from cache.extraction.worker import Ready, Receipt, Refusal, ShardWorker, different_clock
from cache.store import ExtractionRecord
from emonet.errors import EmonetError
from emonet.runtime import Cluster, unpacked

DEPTH = 3  # shards that a worker has at a time: one is encoded, one decoded, and one's receipt is on its way
LOOK = 5.0  # seconds between looks at what workers have done of the shards that they are at
GRACE = 20.0  # seconds in which workers that were told to end may write the shards that they have complete
SETTLE = 10.0  # seconds without a worker that can do anything, after which it is told why
START_SECONDS = 600.0  # for the first worker to be placed: as long as a cloud takes to start a machine
DEATHS = 3  # of a node's workers without a shard in between: then it is left out
SUSPECT = 4  # workers that died at the same shard
_Kind = Literal["placed", "begin", "join", "fill", "clips"]


@dataclass(eq=False)
class _Worker:
    """One of them, as the driver sees it."""

    actor: Any
    node: str = ""  # id; unknown before it is placed
    asked: float = 0.0  # when it was told to begin, by our clock (seconds since 1970)
    joined: float | None = None  # monotonic (seconds)
    is_gone: bool = False  # dead, or left alone where it stands
    shards: list[int] = field(default_factory=list)  # that it has, the oldest first
    clips: int = 0  # of shards that it has finished (count)
    encoded: int = 0  # so far, by its own word (count)
    has_begun: bool = False  # its encoder is loaded
    decoders: int = 0
    speed: Speed = field(default_factory=Speed)


@final
class Crew:
    """The workers; a context manager that leaves none behind.

    Args:
        cluster: that they work on.
        options: of each: what Ray places it by.
        job: a `worker.Job`.
        say: takes a line for the person who watches.
    """

    def __init__(self, cluster: Cluster, options: dict[str, Any], job: object, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._ray = cluster.ray
        self._options = options
        self._make = self._ray.remote(ShardWorker).options(
            **options, max_restarts=0, max_concurrency=DEPTH + 3, scheduling_strategy="SPREAD"
        )
        self._job = self._ray.put(job)
        self._say = say
        self._all: list[_Worker] = []
        self._calls: dict[Any, tuple[_Worker, _Kind, int]] = {}
        self._waiting: deque[int] = deque()
        self._deaths: Counter[str] = Counter()  # of a node's workers since it finished a shard
        self._suspects: Counter[int] = Counter()
        self._names: dict[str, str] = {}  # of nodes, by id
        self._died_of: dict[str, str] = {}  # id of a node -> why it lost its last worker
        self._reasons: list[EmonetError] = []  # why nodes were left out
        self._record: ExtractionRecord | None = None  # what all of them must make
        self._store: ExtractionRecord | None = None  # of the store, once it is there
        self._last = time.monotonic()  # when a worker last got on
        self._looked = 0.0
        self._has_told = False  # that it waits for a place
        self.lost: list[str] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):  # Ray may be gone
            ending = [worker.actor.end.remote() for worker in self._joined()]
            if ending:
                self._ray.wait(ending, num_returns=len(ending), timeout=GRACE)
        for worker in self._all:
            with suppress(Exception):
                self._ray.kill(worker.actor)

    def first(self, count: int) -> ExtractionRecord:
        """Ask for so many workers, and wait for one that has loaded its encoder: what it would make.

        Raises:
            EmonetError: if no worker can begin.
        """
        for _ in range(count):
            self._ask()
        while self._record is None:
            self._look()
        return self._record

    def silence(self, record: ExtractionRecord) -> np.ndarray:
        """What a worker's encoder makes of silence.

        Raises:
            EmonetError: if it cannot.
        """
        while True:
            worker = next((worker for worker in self._all if worker.has_begun and not worker.is_gone), None)
            if worker is None:
                self._look()
                continue
            try:
                mean: np.ndarray | Refusal = self._ray.get(worker.actor.silence.remote(record))
            except self._ray.exceptions.RayError as error:
                self._lose(worker, reason_of(error))
                continue
            if isinstance(mean, Refusal):
                raise unpacked(mean.error)
            return mean

    def fill(
        self, shards: Iterable[int], store: ExtractionRecord, done: Callable[[Receipt], None], show: Callable[[], None]
    ) -> None:
        """Have shards filled.

        Args:
            shards: to be filled.
            store: its record.
            done: called with the receipt of each.
            show: called now and then.

        Raises:
            EmonetError: if a worker refuses a shard, or none is left that could do one.
        """
        self._waiting.extend(shards)
        self._store = store
        for worker in self._all:
            if worker.has_begun and not worker.is_gone:
                self._call(worker, "join", worker.actor.join.remote(store))
        while self._waiting or any(worker.shards for worker in self._all):
            self._hand_out()
            self._look(done)
            show()

    @property
    def clips(self) -> int:
        """Encoded by workers that are there, of shards that are not finished (count)."""
        return sum(max(0, worker.encoded - worker.clips) for worker in self._joined())

    @property
    def speed(self) -> Speed:
        """Of all together."""
        return Speed.joined([worker.speed for worker in self._all if worker.speed.clips])

    @property
    def decoders(self) -> int:
        """Processes that decoded clips (count)."""
        return sum(worker.decoders for worker in self._all if worker.clips)

    def shares(self) -> dict[str, NodeShare]:
        """What each node has done, by its name."""
        nodes: dict[str, list[_Worker]] = {}
        for worker in self._all:
            if worker.clips:
                nodes.setdefault(worker.node, []).append(worker)
        found: dict[str, NodeShare] = {}
        for node, there in nodes.items():
            since = min(worker.joined or 0.0 for worker in there)
            clips = sum(worker.clips for worker in there)
            speed = round(clips / max(time.monotonic() - since, 1e-9), 3)
            found[self._names[node]] = NodeShare(workers=len(there), clips=clips, clips_per_second=speed)
        return found

    def _joined(self) -> list[_Worker]:
        return [worker for worker in self._all if worker.joined is not None and not worker.is_gone]

    def _somebody(self) -> bool:
        """Whether a worker has its place."""
        return any(worker.node and not worker.is_gone for worker in self._all)

    def _ask(self) -> None:
        """For one worker more; it may wait for a place."""
        worker = _Worker(self._make.remote())
        self._all.append(worker)
        self._call(worker, "placed", worker.actor.placed.remote())

    def _ask_for_spare(self) -> None:
        """So that one waits for a place while there is work, or there may be."""
        is_waiting = any(not worker.node and not worker.is_gone for worker in self._all)
        if not is_waiting and (self._waiting or self._store is None):
            self._ask()

    def _call(self, worker: _Worker, kind: _Kind, call: Any, shard: int = -1) -> None:
        self._calls[call] = worker, kind, shard

    def _hand_out(self) -> None:
        """The next shards; near the end no worker hoards what others could begin."""
        joined = self._joined()
        for depth in range(DEPTH):
            for worker in joined:
                if len(worker.shards) == depth and len(self._waiting) > depth * len(joined):
                    shard = self._waiting.popleft()
                    worker.shards.append(shard)
                    self._call(worker, "fill", worker.actor.fill.remote(shard), shard)
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            for worker in joined:
                if (worker, "clips", -1) not in self._calls.values():
                    self._call(worker, "clips", worker.actor.clips.remote())

    def _look(self, done: Callable[[Receipt], None] | None = None) -> None:
        """Wait a second for answers of any workers, and heed them."""
        if not self._calls:
            time.sleep(1.0)
        ready, _ = self._ray.wait(list(self._calls), timeout=1.0) if self._calls else ((), ())
        if ready:  # and whatever else is there: many workers answer faster than a turn for each would take
            ready, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for call in ready:
            if call not in self._calls:  # of a worker that an answer before this one has shown to be lost
                continue
            worker, kind, shard = self._calls.pop(call)
            try:
                answer = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                self._lose(worker, reason_of(error))
                continue
            if kind == "clips":
                worker.encoded = answer
                continue
            self._last = time.monotonic()
            if kind == "fill" and done is not None:
                self._finished(worker, shard, answer, done)
            else:
                self._gets_on(worker, kind, answer)
        self._require_somebody()

    def _gets_on(self, worker: _Worker, kind: _Kind, answer: Any) -> None:
        """On its way to its first shard."""
        if kind == "placed":
            self._placed(worker, answer)
        elif kind == "begin":
            self._begun(worker, answer)
        elif isinstance(answer, Refusal):
            self._leave_out(worker, unpacked(answer.error))
        else:
            worker.joined = time.monotonic()

    def _placed(self, worker: _Worker, node: str) -> None:
        worker.node = node
        if node not in self._names:
            self._names[node] = self._cluster.name(node)
        self._deaths[""] = 0
        if self._deaths[node] >= DEATHS:
            self._leave_out(worker, die_on_a_node(DEATHS, self._died_of.get(node)))
        else:
            worker.asked = time.time()
            self._call(worker, "begin", worker.actor.begin.remote(self._job))
        self._ask_for_spare()

    def _begun(self, worker: _Worker, answer: Ready | Refusal) -> None:
        if isinstance(answer, Refusal):
            self._leave_out(worker, unpacked(answer.error))
            return
        ahead = different_clock(answer.clocks, worker.asked, time.time())
        if ahead:
            how = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}"
            self._say(
                f"[yellow]the clock of {self._names[worker.node]} is {how} this one[/]: times of files and logs "
                "will not agree (states do); NTP keeps clocks together"
            )
        self._record = self._record or answer.record
        try:
            self._record.require(
                ExtractionRecord.model_validate({**dict(answer.record), "batch_size": self._record.batch_size}),
                where=self._names[worker.node],
                hint="the same processors or GPUs on every node, or --extraction.precision float32",
            )
        except EmonetError as error:
            self._leave_out(worker, error)
            return
        worker.has_begun, worker.decoders = True, answer.decoders
        if self._store is not None:
            self._call(worker, "join", worker.actor.join.remote(self._store))

    def _finished(
        self, worker: _Worker, shard: int, answer: Receipt | Refusal, done: Callable[[Receipt], None]
    ) -> None:
        if isinstance(answer, Refusal):
            raise unpacked(answer.error)
        worker.shards.remove(shard)
        worker.clips += len(answer.marker.seconds)
        worker.speed = answer.speed
        self._deaths[worker.node] = 0
        done(answer)

    def _leave_out(self, worker: _Worker, error: EmonetError) -> None:
        """Keep a worker in its place without work: so Ray places no other one on a node that cannot do it."""
        worker.is_gone = True
        name = self._names[worker.node]
        self._reasons.append(error)
        self.lost.append(f"{name} is left out: {error.what}")
        self._say(f"[yellow]{name} is left out:[/] {_escaped(error)}")

    def _lose(self, worker: _Worker, reason: str) -> None:
        """A worker has died: its shards go to others, and its place to another one."""
        if worker.is_gone:
            return
        worker.is_gone = True
        self._calls = {call: rest for call, rest in self._calls.items() if rest[0] is not worker}
        with suppress(Exception):
            self._ray.kill(worker.actor)
        self._deaths[worker.node] += 1
        if not worker.node:  # it never ran, and nothing is lost
            is_enough = self._deaths[""] >= DEATHS
            if is_enough and not self._somebody():
                raise cannot_start(reason)
            then = "those that are there go on" if is_enough else "another one is asked for"
            self._say(f"[yellow]a worker could not be started[/]: {_escaped(reason)}; {then}")
            if not is_enough:
                self._ask_for_spare()
            return
        self._last = time.monotonic()  # its place is free again: another one gets the time to take it
        name = self._names[worker.node]
        self.lost.append(f"{name}: {reason}")
        self._say(f"[yellow]lost a worker[/] on {_escaped(name)}: {_escaped(reason)}; its shards go to others")
        self._died_of[worker.node] = reason
        there = {one["NodeID"] for one in self._cluster.nodes}
        if worker.shards and worker.node in there:  # a node that vanishes is no shard's fault
            self._suspects[worker.shards[0]] += 1
            if self._suspects[worker.shards[0]] >= SUSPECT:
                raise die_at_a_shard(SUSPECT, worker.shards[0], reason)
        self._waiting.extendleft(reversed(worker.shards))
        worker.shards = []
        self._ask_for_spare()

    def _require_somebody(self) -> None:
        """That there is a worker, or one may come.

        Raises:
            EmonetError: if not.
        """
        alone = time.monotonic() - self._last
        if alone < SETTLE or self._somebody():
            return
        if self._reasons:
            raise no_node_can(self._reasons[0])
        needed = f"{self._options['num_cpus']} processors{' and a GPU' if self._options['num_gpus'] else ''}"
        if not self._has_told:
            self._has_told = True
            self._say(f"no node has room for a worker ({needed}; --processors-per-worker N); waiting for one")
        if alone > START_SECONDS:
            raise none_placed(START_SECONDS, needed, self._ray.available_resources())


def _escaped(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))
