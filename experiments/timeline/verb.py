"""The verb `timeline`: scores of the segments of recordings, written as tables, pages and subtitles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from rich.table import Table

from emonet.audio import shared_decoders
from emonet.errors import AudioError, RequestError, shortened
from emonet.names import as_text
from emonet.numbers import clock
from emonet.runtime import durable
from emonet.schema import Schema
from experiments.core import Experiment, console, resolve_source
from experiments.predict import find_audio, open_pipeline, owners_of
from experiments.timeline.names import output_names
from experiments.timeline.summary import Felt, felt

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline
    from emonet.segments import Segment
    from emonet.timelines import Timeline
    from experiments.arguments import TimelineArguments

_HIDDEN = ".emonet"  # below the output: journals and locks


class FileTimeline(Schema):
    """What was made of one recording."""

    audio: str
    """Its path."""
    seconds: float = 0.0
    """Its length (seconds)."""
    speech: float = 0.0
    """How long somebody speaks (seconds), of all channels together."""
    segments: int = 0
    """That were scored (count)."""
    speakers: int = 0
    """Who have a name (count): channels, those of given segments, or those that were told apart."""
    flagged: dict[str, int] = Field(default_factory=dict)
    """Flag -> segments that have it (count)."""
    strongest: tuple[Felt, ...] = ()
    """Emotions by the time for which they are the strongest."""
    notices: tuple[str, ...] = ()
    """What should be known of its sound."""
    files: tuple[str, ...] = ()
    """That were written."""
    error: str | None = None
    """Why it could not be used, or not to its end."""


class TimelineResult(Schema):
    """The timelines of all recordings."""

    model: str
    """Where the model came from."""
    timelines: tuple[FileTimeline, ...]
    """One for each recording, in order."""
    passed_over: dict[str, int] = Field(default_factory=dict)
    """Suffix -> files of the named folders that are no audio (count), most frequent first."""
    top: int = Field(5, exclude=True)
    """How many emotions are shown (count)."""
    told_apart: bool = Field(False, exclude=True)
    """Whether speakers were told apart by their voices, without being told how many there are."""

    @property
    def exit_code(self) -> int:
        """1 if a recording could not be used, else 0."""
        return int(any(one.error is not None for one in self.timelines))


def run(arguments: TimelineArguments) -> TimelineResult:
    """Make timelines; a recording that cannot be used is reported, and the rest is done.

    Raises:
        RequestError: if there is no file or no model, the segments are of no recording, or the folder cannot be
            written; before anything is loaded. Or if the request fits none of the recordings.
        EmonetError: if the disk is full, or another process is at work on the same timeline.
    """
    found = find_audio(arguments.files)
    names = output_names(found.files)
    segments = _segments(arguments, list(names))
    with durable.explained(arguments.out, what="timelines", kept="nothing was written"):
        (arguments.out / _HIDDEN).mkdir(parents=True, exist_ok=True)
    shared_decoders().start()  # they import while the model is loaded
    pipeline = open_pipeline(arguments)
    captions = _captions(arguments, pipeline)
    model = as_text(arguments.model if arguments.experts is None else arguments.experts)
    made, refused = [], list[RequestError]()
    for path, name in names.items():
        try:
            timeline, files = _timeline(arguments, pipeline, path, name, model, segments.get(path), captions)
        except AudioError as error:
            made.append(FileTimeline(audio=as_text(path), error=error.reason))
        except RequestError as error:  # segments of another recording, for example
            if len(refused) + 1 == len(names):
                raise
            refused.append(error)
            made.append(FileTimeline(audio=as_text(path), error=error.what))
        else:
            made.append(_of(timeline, files))
    made += [FileTimeline(audio=as_text(path), error=why) for path, why in found.closed]
    unknown = arguments.options.speakers == "cluster" and arguments.options.voices is None
    return TimelineResult(
        model=model, timelines=tuple(made), passed_over=found.passed_over, top=arguments.top, told_apart=unknown
    )


def _timeline(
    arguments: TimelineArguments,
    pipeline: EmotionPipeline,
    path: Path,
    name: str,
    model: str,
    segments: Sequence[Segment] | None,
    captions: _Captions,
) -> tuple[Timeline, tuple[Path, ...]]:
    from emonet.timelines import journal_of, suffix_of, timeline_key, timeline_of, write_timeline

    key = timeline_key(pipeline, path, arguments.options, segments, captions.weights)
    with journal_of(arguments.out / _HIDDEN / f"{name}.jsonl", key) as journal:
        for one in arguments.formats:
            durable.remove_partials_of(arguments.out / f"{name}.{suffix_of(one)}")
        if journal.entries:
            done = "rest" in journal.entries[-1]
            what = "was scored before; its files are written anew" if done else "goes on where it stopped"
            console.say(f"{console.name(path)}: {what}")
        with console.progress(as_text(path.name), "seconds of sound") as progress:
            timeline = timeline_of(
                pipeline,
                path,
                arguments.options,
                segments=segments,
                model=model,
                captions=captions.write,
                journal=journal,
                batch_size=arguments.batch_size,
                progress=progress,
            )
        return timeline, write_timeline(timeline, arguments.out, name, arguments.formats, path)


@dataclass(frozen=True)
class _Captions:
    """What writes captions, and what tells its weights from others; nothing where none are wanted."""

    write: Callable[..., list[str]] | None = None
    weights: str = ""


def _captions(arguments: TimelineArguments, pipeline: EmotionPipeline) -> _Captions:
    if arguments.captioner is None:
        return _Captions()
    from emonet.captioner import caption_writer
    from emonet.encoders import weights_identity

    source = resolve_source(arguments.captioner, Experiment(runs=arguments.runs))
    return _Captions(caption_writer(source, pipeline.encoder.device), weights_identity(source))


def _segments(arguments: TimelineArguments, files: Sequence[Path]) -> Mapping[Path, Sequence[Segment]]:
    """The given segments of each recording; nothing where none are given."""
    if arguments.segments is None:
        return {}
    if arguments.options.mode == "sliding" or arguments.options.channels == "each":
        raise RequestError(
            "--segments says what is scored, and where",
            found="--mode sliding" if arguments.options.mode == "sliding" else "--channels each",
            hint="give one of the two",
        )
    from emonet.segments import read_segments

    given = read_segments(arguments.segments)
    owners = owners_of([as_text(path) for path in files], given, arguments.segments)
    missing = [path.name for path in files if as_text(path) not in owners]
    if missing:
        raise RequestError(
            "the file of segments says nothing of a recording: it may be of another one",
            where=arguments.segments,
            expected=shortened(missing, 5),
            found=shortened(list(given), 5),
        )
    return {path: given[owners[as_text(path)]] for path in files}


def _of(timeline: Timeline, files: Sequence[Path]) -> FileTimeline:
    flags = [flag for one in timeline.segments for flag in one.flags]
    return FileTimeline(
        audio=timeline.audio,
        seconds=round(timeline.seconds, 3),
        speech=round(sum(one.seconds for one in timeline.speech or ()), 3),
        segments=len(timeline.segments),
        speakers=len({one.segment.speaker for one in timeline.segments} - {""}),
        flagged={flag: flags.count(flag) for flag in sorted(set(flags))},
        strongest=felt(timeline),
        notices=timeline.notices,
        files=tuple(map(as_text, files)),
        error=timeline.error,
    )


def show(result: TimelineResult) -> None:
    """A table per recording on stderr: emotions by the time for which they are the strongest."""
    for one in result.timelines:
        if one.error is not None:
            console.say(f"[bold red]{console.name(one.audio)}[/]: {console.name(one.error)}")
        if not one.files:
            continue
        about = f"{console.duration(one.seconds)}, {console.counted(one.segments, 'segment')}"
        table = Table("", "strongest for", "mean", "highest", "at", title=f"{console.name(one.audio)} ({about})")
        table.title_justify = "left"
        for emotion in one.strongest[: result.top]:
            table.add_row(
                console.name(emotion.name),
                f"{100 * emotion.share:.0f} %",
                f"{emotion.mean:.2f}",
                f"{emotion.highest:.2f}",
                clock(emotion.at),
            )
        if one.segments:
            console.console.print(table)
            who = f", {console.counted(one.speakers, 'speaker')}" if one.speakers else ""
            hint = " (--voices says how many there are)" if who and result.told_apart else ""
            console.say(f"  somebody speaks for {console.duration(one.speech)}{who}{hint}")
        else:
            otherwise = "--mode sliding scores whatever is heard"
            console.say(f"[yellow]{console.name(one.audio)}[/] ({about}): nobody speaks ({otherwise})")
        for flag, count in one.flagged.items():
            console.say(f"  [yellow]{flag}[/] {count} of {console.counted(one.segments, 'segment')}")
        for notice in one.notices:
            console.say(f"  [yellow]note[/] {console.name(notice)}")
        console.say(f"  files: {', '.join(map(console.name, one.files))}")
    failed = sum(one.error is not None for one in result.timelines)
    if failed:
        console.say(f"{failed} of {len(result.timelines)} recordings could not be used, or not to their end")
    if result.passed_over:
        console.say(console.passed_over(result.passed_over))
