"""The window `auto` of an experiment: as much audio as the clips of its corpus have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from emonet.errors import shortened
from emonet.windows import Window
from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from emonet.clips import Corpus

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
    from emonet.clips import values_of

    window = Window.holding(values_of(corpus.clips, "seconds"))
    console.say(_said(window, values_of(corpus.clips, "id"), corpus.columns.seconds))
    changed = config.model_dump() | {"window_seconds": window.seconds}
    return Experiment.model_validate({**experiment.model_dump(), section: changed})


def _said(window: Window, ids: Sequence[str], seconds: NDArray[np.float64]) -> str:
    known = int((~np.isnan(seconds)).sum())
    if not known:
        return f"window: {window.seconds:g} s, since no clip says how long it is"
    said = f"window: {window.seconds:g} s, from the lengths of {console.counted(known, 'clip')}"
    if known < len(ids):
        said += f" ({len(ids) - known:,} of unknown length)"
    longer = np.flatnonzero(seconds > window.seconds)
    cut = longer[np.argsort(-seconds[longer], kind="stable")].tolist()
    if not cut:
        return said
    names = console.name(shortened([f"{ids[row]} of {seconds[row]:.1f} s" for row in cut], _NAMED))
    return f"{said}; {len(cut)} {'is' if len(cut) == 1 else 'are'} longer and cut: {names}"
