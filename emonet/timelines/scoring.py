"""Scoring a recording of any length: it streams by once, in bounded memory, and what is scored is journalled."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emonet.audio import AudioInfo, Decoded, Excerpt, shared_decoders, stream_blocks
from emonet.errors import AudioError, RequestError
from emonet.runtime import Progress, ignore
from emonet.segments import Segment
from emonet.timelines.assembling import assembled
from emonet.timelines.batches import BATCH, BatchScorer, Recent, WriteCaptions
from emonet.timelines.cutting import LEAST, Cutter, GivenCutter, Heard, SlidingCutter, SpeechCutter
from emonet.timelines.envelope import Envelope
from emonet.timelines.journal import Entry, Journal
from emonet.timelines.options import TimelineOptions
from emonet.timelines.speech import Span, SpeechModel, SpeechSpans
from emonet.timelines.timeline import ScoredSegment, Timeline, channel_name
from emonet.timelines.voices import VoiceModel
from emonet.windows import SAMPLE_RATE, Window

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline

_MARGIN = 0.03  # seconds around what the model takes for speech that are speech, too, as silero has it
SLIDING = 3.0  # seconds of a sliding window
_LATE = 0.05  # seconds that a segment may end behind the recording: times in tables are rounded
Tell = Callable[[tuple[ScoredSegment, ...]], None]


def timeline_of(
    pipeline: EmotionPipeline,
    audio: Path,
    options: TimelineOptions | None = None,
    *,
    segments: Sequence[Segment] | None = None,
    model: str = "",
    captions: WriteCaptions | None = None,
    journal: Journal | None = None,
    batch_size: int = BATCH,
    progress: Progress = ignore,
    tell: Tell = ignore,
) -> Timeline:
    """Score a recording of any length.

    Args:
        pipeline: the model.
        audio: the recording.
        options: how it is cut.
        segments: which somebody has marked, in place of those that are found; those with a channel are heard there.
        model: where the scores come from, for the timeline.
        captions: writes captions of sounds, if they are wanted.
        journal: of this recording, model and options: what is in it is not scored again.
        batch_size: segments per pass through the encoder (count); the results are the same.
        progress: called with the seconds of audio that are done, of all channels together.
        tell: called with segments as soon as they are scored, before flags of speech are known.

    Raises:
        AudioError: if nothing of the recording can be used.
        RequestError: if no segment lies in it.
        EmonetError: if the disk is full.
    """
    options = _fitted(options or TimelineOptions(), pipeline.encoder.window)

    def made(entries: Sequence[Entry], rest: Mapping[str, Any]) -> Timeline:
        return assembled(pipeline, entries, rest, audio=audio, model=model, options=options)

    if journal is not None and journal.entries and "rest" in journal.entries[-1]:
        *entries, rest = journal.entries
        return made(entries, rest["rest"])
    info, notices = _probed(audio)
    scorer = BatchScorer(
        pipeline,
        journal,
        batch_size=batch_size,
        captions=captions,
        embed_voice=VoiceModel().embed if options.speakers == "cluster" else None,
        tell=lambda entry: tell(made([entry], {"seconds": info.seconds}).segments),
    )
    passes = _passes(options, segments, info.channels, audio)
    watch = _Watch(progress, info.seconds * len(passes))
    heard = [
        _listen(audio, channel, _cutter(pipeline, options, given, channel), scorer, watch, options)
        for channel, given in passes.items()
    ]
    rest = _rest(heard, notices, segments or (), audio)
    if journal is not None and "error" not in rest:
        journal.append({"rest": rest})
    watch.finish()
    return made(scorer.entries, rest)


@dataclass(frozen=True)
class _Listened:
    samples: int
    speech: tuple[tuple[int, int, str, int | None], ...]
    envelope: tuple[tuple[float, float], ...]
    notices: tuple[str, ...]
    broken: str | None


def _rest(
    heard: Sequence[_Listened], notices: Sequence[str], segments: Sequence[Segment], audio: Path
) -> dict[str, Any]:
    """What a timeline has beside its segments; `error` where the recording breaks off."""
    seconds = max(one.samples for one in heard) / SAMPLE_RATE
    broken = next((one.broken for one in heard if one.broken), None)
    outside = _outside(segments, seconds, audio) if broken is None else []  # where its end is, nobody knows
    return {
        "seconds": seconds,
        "speech": [place for one in heard for place in one.speech],
        "notices": [*dict.fromkeys([*notices, *(text for one in heard for text in one.notices)]), *outside],
        "envelope": _together([one.envelope for one in heard]),
    } | ({} if broken is None else {"error": broken})


def _listen(
    audio: Path,
    channel: int | None,
    cutter: Cutter,
    scorer: BatchScorer,
    watch: _Watch,
    options: TimelineOptions,
) -> _Listened:
    """Let the recording, or one channel of it, stream by once."""
    model, spans, recent, envelope = SpeechModel(), SpeechSpans(options), Recent(), Envelope()
    spoken = SpeechSpans(options.model_validate({**dict(options), "padding": _MARGIN}))
    probabilities, speech, notices = array("f"), list[Span](), list[str]()
    broken: str | None = None

    def hear(found: np.ndarray, *, ended: bool) -> None:
        probabilities.extend(found.tolist())
        closed = list(spans.feed(found))
        closed += spans.finish(recent.end) if ended else ()
        speech.extend(spoken.feed(found))
        speech.extend(spoken.finish(recent.end) if ended else ())
        for piece in cutter.feed(Heard(recent.end, probabilities, closed, spans, ended)):
            scorer.add(piece, channel, recent.take(piece.span))

    blocks = stream_blocks(audio, channel=channel)
    while True:
        try:
            block = next(blocks, None)
        except AudioError as error:
            if not recent.end:
                raise
            broken, block = error.reason, None
        if block is None:
            break
        notices += (notice.text for notice in block.notices)
        recent.add(block.samples, cutter.needed_from)
        envelope.feed(block.samples)
        hear(model.feed(block.samples), ended=False)
        watch.add(len(block.samples))
    hear(model.finish(), ended=True)
    scorer.flush()
    speaker = "" if channel is None else channel_name(channel)
    found = tuple((span.start, span.end, speaker, channel) for span in speech)
    return _Listened(recent.end, found, envelope.pairs(), tuple(notices), broken)


def _probed(audio: Path) -> tuple[AudioInfo, list[str]]:
    """What the recording is, and what its beginning tells of its sound."""
    decoders = shared_decoders()
    info = next(decoders.probe([Excerpt(audio)]))
    if isinstance(info, AudioError):
        raise info
    begun = next(decoders.decode([Excerpt(audio)]))
    known = begun.notices if isinstance(begun, Decoded) else ()  # what else is wrong shows when it streams by
    return info, [notice.text for notice in known if notice.kind in ("band", "clipped")]


def _passes(
    options: TimelineOptions, segments: Sequence[Segment] | None, channels: int, audio: Path
) -> dict[int | None, Sequence[Segment] | None]:
    """Channel (None: all together) -> the segments that are given there."""
    if segments is None:
        return dict.fromkeys(range(channels) if options.channels == "each" and channels > 1 else [None])
    wanted = {one.channel for one in segments}
    if missing := sorted(one for one in wanted if one is not None and one >= channels):
        raise RequestError(
            "segments are of channels that the recording does not have",
            where=audio,
            expected=f"channels from 0 to {channels - 1}",
            found=", ".join(map(str, missing)),
        )
    usable = [one for one in segments if one.seconds >= LEAST]
    return {channel: [one for one in usable if one.channel == channel] for channel in _in_order(wanted)}


def _in_order(channels: set[int | None]) -> list[int | None]:
    return sorted(channels, key=lambda one: -1 if one is None else one) or [None]


def _fitted(options: TimelineOptions, window: Window) -> TimelineOptions:
    """No segment is longer than what the model hears, and most of it is speech."""
    longest = min(options.longest, window.seconds)
    padding = min(options.padding, longest / 10)
    shortest = min(options.shortest, longest)
    return options.model_validate({**dict(options), "longest": longest, "padding": padding, "shortest": shortest})


def _cutter(
    pipeline: EmotionPipeline, options: TimelineOptions, given: Sequence[Segment] | None, channel: int | None
) -> Cutter:
    window, longest = pipeline.encoder.window, round(options.longest * SAMPLE_RATE)
    speaker = "" if channel is None else channel_name(channel)
    if given is not None:
        return GivenCutter(given, options, longest)
    if options.mode == "speech":
        return SpeechCutter(options, longest, speaker)
    wanted = min(window.seconds, SLIDING) if options.window is None else options.window
    if wanted > window.seconds:
        raise RequestError(
            "sliding windows are longer than what the model hears",
            expected=f"at most {window.seconds:g} s",
            found=f"{wanted:g} s",
        )
    return SlidingCutter(round(wanted * SAMPLE_RATE), round(options.hop * SAMPLE_RATE), speaker)


def _outside(segments: Sequence[Segment], seconds: float, audio: Path) -> list[str]:
    """What is said about segments that do not lie in the recording, or are too short."""
    last = seconds - LEAST  # the latest place where one may begin
    behind = [one for one in segments if one.start >= last]
    if behind and len(behind) == len(segments):
        raise RequestError(
            "no segment lies in the recording: they may be of another one",
            where=audio,
            expected=f"starts before {seconds:.2f} s",
            found=f"{len(behind)} segments, the first from {behind[0].start:.2f} s",
        )
    cut = [one for one in segments if one.start < last and one.end > seconds + _LATE]
    short = [one for one in segments if one.seconds < LEAST]
    told = {
        f"left out: they begin behind the recording's end ({seconds:.2f} s)": behind,
        f"cut at the recording's end ({seconds:.2f} s)": cut,
        f"left out: they are shorter than {LEAST:g} s": short,
    }
    return [f"{len(found)} of {len(segments)} segments {why}" for why, found in told.items() if found]


def _together(envelopes: Sequence[Sequence[tuple[float, float]]]) -> list[list[float]]:
    """The widest of several channels' envelopes; these have equal parts."""
    return [[min(low for low, _ in parts), max(high for _, high in parts)] for parts in zip(*envelopes, strict=False)]


class _Watch:
    """Tells progress in seconds of audio."""

    def __init__(self, progress: Progress, seconds: float) -> None:
        self._progress, self._total, self._done = progress, seconds, 0.0
        progress(0, self._of(0))

    def add(self, samples: int) -> None:
        self._done += samples / SAMPLE_RATE
        done = round(self._done)
        self._progress(done, self._of(done))

    def finish(self) -> None:
        self._progress(round(self._done), round(self._done))

    def _of(self, done: int) -> int:
        return max(done, done if math.isnan(self._total) else round(self._total))
