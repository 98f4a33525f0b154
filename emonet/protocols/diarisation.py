"""Speech emotion diarisation: EDER, the share of a clip's time whose emotion is wrong, of any intervals.

The Emotion Diarisation Error Rate of SpeechBrain and ZED (arXiv 2306.12991) is missed emotion, false alarm and
confusion by the duration. It is generalised here: any number of events, whole names instead of first letters, and lists
that overlap. At each moment there is a set of emotions that are given, and one of those that are predicted:

* intervals of one emotion that touch or overlap are one; splitting an interval changes nothing;
* where a list says nothing there is neutral, or, on request, nothing; neutral beside another emotion is that emotion;
* of two overlapping emotions each is half of the time: with g given, p predicted and c in both, 1 - c / max(g, p) of
  the moment is wrong;
* time for which nothing is given is not judged, and does not count in the duration; time for which nothing is
  predicted is missed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError, raise_collected, shortened
from emonet.evaluation import ResampledSums, quotient, resampled_sums
from emonet.protocols.segment_metrics import COLLAR, ROUNDED, SegmentCounts, segment_counts
from emonet.protocols.tables import Column, ProtocolTable, Row
from emonet.targets import spelling

NEUTRAL = "neutral"
_SOURCE = "Speech emotion diarization (arXiv 2306.12991), EDER, generalised"


@dataclass(frozen=True)
class Interval:
    """An emotion from one time to another.

    Args:
        start: in seconds from the clip's beginning.
        end: in seconds.
        emotion: its name, however it is capitalised.
    """

    start: float
    end: float
    emotion: str


@dataclass(frozen=True)
class Eder:
    """What is wrong in a clip, in seconds.

    Args:
        seconds: that are judged.
        missed: an emotion is given, and neutral or nothing predicted.
        false_alarm: neutral is given, or fewer emotions than are predicted.
        confusion: another emotion is predicted.
    """

    seconds: float
    missed: float
    false_alarm: float
    confusion: float

    @property
    def wrong(self) -> float:
        """All errors together (seconds)."""
        return self.missed + self.false_alarm + self.confusion

    @property
    def rate(self) -> float | None:
        """EDER (0 to 1); None where nothing is judged."""
        return self.wrong / self.seconds if self.seconds else None


def diarisation_error(
    given: Sequence[Interval],
    predicted: Sequence[Interval],
    *,
    seconds: float,
    given_gaps: str | None = NEUTRAL,
    predicted_gaps: str | None = NEUTRAL,
    where: object = None,
) -> Eder:
    """EDER of one clip, with its three parts.

    Args:
        given: what is right, in any order; it ends with the clip.
        predicted: what is judged; what lies behind the clip's end is cut off.
        seconds: length of the clip.
        given_gaps: what is given where `given` says nothing; None: nothing, so that it is not judged.
        predicted_gaps: what is predicted where `predicted` says nothing; None: nothing, which is missed, as SpeechBrain
            has it.
        where: the clip, for a message.

    Raises:
        RequestError: if an interval is none (a time that is no number or below 0, an end that is not behind its start,
            an emotion without a name), or something is given behind the clip's end.
    """
    raise_collected("the intervals cannot be used", list(_wrong(given, predicted, seconds)), where=where)
    parts = [0.0, 0.0, 0.0, 0.0]
    edges = {0.0, seconds} | {min(time, seconds) for one in (*given, *predicted) for time in (one.start, one.end)}
    times = sorted(edges)
    for start, end in itertools.pairwise(times):
        right = _at(given, (start + end) / 2, given_gaps)
        told = _at(predicted, (start + end) / 2, predicted_gaps)
        if right:
            for part, share in enumerate((1.0, *_errors(right, told))):
                parts[part] += share * (end - start)
    return Eder(*parts)


def intervals_of_frames(labels: Sequence[str], *, window: float, stride: float) -> tuple[Interval, ...]:
    """Intervals of a model that names the emotion of one window after the other, as SpeechBrain makes them.

    Neighbours of one emotion are merged; where neighbours of different emotions overlap, the overlap is halved between
    them. Windows that do not touch leave a gap.

    Args:
        labels: emotion of each window.
        window: length of each (seconds).
        stride: from the start of one to that of the next (seconds).

    Raises:
        RequestError: if the window or the stride is not above 0.
    """
    if not (window > 0 and stride > 0):
        raise RequestError(
            "windows have no length", expected="a window and a stride above 0", found=f"{window}, {stride}"
        )
    runs: list[list[float | str]] = []
    for number, label in enumerate(labels):
        start = stride * number
        touches = bool(runs) and start <= float(runs[-1][1])
        if touches and spelling(str(runs[-1][2])) == spelling(label):
            runs[-1][1] = start + window
            continue
        if touches:
            runs[-1][1] = middle = (float(runs[-1][1]) + start) / 2
            runs.append([middle, start + window, label])
        else:
            runs.append([start, start + window, label])
    return tuple(Interval(float(start), float(end), str(label)) for start, end, label in runs)


def diarisation_table(
    given: Mapping[str, Sequence[Interval]],
    models: Mapping[str, Mapping[str, Sequence[Interval]]],
    *,
    seconds: Mapping[str, float],
    speakers: Mapping[str, str],
    config: EvaluationConfig,
    given_gaps: str | None = NEUTRAL,
    predicted_gaps: str | None = NEUTRAL,
    seed: int = 0,
) -> ProtocolTable:
    """EDER and segment metrics of models on the same clips, beside a model that says neutral throughout.

    Args:
        given: id of each clip -> its intervals.
        models: by name, the same of what each predicts.
        seconds: id of each clip -> its length.
        speakers: id of each clip -> who speaks.
        config: resamples and coverage of the intervals over speakers.
        given_gaps: as in `diarisation_error`.
        predicted_gaps: as in `diarisation_error`.
        seed: of the resamples.

    Raises:
        RequestError: if there are no clips, a model is about other clips, or intervals cannot be used.
    """
    clips = sorted(given)
    _require_same(clips, {"the lengths": seconds, "the speakers": speakers} | dict(models))
    silent = {clip: (Interval(0.0, seconds[clip], NEUTRAL),) for clip in clips}
    gaps = {"given_gaps": given_gaps, "predicted_gaps": predicted_gaps}
    rows = []
    for model, predicted in {"neutral throughout": silent, **models}.items():
        found = [
            diarisation_error(given[clip], predicted[clip], seconds=seconds[clip], where=f"{model}, {clip}", **gaps)
            for clip in clips
        ]
        counts = [
            segment_counts(
                _filled(given[clip], seconds[clip], given_gaps), _filled(predicted[clip], seconds[clip], predicted_gaps)
            )
            for clip in clips
        ]
        rows.append(_row(model, found, counts, [speakers[clip] for clip in clips], config, seed))
    gap = "are neutral" if given_gaps else "are not judged"
    return ProtocolTable(
        name="diarisation",
        compete=True,
        title="Emotion diarisation error rate",
        source=_SOURCE,
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(f"gaps in what is given {gap}; names are compared whole",),
    )


_COLUMNS = (
    Column(name="model", label="Model"),
    Column(
        name="eder", label="EDER", better="lower", about="wrong time by judged time, of all clips together (0 to 1)"
    ),
    Column(name="missed", label="Missed", better="lower", about="its part in which an emotion was missed"),
    Column(name="false_alarm", label="False alarm", better="lower", about="its part in which neutral was given"),
    Column(name="confusion", label="Confusion", better="lower", about="its part in which another emotion was given"),
    Column(
        name="segments_right",
        label="Segments right",
        better="higher",
        about="given segments whose emotion is predicted for the longest part of them (0 to 1)",
    ),
    Column(
        name="change_f1",
        label="Change F1",
        better="higher",
        about=f"F1 of changes of emotion, told within {COLLAR:g} s (0 to 1)",
    ),
    Column(name="per_clip", label="Mean of clips", better="lower", about="mean over the clips of each one's EDER"),
    Column(name="clips", label="Clips", about="with time that is judged (count)"),
    Column(name="seconds", label="Seconds", digits=1, about="judged"),
)


def _row(
    model: str,
    found: Sequence[Eder],
    segments: Sequence[SegmentCounts],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> Row:
    of_time = [
        (one.wrong, one.missed, one.false_alarm, one.confusion, one.seconds, one.rate or 0.0, one.rate is not None)
        for one in found
    ]
    of_segments = [(one.right, one.segments, 2 * one.matched, one.given + one.predicted) for one in segments]
    columns = np.hstack([np.array(of_time, np.float64), np.array(of_segments, np.float64)])
    sums: ResampledSums = resampled_sums(columns, speakers, config, seed)
    total = sums.sums
    figures = {
        name: sums.estimate(quotient(total[:, column], total[:, 4]))
        for column, name in enumerate(("eder", "missed", "false_alarm", "confusion"))
    }
    figures |= {"segments_right": sums.ratio(7, 8), "change_f1": sums.ratio(9, 10), "per_clip": sums.ratio(5, 6)}
    return Row(cells={"model": model, **figures, "clips": int(total[0, 6]), "seconds": float(total[0, 4])})


def _filled(intervals: Sequence[Interval], seconds: float, gap: str | None) -> list[Interval]:
    """What a list says up to the clip's end, with what its gaps stand for written out."""
    filled, reached = [replace(one, end=min(one.end, seconds)) for one in intervals if one.start < seconds], 0.0
    for start, end in [*sorted((one.start, one.end) for one in filled), (seconds, seconds)]:
        if gap is not None and start > reached + ROUNDED:
            filled.append(Interval(reached, start, gap))
        reached = max(reached, end)
    return filled


def _at(intervals: Sequence[Interval], time: float, gap: str | None) -> frozenset[str]:
    """Emotions at a time, in the spelling that is compared."""
    found = {spelling(one.emotion) for one in intervals if one.start <= time < one.end}
    if not found and gap is not None:
        found = {spelling(gap)}
    return frozenset(found - {NEUTRAL} or found)


def _errors(right: frozenset[str], told: frozenset[str]) -> tuple[float, float, float]:
    """Shares of a moment that are missed, false alarm and confusion."""
    lacking, more = right - told, told - right
    most = max(len(right), len(told))
    missed = max(0, len(lacking) - len(more)) + (NEUTRAL in more)
    alarm = max(0, len(more) - len(lacking)) + (NEUTRAL in lacking and bool(more))
    return missed / most, alarm / most, (max(len(lacking), len(more)) - missed - alarm) / most


def _wrong(given: Sequence[Interval], predicted: Sequence[Interval], seconds: float) -> Iterator[str]:
    if not (math.isfinite(seconds) and seconds > 0):
        yield f"the clip is {seconds:g} s long"
    for kind, intervals in (("given", given), ("predicted", predicted)):
        for one in intervals:
            told = f"{kind} {one.emotion!r} from {one.start:g} to {one.end:g} s"
            if not (math.isfinite(one.start) and math.isfinite(one.end) and 0 <= one.start < one.end):
                yield f"{told}: times are numbers from 0, the end behind the start"
            elif not spelling(one.emotion):
                yield f"{told}: the emotion has no name"
            elif kind == "given" and one.end > seconds + ROUNDED:
                yield f"{told}: the clip ends at {seconds:g} s"


def _require_same(clips: Sequence[str], others: Mapping[str, Mapping[str, object]]) -> None:
    if not clips:
        raise RequestError("there are no clips whose emotions are given")
    problems = []
    for name, other in others.items():
        lacking, more = sorted(set(clips) - set(other)), sorted(set(other) - set(clips))
        problems += [f"{name}: nothing of {shortened(lacking, 3)}"] * bool(lacking)
        problems += [f"{name}: more than is given: {shortened(more, 3)}"] * bool(more)
    raise_collected("the intervals are of other clips", problems)
