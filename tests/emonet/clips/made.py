"""Clips of all kinds for property tests: odd names, audio of every kind, scores that are NaN, or none at all."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import strategies as st

from emonet.clips import SPLITS, AudioCell, AudioRange, Clip
from emonet.targets import EMOTIONS

# Surrogates stand for bytes of names that are not UTF-8, or come out of JSON.
TEXTS = st.text(st.characters(codec=None), max_size=6)
PATHS = st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name).map(os.fsdecode).map(Path)
SECONDS = st.none() | st.floats(0, 100) | st.integers(0, 100)
SIZES = st.integers(0, 1 << 40)
AUDIO = st.one_of(
    PATHS,
    st.binary(max_size=8),
    st.builds(AudioRange, TEXTS, SIZES, SIZES),
    st.builds(AudioCell, TEXTS, TEXTS, SIZES, SIZES, SIZES),
)
SCORES = st.dictionaries(
    st.sampled_from([*EMOTIONS.ids[:3], "Anger", "Jealousy_&_Envy"]),
    st.floats(0, 4) | st.integers(0, 4) | st.just(float("nan")),
)
CLIPS = st.builds(
    Clip,
    id=TEXTS,
    audio=AUDIO,
    speaker=TEXTS,
    split=st.sampled_from(SPLITS),
    language=TEXTS,
    scores=SCORES,
    caption=st.none() | TEXTS,
    start=SECONDS,
    end=SECONDS,
    seconds=st.floats(0, 100) | st.just(Clip("", b"", "", "train").seconds),
    weight=st.floats(0, 9),
    weights=st.dictionaries(st.sampled_from(EMOTIONS.ids[:4]), st.floats(0, 3)),
    label=st.none() | TEXTS,
)


def plain(clip: Clip) -> tuple[object, ...]:
    """A clip as what compares equal, though NaN is in it."""
    scores = {name: "nan" if score != score else score for name, score in clip.scores.items()}
    values = [getattr(clip, name) for name in ("id", "audio", "speaker", "split", "language", "caption", "label")]
    return (*values, clip.start, clip.end, repr(clip.seconds), clip.weight, dict(clip.weights), scores)
