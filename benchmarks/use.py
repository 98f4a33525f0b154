"""Use of a model: live streams and their latency, hours of audio, their memory: `python -m benchmarks.use`."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.extract import versions
from benchmarks.rows import Row, interleaved_seconds, publish
from benchmarks.use_hours import Hours, Scoring, in_a_process, plain, some_windows
from benchmarks.use_model import Sound, find_speech, find_whisper, make_voice, threads, write_hours
from benchmarks.use_streams import HOP, Live, most_streams
from emonet import EmotionPipeline
from emonet.runtime import cpu_abilities
from experiments.core import say

AIM = 4  # streams at once
TIMES_FASTER, MOST_MEMORY, SOONEST = 5.0, 1.5, 3.0  # than plain code; GiB; seconds until the first line
PLAIN_WINDOWS = 4  # of a round: each takes about a second
SAME = 0.9  # of the memory that more segments need: their scores come on top
COUNTS = (AIM, 6, 8, 12, 16)
NOTES = (
    "streams: fed in real time, 50 ms at once, each from a thread; in real time: no hop was skipped, p95 within a hop.",
    "late: from when the last sample of a hop is fed to its scores; the resampler's 40 ms (not at 16 kHz) come on top.",
    "plain transformers code: WhisperFeatureExtractor (30 s, padded), float32 WhisperModel.encoder, one window at a "
    "time, the mean state, a linear head; on windows of the same recording, in turns with ours.",
    "timelines: timeline_of with its defaults and a journal, in a process that loads the model and does nothing else; "
    "sliding windows where there is no speech to find; first line: until `tell` has the first scores; memory: VmHWM, "
    "without the decoder's process.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/use.json."""
    options = command_line().parse_args(arguments)
    sound = find_speech()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whisper, weights = find_whisper(folder)
        voice = options.model or make_voice(whisper, folder)
        pipeline = EmotionPipeline.from_folder(voice, device="cpu")
        one = timeline(voice, sound, 60 * options.minutes, folder / "recording.wav")
        most, tried = most_streams(pipeline, sound.samples, COUNTS, seconds=options.live_seconds)
        say(f"{most} streams at once in real time")
        beside, peer = factors(pipeline, plain(whisper), folder / "recording.wav")
        say(f"windows in turns: {peer / beside:.1f} times faster than plain code")
        many = timeline(voice, sound, 60 * options.minutes * options.times, folder / "long recording.wav")
    about = {
        "notes": NOTES,
        "model": str(options.model) if options.model else f"{weights}, its middle layers, 40 random experts",
        "window": f"{pipeline.encoder.window.seconds:g} s",
        "sound": sound.name,
        "minutes": options.minutes,
        "precision": pipeline.encoder.precision,
        "processor": sorted(cpu_abilities()),
        "threads": threads(),
        "timelines": [asdict(one), asdict(many)],
        "streams that were tried": [vars(one) for one in tried],
        "seconds of sound in each stream": options.live_seconds,
        "versions": versions(),
        "load average at the end": os.getloadavg(),
    }
    rows = [*live_rows(most, tried), *hour_rows(one, beside, peer), first_row(one), *memory_rows(one, many)]
    publish(rows, options.out, title="using a model", about=about)


def timeline(voice: Path, sound: Sound, seconds: float, path: Path) -> Hours:
    """Make the timeline of a recording of this length, and say what it took."""
    found = in_a_process(voice, write_hours(sound.samples, seconds, path), sound.mode)
    say(
        f"{span(found)}: {found.segments} segments in {found.seconds:.0f} s, the first after {found.first_s:.2f} s, "
        f"{found.peak / 2**30:.2f} GiB"
    )
    return found


def span(hours: Hours) -> str:
    """How long a recording is, in words."""
    return f"{hours.audio_s / 60:g} minutes"


def factors(pipeline: EmotionPipeline, peer: Scoring, path: Path) -> tuple[float, float]:
    """Seconds per second of audio, ours and the peer's, on the same windows in turns."""
    seconds = pipeline.encoder.window.seconds
    some = some_windows(path, seconds, PLAIN_WINDOWS)
    taken = interleaved_seconds({"ours": lambda: pipeline.score_samples(some), "peer": lambda: peer(some)}, repeats=5)
    heard = sum(len(one) for one in some) / 16_000
    return statistics.median(taken["ours"]) / heard, statistics.median(taken["peer"]) / heard


def live_rows(most: int, tried: Sequence[Live]) -> list[Row]:
    """Streams at once, and how late the scores of the least are."""
    least = tried[0]
    return [
        Row("streams at once in real time", most, "streams", f"{AIM}, on two cores", most / AIM, reach=1.0),
        Row(f"latency of {least.streams} streams, p50", 1000 * least.p50, "ms", "a hop", HOP / least.p50),
        Row(f"latency of {least.streams} streams, p95", 1000 * least.p95, "ms", "a hop", HOP / least.p95, reach=1.0),
    ]


def hour_rows(one: Hours, beside: float, peer: float) -> list[Row]:
    """Real-time factors."""
    plainly = "plain transformers code"
    return [
        Row("real-time factor, windows in turns", beside, "s/s", plainly, peer / beside, reach=TIMES_FASTER),
        Row(plainly, peer, "s/s"),
        Row(f"real-time factor of a timeline, {span(one)}", one.factor, "s/s", plainly, peer / one.factor),
    ]


def first_row(one: Hours) -> Row:
    """The first line of a timeline."""
    return Row("first line, model loaded", one.first_s, "s", f"{SOONEST:g} s", SOONEST / one.first_s, reach=1.0)


def memory_rows(one: Hours, many: Hours) -> list[Row]:
    """Memory of a recording, and of a longer one."""
    first, last = (found.peak / 2**30 for found in (one, many))
    return [
        Row(f"memory, {span(one)}", first, "GiB", f"{MOST_MEMORY:g} GiB", MOST_MEMORY / first, reach=1.0),
        Row(f"memory, {span(many)}", last, "GiB", span(one), first / last, reach=SAME),
    ]


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.use", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a voice model (default: Whisper base, random experts)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the recording (default: %(default)s)")
    parser.add_argument("--times", type=int, default=10, help="how much longer the long one is (default: %(default)s)")
    parser.add_argument("--live-seconds", type=float, default=20.0, help="of each stream (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/use.json"), help="where the rows go")
    return parser


if __name__ == "__main__":
    main()
