"""A small file in the form of EmoNet-Voice Bench, with recordings that can be heard and answers that are known.

Each category has clips of the same patterns of ratings, so that what every rule keeps can be counted by hand. Louder is
stronger: a scorer that hears how loud a clip is knows the level that was meant.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
import soundfile
from jaxtyping import Float32

from emonet.protocols.bench.format import AUDIO, BENCH, LABEL
from emonet.protocols.consensus import RULES, Rule
from emonet.runtime import durable

RATE = 44_100  # Hz, as published
RATERS = tuple(f"human-{number}" for number in range(1, 7))
_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")
_LANGUAGES = ("en", "de", "es", "fr")
_SHORT = {  # as the published file spells them; the others by their names
    "pleasure": "Pleasure",
    "thankfulness": "Thankfulness",
    "hope": "Hope",
    "astonishment": "Astonishment",
    "malevolence": "Malevolence",
    "fatigue": "Fatigue",
    "intoxication": "Intoxication",
    "jealousy": "Jealousy / Envy",
}


@dataclass(frozen=True)
class Pattern:
    """How a clip is rated, and what is to be made of it.

    Args:
        ratings: 0, 1 or 2, in the order in which raters are asked.
        meant: the level that the recording has.
        kept: rules that keep it -> their score from 0 to 10.
    """

    ratings: tuple[int, ...]
    meant: int
    kept: Mapping[Rule, float]


PATTERNS: Final = (
    Pattern((0, 0), 0, {"paper": 0, "unanimous": 0, "majority": 0, "mean": 0}),
    Pattern((2, 2, 2), 2, {"paper": 10, "unanimous": 10, "present": 10, "majority": 10, "mean": 10}),
    Pattern((1, 2, 1), 1, {"paper": 20 / 3, "unanimous": 20 / 3, "present": 20 / 3, "majority": 5, "mean": 20 / 3}),
    Pattern((0, 1), 0, {"mean": 2.5}),
    Pattern((1, 1, 0), 1, {"majority": 5, "mean": 10 / 3}),
    Pattern((0, 0, 1), 0, {"paper": 0, "majority": 0, "mean": 5 / 3}),  # the third is a random extra
    Pattern((2, 1, 2, 1), 2, {"paper": 25 / 3, "unanimous": 7.5, "present": 7.5, "mean": 7.5}),
)
"""Of each category, one clip of each, and more of the first two, on which all agree, in two of three categories."""


@dataclass(frozen=True)
class BenchSample:
    """What is in the file, known before it is read.

    Args:
        path: of the file.
        rows: in it (count).
        clips: recordings (count): some are rated for two categories.
        ratings: in it (count).
        meant: clip id -> target id -> level (0 to 2) that its recording has.
        kept: rule -> pairs of clip and target that it keeps (count).
        scores: rule -> (clip id, target id) -> score from 0 to 10.
    """

    path: Path
    rows: int
    clips: int
    ratings: int
    meant: Mapping[str, Mapping[str, int]]
    kept: Mapping[Rule, int]
    scores: Mapping[Rule, Mapping[tuple[str, str], float]]


def write_bench_sample(
    path: Path,
    targets: Sequence[str] = BENCH.ids,
    *,
    repeats: int = 1,
    seconds: float = 0.5,
    shared: int = 4,
    seed: int = 0,
) -> BenchSample:
    """Write the file: of each category, a clip of each of `PATTERNS`.

    Args:
        path: of the Parquet file.
        targets: ids of the categories.
        repeats: clips of each pattern and category (count).
        seconds: length of each recording.
        shared: recordings that are rated for two categories (count), as some of the published are.
        seed: of the recordings, and of who is asked.
    """
    ids = BENCH.subset(targets).ids
    chance = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    meant: dict[str, dict[str, int]] = {}
    scores: dict[Rule, dict[tuple[str, str], float]] = {rule: {} for rule in RULES}
    recordings: dict[str, bytes] = {}
    for place, target in enumerate(ids):
        for number, pattern in enumerate(_patterns(place, repeats)):
            borrowed = number == 1 and place % 2 and place // 2 < shared  # one that everybody hears strongly
            name = _name(ids[place - 1], number, place - 1) if borrowed else _name(target, number, place)
            if name not in recordings:
                recordings[name] = _encoded(pattern.meant, seconds, chance)
            meant.setdefault(name, {})[target] = pattern.meant
            for rule, score in pattern.kept.items():
                scores[rule][name, target] = score
            rows.append({AUDIO: {"bytes": recordings[name], "path": name}, LABEL: _label(target, pattern, chance)})
    _write(path, rows)
    return BenchSample(
        path=path,
        rows=len(rows),
        clips=len(recordings),
        ratings=sum(len(pattern.ratings) for place in range(len(ids)) for pattern in _patterns(place, repeats)),
        meant=meant,
        kept={rule: len(scores[rule]) for rule in RULES},
        scores=scores,
    )


def _patterns(place: int, repeats: int) -> tuple[Pattern, ...]:
    """Of the clips of the category at this place; so raters agree on some categories more than on others."""
    return PATTERNS * repeats + PATTERNS[:2] * (place % 3)


def _name(target: str, number: int, place: int) -> str:
    return f"{_LANGUAGES[place % 4]}_{_VOICES[place % 11]}_{target}_{number:04d}.mp3"


def _label(target: str, pattern: Pattern, chance: np.random.Generator) -> str:
    """The ratings as the published file writes them: Python's notation, with names as in a URL."""
    raters = chance.permutation(len(RATERS))[: len(pattern.ratings)]
    name = quote(_SHORT.get(target, BENCH[target].name))
    return str([{RATERS[rater]: {name: level}} for rater, level in zip(raters, pattern.ratings, strict=True)])


def _encoded(level: int, seconds: float, chance: np.random.Generator) -> bytes:
    """An MP3 of a voice-like sound, 14 dB louder from one level to the next."""
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = chance.uniform(100, 250)
    phase = 2 * np.pi * pitch * times + chance.uniform(0.5, 2) * np.sin(2 * np.pi * 5 * times)
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
    envelope = np.minimum(1, 20 * np.minimum(times, times[::-1]))  # 50 ms up and down
    samples: Float32[np.ndarray, " samples"] = (0.02 * 5**level * envelope * tone / 1.9).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {AUDIO: {"_type": "Audio"}, LABEL: {"dtype": "string", "_type": "Value"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.Table.from_pylist(list(rows), pa.schema([(AUDIO, audio), (LABEL, pa.string())], about))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=100)
    durable.write(path, buffer.getvalue())
