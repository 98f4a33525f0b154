"""The window `auto` of an experiment: as much audio as the clips of its corpus have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from emonet.windows import Window
from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from emonet.clips import Corpus


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
    lengths = [clip.seconds for clip in corpus.clips]
    window = Window.holding(lengths)
    cut = sorted((length for length in lengths if length > window.seconds), reverse=True)
    said = f"window: {window.seconds:g} s, from the lengths of {console.counted(len(lengths), 'clip')}"
    if cut:
        said += f"; {len(cut)} {'is' if len(cut) == 1 else 'are'} longer and cut, the longest of {cut[0]:.1f} s"
    console.say(said)
    changed = config.model_dump() | {"window_seconds": window.seconds}
    return Experiment.model_validate({**experiment.model_dump(), section: changed})
