"""The picture of a timeline: waveform, who speaks, and the curves of its strongest emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from emonet.evaluation import DPI, FAINT, GRID, INK, bare, labelled, save_figure
from emonet.numbers import clock
from emonet.timelines.timeline import ScoredSegment, Timeline
from emonet.timelines.views.shown import envelope_of, extent_of, strongest_targets, voices_of

# As on the page: Okabe and Ito's, told apart by the colour-blind, too; from the seventh on dashes differ.
CURVES = ("#0072b2", "#d55e00", "#009e73", "#b8578f", "#c98a00", "#4aa8e0")
DASHES = ("-", "--", ":")
MOST = len(CURVES) * len(DASHES)
LANES = 8  # that have room
GAP = 1.0  # seconds without a segment, from which on a curve breaks
BINS = 300  # segments; of more, curves are means of so many parts of the recording, with their lowest and highest
_QUIETEST = 0.1  # of full scale: what is quieter looks quiet
TICKS = 12  # on the axis of time, at most
STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
)  # between them, in seconds
_COLUMNS = 1500  # of the waveform
TOUCHING = 0.01  # seconds that segments may have in common without overlapping
SHADE = 0.15  # opacity of intervals
_BAND = "#5b6472"


def timeline_figure(timeline: Timeline, path: Path, *, emotions: Sequence[str] | None = None) -> None:
    """Draw waveform, bands of speech and speakers, and curves; what is flagged is grey.

    A curve runs at each segment's score, or from middle to middle where segments overlap.

    Args:
        timeline: what is drawn.
        path: where to, in the format of its suffix.
        emotions: targets by id or name, at most 18; None: the strongest.

    Raises:
        RequestError: if there is no such target.
    """
    spec = timeline.target_spec
    chosen = strongest_targets(timeline) if emotions is None else tuple(spec[name].id for name in emotions)[:MOST]
    extent = extent_of(timeline)
    rows = _lanes(timeline)
    heights = [0.9, 0.24 * max(1, len(rows)), 2.6]
    figure = Figure(figsize=(10, sum(heights) + 1.0), dpi=DPI, layout="constrained")
    wave, bands, axis = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _waveform(wave, timeline, extent)
    _bands(bands, rows)
    _curves(axis, timeline, chosen, extent)
    axis.set_xlim(0, extent)
    axis.xaxis.set_major_locator(
        MultipleLocator(next((step for step in STEPS if extent / step <= TICKS), extent / TICKS))
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds).removesuffix(".0")))
    wave.set_title(labelled(Path(timeline.audio).name, 90), loc="left", fontsize=9, color=INK)
    if chosen:
        figure.legend(loc="outside lower center", ncols=min(5, len(chosen)), fontsize=8, frameon=False, labelcolor=INK)
    save_figure(figure, path)


def _waveform(axis: Axes, timeline: Timeline, extent: float) -> None:
    parts = envelope_of(timeline, _COLUMNS)
    at = np.linspace(0, extent, len(parts) + 1)[:-1]
    axis.fill_between(at, parts[:, 0], parts[:, 1], color=FAINT, linewidth=0, step="post")
    loudest = max(_QUIETEST, float(np.abs(parts).max(initial=0)))
    axis.set_ylim(-loudest, loudest)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(bottom=False, labelbottom=False)


def _lanes(timeline: Timeline) -> list[tuple[str, list[tuple[float, float]], list[tuple[float, float]]]]:
    """Label, spans, and spans that are flagged (start and length, in seconds)."""
    voices = voices_of(timeline.segments)
    order = list(dict.fromkeys(voices))
    named = {voice: voice if len(order) <= LANES or at < LANES - 1 else "others" for at, voice in enumerate(order)}
    lanes: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {}
    for voice, one in zip(voices, timeline.segments, strict=True):
        spans = lanes.setdefault(named[voice], ([], []))
        spans[bool(one.flags)].append((one.segment.start, one.segment.seconds))
    found = [(label or "segments", *spans) for label, spans in lanes.items()]
    if timeline.speech is not None:
        found.insert(0, ("speech", [], [(one.start, one.seconds) for one in timeline.speech]))
    return found


def _bands(axis: Axes, rows: Sequence[tuple[str, list[tuple[float, float]], list[tuple[float, float]]]]) -> None:
    for height, (_, spans, faint) in enumerate(rows):
        for each, alpha in ((spans, 0.75), (faint, 0.3)):
            axis.broken_barh(each, (height - 0.3, 0.6), facecolor=_BAND, alpha=alpha, linewidth=0)
    axis.set_yticks(range(len(rows)), [labelled(label, 18) for label, _, _ in rows])
    axis.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    bare(axis)
    axis.spines[:].set_visible(False)
    axis.tick_params(left=False, bottom=False, labelbottom=False)


@dataclass(frozen=True)
class _Curve:
    """Values of one target, on the scale of the axis, and how it looks."""

    values: Float[np.ndarray, " segments"]
    spread: Float[np.ndarray, " segments"]
    colour: str
    dash: str


def _curves(axis: Axes, timeline: Timeline, chosen: Sequence[str], extent: float) -> None:
    spec = timeline.target_spec.subset(chosen)
    shares, highest = not spec.common, -np.inf  # of the scores: intervals may reach far beyond
    for at, name in enumerate(chosen):
        target = spec[name]
        low, width = (target.low, target.high - target.low) if shares else (0.0, 1.0)
        values = np.array([one.scores.get(name, np.nan) for one in timeline.segments], float)
        spread = np.array([one.uncertainties.get(name, 0.0) for one in timeline.segments], float)
        look = CURVES[at % len(CURVES)], DASHES[at // len(CURVES)]
        curve = _Curve((values - low) / width, spread / width, *look)
        highest = np.nanmax([highest, *curve.values])
        axis.plot([], [], curve.dash, color=curve.colour, label=labelled(target.name))
        if len(values) > BINS:
            _binned(axis, timeline.segments, curve, extent)
        else:
            _stepped(axis, timeline.segments, curve)
    if not timeline.segments:
        axis.text(0.5, 0.5, "nothing was scored", transform=axis.transAxes, ha="center", fontsize=9, color=INK)
    low, high = (0.0, 1.0) if shares or not len(spec) else spec.scale
    axis.set_ylim(low, max(low + (high - low) / 8, 1.05 * highest) if timeline.segments else high)
    axis.set_ylabel("share of its scale" if shares else "score", fontsize=8, color=INK)
    axis.grid(color=GRID)
    axis.set_axisbelow(True)
    bare(axis)


def _stepped(axis: Axes, segments: Sequence[ScoredSegment], curve: _Curve) -> None:
    """A line of each voice, at its segments' scores."""
    for run in _runs(segments, curve.values):
        spans = [segments[i].segment for i in run]
        if len(run) > 1 and all(one.end > other.start + TOUCHING for one, other in pairwise(spans)):
            at, rows = [(one.start + one.end) / 2 for one in spans], np.array(run)
        else:
            at, rows = [time for one in spans for time in (one.start, one.end)], np.repeat(run, 2)
        values, spread = curve.values[rows], curve.spread[rows]
        if segments[run[0]].flags:
            axis.plot(at, values, ":", color=FAINT, linewidth=1.2)
            continue
        axis.plot(at, values, curve.dash, color=curve.colour, linewidth=1.8)
        if spread.any():
            axis.fill_between(at, values - spread, values + spread, color=curve.colour, alpha=SHADE, linewidth=0)


def _runs(segments: Sequence[ScoredSegment], values: Float[np.ndarray, " segments"]) -> Iterator[list[int]]:
    """Positions of segments that one line joins: of one voice, flagged or not, without a gap, with a score."""
    open_runs: dict[str, list[int]] = {}
    for at, (voice, one) in enumerate(zip(voices_of(segments), segments, strict=True)):
        run = open_runs.get(voice, [])
        last = segments[run[-1]] if run else one
        joined = one.segment.start <= last.segment.end + GAP and bool(one.flags) == bool(last.flags)
        if run and (np.isnan(values[at]) or not joined):
            yield open_runs.pop(voice)
        if not np.isnan(values[at]):
            open_runs.setdefault(voice, []).append(at)
    yield from open_runs.values()


def _binned(axis: Axes, segments: Sequence[ScoredSegment], curve: _Curve, extent: float) -> None:
    """Mean, lowest and highest of the unflagged segments in each part of the recording."""
    middles = np.array([(one.segment.start + one.segment.end) / 2 for one in segments])
    kept = np.isfinite(curve.values) & ~np.array([bool(one.flags) for one in segments])
    bins, values = np.minimum((middles / extent * BINS).astype(int), BINS - 1)[kept], curve.values[kept]
    low, high = np.full(BINS, np.inf), np.full(BINS, -np.inf)
    np.minimum.at(low, bins, values)
    np.maximum.at(high, bins, values)
    counts = np.bincount(bins, minlength=BINS)
    mean = np.bincount(bins, values, minlength=BINS) / np.maximum(counts, 1)
    mean[counts == 0] = low[counts == 0] = high[counts == 0] = np.nan
    at = (np.arange(BINS) + 0.5) * extent / BINS
    axis.fill_between(at, low, high, color=curve.colour, alpha=SHADE, linewidth=0)
    axis.plot(at, mean, curve.dash, color=curve.colour, linewidth=1.5)
