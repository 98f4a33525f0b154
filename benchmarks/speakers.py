"""Speakers told apart by their voices: the share of time that is given to the right one, in turns put together.

    python -m benchmarks.speakers nemo:FOLDER --speakers 2 3 4 6
    python -m benchmarks.speakers ravdess:FOLDER --distance 0.45

Each recording has turns of one clip, by speakers drawn at random. The figure is the share of time with the right
speaker under the best one-to-one matching (1 - the confusion of a diarisation error rate), for each distance that is
tried, and where the number of speakers is told.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from emonet import open_corpus
from emonet.audio import Decoded, Excerpt, shared_decoders
from emonet.clips import Clip
from emonet.timelines import SpeechModel, SpeechSpans, TimelineOptions, VoiceModel, cluster_voices
from emonet.windows import SAMPLE_RATE

DISTANCES = tuple(np.arange(0.3, 0.75, 0.05).round(2).tolist())


def main() -> None:
    """Print a line for each number of speakers."""
    arguments = _arguments()
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in open_corpus(arguments.corpus).clips:
        by_speaker[clip.speaker].append(clip)
    distances = arguments.distance or DISTANCES
    known = _Voices()
    header = "  ".join(f"{distance:.2f}" for distance in distances)
    print(f"speakers  right speaker (share of time) and speakers found, at a distance of {header}, and told how many")
    for count in arguments.speakers:
        rows = []
        for seed in range(arguments.recordings):
            chance = random.Random(f"{count} {seed}")
            speakers = chance.sample(sorted(by_speaker), count)
            turns = [chance.choice(by_speaker[chance.choice(speakers)]) for _ in range(arguments.turns)]
            rows.append(_row(turns, known, distances, count))
        right, found = np.array(rows).mean(0).T
        print(
            f"{count:8}  " + "  ".join(f"{share:.3f} ({n:.1f})" for share, n in zip(right, found, strict=True)),
            flush=True,
        )


class _Voices:
    """Embedding and seconds of a clip's speech; each is made once."""

    def __init__(self) -> None:
        self._model, self._made = VoiceModel(), dict[str, tuple[np.ndarray, float]]()

    def of(self, clip: Clip) -> tuple[np.ndarray, float]:
        if clip.id not in self._made:
            decoded = next(shared_decoders().decode([Excerpt(clip.audio)]))
            assert isinstance(decoded, Decoded), decoded
            samples = decoded.samples
            model, spans = SpeechModel(), SpeechSpans(TimelineOptions())
            found = [*spans.feed(model.feed(samples)), *spans.feed(model.finish()), *spans.finish(len(samples))]
            heard = samples[found[0].start : found[-1].end] if found else samples
            self._made[clip.id] = self._model.embed(heard), len(heard) / SAMPLE_RATE
        return self._made[clip.id]


def _row(turns: Sequence[Clip], voices: _Voices, distances: Sequence[float], count: int) -> list[tuple[float, int]]:
    heard = [voices.of(clip) for clip in turns]
    embeddings, seconds = np.stack([one for one, _ in heard]), [length for _, length in heard]
    speakers = [clip.speaker for clip in turns]
    told = [cluster_voices(embeddings, seconds, distance=distance) for distance in distances]
    told.append(cluster_voices(embeddings, seconds, distance=1.0, voices=count))
    return [(right_share(speakers, found, seconds), max(found) + 1) for found in told]


def right_share(speakers: Sequence[str], found: Sequence[int], seconds: Sequence[float]) -> float:
    """Share of the time whose speaker is right under the best one-to-one matching (0 to 1)."""
    names = sorted(set(speakers))
    together = np.zeros((len(names), max(found) + 1))
    for speaker, voice, length in zip(speakers, found, seconds, strict=True):
        together[names.index(speaker), voice] += length
    return float(together[linear_sum_assignment(-together)].sum() / together.sum())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="of single speakers' clips, e.g. ravdess:FOLDER")
    parser.add_argument("--speakers", type=int, nargs="+", default=[2, 3, 4, 6], help="of a recording (count)")
    parser.add_argument("--recordings", type=int, default=10, help="of each number of speakers (count)")
    parser.add_argument("--turns", type=int, default=40, help="clips of a recording (count)")
    parser.add_argument("--distance", type=float, nargs="+", help="cosine distances that are tried")
    return parser.parse_args()


if __name__ == "__main__":
    main()
