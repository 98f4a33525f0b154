"""The verb `listen`: scores of live sound, hop by hop, with a view in the terminal, JSON lines or a table."""

from __future__ import annotations

import signal
import statistics
from collections import defaultdict, deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np

from emonet.numbers import shown
from emonet.schema import Schema
from experiments.core import console
from experiments.listen.outputs import HopTable, check_table, write_line
from experiments.listen.sources import Sound, Source
from experiments.listen.view import View, view_of

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline, EmotionStream, StreamScore
    from emonet.targets import TargetSpec
    from experiments.arguments import ListenArguments

_KEPT = 10_000  # latencies that the summary is made of, the last ones


class ListenResult(Schema):
    """What was heard, in short."""

    source: str
    """Where the sound came from."""
    seconds: float
    """How much of it was heard (seconds)."""
    hops: int
    """That were scored (count)."""
    skipped: int
    """Hops that were not scored, because sound came faster than it is scored (count)."""
    refused: int
    """Hops that could not be used (count)."""
    unfamiliar: int
    """Scored hops that are farther from what the model was trained on than 99 % of its validation clips (count)."""
    late_p50: float | None
    """From the last sample of a hop to its scores: the median (seconds)."""
    late_p95: float | None
    """95 % of hops were not later (seconds)."""
    means: dict[str, float]
    """Target id -> mean score, strongest first."""
    names: dict[str, str]
    """Target id -> how it is shown."""
    piped: bool
    """From standard input."""
    lost: int
    """Chunks of the microphone that nobody took in time (count)."""
    unwritten: str | None
    """The CSV file that could not be written, and why."""
    top: int
    """Emotions that the summary names (count)."""

    @property
    def exit_code(self) -> int:
        """1 if the CSV file could not be written, else 0."""
        return int(self.unwritten is not None)


def run(arguments: ListenArguments) -> ListenResult:
    """Listen until the sound ends, or Ctrl-C.

    Raises:
        RequestError: if there is no such file, microphone or model, the sound is of no known format, or the table
            cannot be written.
        AudioError: if the file cannot be used.
    """
    from experiments.predict import open_pipeline

    source = Source(arguments)
    if arguments.csv is not None:
        check_table(arguments.csv)
    pipeline = open_pipeline(arguments)
    table = None if arguments.csv is None else HopTable(arguments.csv, pipeline.targets)
    session = _Session(arguments, pipeline, source, table)
    try:
        session.listen()
    except KeyboardInterrupt as stopped:
        if getattr(stopped, "number", signal.SIGINT) != signal.SIGINT:
            raise
    finally:
        if table is not None:
            table.close()
    return session.result()


@dataclass
class _Heard:
    """What has been heard so far, in bounded memory."""

    seconds: float = 0.0
    hops: int = 0
    refused: int = 0
    unfamiliar: int = 0
    late: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, score: StreamScore) -> None:
        self.seconds = score.end
        if score.error is not None:
            self.refused += 1
            return
        self.hops += 1
        self.unfamiliar += score.unfamiliarity is not None and score.unfamiliarity > 1
        self.late.append(score.late_s)
        for target, value in score.scores.items():
            self.sums[target] += value


@final
class _Session:
    def __init__(
        self, arguments: ListenArguments, pipeline: EmotionPipeline, source: Source, table: HopTable | None
    ) -> None:
        self._arguments, self._pipeline, self._source, self._table = arguments, pipeline, source, table
        self._spec: TargetSpec = pipeline.target_spec
        self._heard = _Heard()
        self._skipped = self._lost = 0

    def listen(self) -> None:
        """Until the sound ends."""
        asked = self._arguments
        sound = self._source.start()
        stream = self._pipeline.open_stream(sound.rate, hop=asked.hop, window=asked.window, lossless=asked.fast)
        view = view_of(
            self._spec, top=asked.top, hop=asked.hop, quiet=asked.json_output, title=console.name(self._source.name)
        )
        with ExitStack() as open_:
            open_.enter_context(closing(sound.chunks))
            open_.enter_context(view)
            open_.enter_context(stream)
            open_.callback(self._count, stream, sound)
            for chunk in sound.chunks:
                self._tell(stream.feed(chunk), view)
                if len(chunk):
                    view.level(_level(chunk))
            self._tell(stream.close(), view)

    def _count(self, stream: EmotionStream, sound: Sound) -> None:
        self._skipped, self._lost = stream.skipped, sound.lost[0]

    def result(self) -> ListenResult:
        """What has been heard."""
        from emonet.inference import strongest_first

        heard = self._heard
        means = {target: total / heard.hops for target, total in heard.sums.items()}
        late = sorted(heard.late)
        return ListenResult(
            source=self._source.name,
            seconds=round(heard.seconds, 3),
            hops=heard.hops,
            skipped=self._skipped,
            refused=heard.refused,
            unfamiliar=heard.unfamiliar,
            late_p50=statistics.median(late) if late else None,
            late_p95=float(np.percentile(late, 95)) if late else None,
            means=strongest_first(means, self._spec) if means else {},
            names={name: self._spec[name].name for name in self._spec.ranked},
            piped=self._source.piped,
            lost=self._lost,
            unwritten=None if self._table is None else self._table.unwritten,
            top=self._arguments.top,
        )

    def _tell(self, scores: list[StreamScore], view: View) -> None:
        from emonet.inference import strongest_first

        for score in scores:
            self._heard.add(score)
            strongest = strongest_first(score.scores, self._spec) if score.scores else {}
            view.score(score, strongest)
            if self._table is not None:
                self._table.add(score)
            if self._arguments.json_output:
                write_line(score, strongest)


def show(result: ListenResult) -> None:
    """The summary on stderr."""
    emotions = [name for name in result.means if name in result.names][: result.top]
    means = ", ".join(f"{console.name(result.names[name])} {shown(result.means[name], 2)}" for name in emotions)
    late = "" if result.late_p95 is None or result.late_p50 is None else (
        f"; scores {1000 * result.late_p50:.0f} ms late (median), {1000 * result.late_p95:.0f} ms (95 %)"
    )  # fmt: skip
    console.say(
        f"heard {console.duration(result.seconds)} of {console.name(result.source)}, "
        f"{console.counted(result.hops, 'hop')} scored{late}"
    )
    if means:
        console.say(f"on average: {means}")
    if result.refused:
        console.say(f"{console.counted(result.refused, 'hop')} could not be used")
    if result.unfamiliar:
        told = console.counted(result.unfamiliar, "hop")
        console.say(f"{told} unlike what the model was trained on (farther than 99 % of its validation clips)")
    if result.skipped:
        hint = " (--fast scores each one)" if result.piped else ""
        console.say(f"{console.counted(result.skipped, 'hop')} skipped: sound came faster than it is scored{hint}")
    if result.lost:
        console.say(f"{console.counted(result.lost, 'chunk')} of the microphone lost: this machine was busy")
    if result.unwritten is not None:
        console.say(f"[bold red]the table could not be written[/] {console.name(result.unwritten)}")


def _level(chunk: np.ndarray) -> float:
    """The loudest sample in dB of full scale."""
    full = 1.0 if chunk.dtype.kind == "f" else -float(np.iinfo(chunk.dtype).min)
    loudest = float(np.abs(np.nan_to_num(chunk.astype(np.float32), posinf=0.0, neginf=0.0)).max()) / full
    return 20 * float(np.log10(max(loudest, 1e-6)))
