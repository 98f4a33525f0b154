"""Stores of full-size states for the experts' benchmark: real speech, an encoder of two layers, scores at random."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np

from benchmarks.ours import STORE, write_store
from benchmarks.states import make, small_whisper, spread
from emonet.clips import Clip, Corpus, Split
from emonet.runtime import Progress
from emonet.targets import EMOTIONS

LAYERS = 2  # of Whisper small's twelve: the experts' cost does not depend on what they read
HELD_OUT = 64  # validation clips, and as many test clips
LATER = 0.25  # seconds: where clips begin that are taken for a second time


@final
class Stores:
    """States made once, and stores of any number of them.

    Args:
        corpus: real speech.
        most: training clips of the largest store (count).
        folder: for states, kept from run to run.
        scratch: for the stores.
    """

    def __init__(self, corpus: Corpus, most: int, folder: Path, scratch: Path, *, progress: Progress) -> None:
        self._scratch = scratch
        about = f"{most + 2 * HELD_OUT} clips, an encoder of Whisper small's width with {LAYERS} layers, random weights"
        self._set = make("heads", about, small_whisper(LAYERS), _rated(corpus, most), folder, progress=progress)

    @cached_property
    def about(self) -> str:
        """What the states are."""
        return self._set.about

    def of(self, clips: int) -> Path:
        """A store of so many training clips, 64 for validation and 64 for the test."""
        folder = self._scratch / str(clips)
        if not folder.exists():
            held_out = np.arange(2 * HELD_OUT)
            chosen = np.concatenate([held_out, 2 * HELD_OUT + np.arange(clips)])
            states = np.load(self._set.file, mmap_mode="r")
            corpus = replace(self._set.corpus, clips=tuple(self._set.corpus.clips[row] for row in chosen))
            folder.mkdir(parents=True)
            write_store(
                folder, states[: len(chosen)], subject=replace(self._set, corpus=corpus), codec="lossless", kept="all"
            )
        return folder / STORE


def _rated(corpus: Corpus, most: int) -> Corpus:
    """Held-out clips first; every clip has a score for every emotion, which nobody gave."""
    wanted, rng = most + 2 * HELD_OUT, np.random.default_rng(0)
    source = spread(corpus, wanted).clips
    clips = []
    for row in range(wanted):
        clip: Clip = source[row % len(source)]
        split: Split = "validation" if row < HELD_OUT else "test" if row < 2 * HELD_OUT else "train"
        scores = dict(zip(EMOTIONS.ids, rng.uniform(0, 4, len(EMOTIONS)).round(2).tolist(), strict=True))
        start = LATER * (row // len(source)) or None
        clips.append(
            replace(clip, id=f"{row}", speaker=f"{split}/{clip.speaker}", split=split, scores=scores, start=start)
        )
    return Corpus(corpus.name, tuple(clips), (), EMOTIONS)
