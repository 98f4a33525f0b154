"""The window `auto` of an experiment: as much audio as the clips of its corpus have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from emonet.errors import shortened
from emonet.windows import Window
from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emonet.clips import Clip, Corpus

_NAMED = 3  # clips that are cut


def with_window(experiment: Experiment, section: Literal["captioner", "extraction"], corpus: Corpus) -> Experiment:
    """The experiment with seconds where the window of a section is `auto`: the fewest that hold 99 % of the clips.

    Says how many those are, and what they cut.

    Args:
        experiment: as configured.
        section: whose window it is.
        corpus: whose clips are to be heard.
    """
    config = getattr(experiment, section)
    if config.window_seconds != "auto":
        return experiment
    window = Window.holding([clip.seconds for clip in corpus.clips])
    console.say(_said(window, corpus.clips))
    changed = config.model_dump() | {"window_seconds": window.seconds}
    return Experiment.model_validate({**experiment.model_dump(), section: changed})


def _said(window: Window, clips: Sequence[Clip]) -> str:
    known = [clip for clip in clips if not math.isnan(clip.seconds)]
    if not known:
        return f"window: {window.seconds:g} s, since no clip says how long it is"
    said = f"window: {window.seconds:g} s, from the lengths of {console.counted(len(known), 'clip')}"
    if len(known) < len(clips):
        said += f" ({len(clips) - len(known):,} of unknown length)"
    cut = sorted((clip for clip in known if clip.seconds > window.seconds), key=lambda clip: -clip.seconds)
    if not cut:
        return said
    names = console.name(shortened([f"{clip.id} of {clip.seconds:.1f} s" for clip in cut], _NAMED))
    return f"{said}; {len(cut)} {'is' if len(cut) == 1 else 'are'} longer and cut: {names}"
