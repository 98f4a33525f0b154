"""Emotion diarisation of timelines on clips that are put together: EDER and segment metrics beside deaf baselines.

    python -m benchmarks.timelines ravdess:FOLDER VOICE --recordings 2 --each 10

Which share of the scale is neutral is chosen on speakers of the validation split, for each way to cut by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emonet import open_corpus
from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.evaluation import Estimate
from emonet.inference import EmotionPipeline
from emonet.protocols import (
    Interval,
    JoinedClips,
    ProtocolTable,
    diarisation_error,
    diarisation_table,
    emotion_intervals,
    joined_clips,
)
from emonet.segments import Segment
from emonet.timelines import Timeline, TimelineOptions, timeline_of

WAYS = {
    "segments of speech": TimelineOptions(),
    "windows of 3 s, 1 s apart": TimelineOptions(mode="sliding"),
    "the true segments": None,
}
LEAST = tuple(np.arange(0.0, 0.65, 0.05).round(2).tolist())  # shares of the scale that are tried


def main() -> None:
    """Print a table, and write the figures as JSON where that is asked for."""
    arguments = _arguments()
    pipeline = EmotionPipeline.from_folder(arguments.voice)
    classes = {label: target for _, info in pipeline.banks for label, target in info.classes.items()}
    labels = {target: label for label, target in classes.items() if target is not None}
    clips = open_corpus(arguments.corpus).clips
    with tempfile.TemporaryDirectory() as folder:
        heard = {
            split: _heard(pipeline, [c for c in clips if c.split == split], arguments, Path(folder))
            for split in ("validation", "test")
        }
    least = {way: min(LEAST, key=lambda share: _error(heard["validation"], way, labels, share)) for way in WAYS}
    table = _table(heard["test"], labels, least)
    for row in table.rows:
        told = []
        for name in ("eder", "segments_right", "change_f1"):
            found = row.cells[name]
            assert isinstance(found, Estimate)
            told.append(f"{name} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
        print(f"{row.cells['model']!s:45}", *told, row.cells["seconds"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"least": least, "table": table.model_dump(mode="json")}, indent=2))


Heard = Mapping[str, tuple[JoinedClips, Sequence[Interval], Mapping[str, Timeline]]]


def _heard(pipeline: EmotionPipeline, clips: Sequence[Clip], arguments: argparse.Namespace, folder: Path) -> Heard:
    found = {}
    for speaker, several in itertools.groupby(joined_clips(clips, each=arguments.each), key=lambda one: one.speaker):
        for one in itertools.islice(several, arguments.recordings):
            path = folder / f"{one.id.replace('/', '-')}.flac"
            given = one.write(path)
            print(speaker, one.id, f"{given[-1].end:.1f} s", flush=True)
            true = [Segment(part.start, part.end) for part in given]
            found[one.id] = (
                one,
                given,
                {
                    way: timeline_of(pipeline, path, options, segments=true if options is None else None)
                    for way, options in WAYS.items()
                },
            )
    return found


def _error(heard: Heard, way: str, labels: Mapping[str, str], least: float) -> float:
    errors = [
        diarisation_error(given, emotion_intervals(timelines[way], labels, least=least), seconds=given[-1].end)
        for _, given, timelines in heard.values()
    ]
    return sum(one.wrong for one in errors) / sum(one.seconds for one in errors)


def _table(heard: Heard, labels: Mapping[str, str], least: Mapping[str, float]) -> ProtocolTable:
    counts: dict[str, float] = defaultdict(float)
    for _, given, _ in heard.values():
        for one in given:
            counts[one.emotion] += one.end - one.start
    seconds = {name: given[-1].end for name, (_, given, _) in heard.items()}
    common = max(counts, key=lambda name: counts[name])
    models: dict[str, dict[str, tuple[Interval, ...]]] = {
        f"{common} throughout": {name: (Interval(0.0, seconds[name], common),) for name in heard}
    }
    for way, share in least.items():
        told = {name: emotion_intervals(t[way], labels, least=share) for name, (_, _, t) in heard.items()}
        models[f"{way}, neutral below {share:g} of the scale"] = told
    return diarisation_table(
        {name: given for name, (_, given, _) in heard.items()},
        models,
        seconds=seconds,
        speakers={name: one.speaker for name, (one, _, _) in heard.items()},
        config=EvaluationConfig(),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="of labelled clips with validation and test speakers, e.g. ravdess:FOLDER")
    parser.add_argument("voice", type=Path, help="folder of a voice model that was trained on its training split")
    parser.add_argument("--recordings", type=int, default=2, help="of each speaker (count)")
    parser.add_argument("--each", type=int, default=10, help="clips of a recording (count)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
