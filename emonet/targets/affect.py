"""Affect: where each emotion lies in valence, arousal and dominance, and which scores follow from that.

The dimensions are those of Russell & Mehrabian (1977), "Evidence for a three-factor theory of emotions"; that
two of them do not suffice is the finding of Fontaine et al. (2007), "The world of emotions is not
two-dimensional". The placement itself is ours: a judgement guided by these papers and by the ratings of words in
the NRC-VAD lexicon (Mohammad, 2018), with neighbours moved apart so that no two emotions coincide. It feeds the
synthetic corpus and is no measurement of how people feel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from emonet.errors import RequestError
from emonet.targets.spec import EMOTIONS


class Affect(NamedTuple):
    """A point in the three dimensions, each from -1 to 1."""

    valence: float
    """Unpleasant (-1) to pleasant (1)."""
    arousal: float
    """Calm (-1) to excited (1)."""
    dominance: float
    """Controlled (-1) to in control (1)."""


PLACEMENT: Mapping[str, Affect] = MappingProxyType(
    {
        "amusement": Affect(0.75, 0.45, 0.25),
        "elation": Affect(0.90, 0.75, 0.45),
        "pleasure": Affect(0.95, 0.40, 0.00),
        "contentment": Affect(0.80, -0.50, 0.25),
        "thankfulness": Affect(0.70, -0.10, -0.15),
        "affection": Affect(0.85, -0.15, 0.15),
        "infatuation": Affect(0.65, 0.55, -0.35),
        "hope": Affect(0.65, 0.60, 0.60),
        "triumph": Affect(0.80, 0.70, 0.90),
        "pride": Affect(0.70, 0.30, 0.80),
        "interest": Affect(0.45, 0.30, 0.15),
        "awe": Affect(0.40, 0.35, -0.50),
        "astonishment": Affect(0.20, 0.85, -0.25),
        "concentration": Affect(0.15, 0.05, 0.55),
        "contemplation": Affect(0.20, -0.55, 0.10),
        "relief": Affect(0.60, -0.55, -0.10),
        "longing": Affect(-0.10, -0.20, -0.45),
        "teasing": Affect(0.30, 0.45, 0.45),
        "impatience": Affect(-0.40, 0.55, 0.30),
        "sexual_lust": Affect(0.55, 0.75, 0.05),
        "doubt": Affect(-0.25, -0.05, -0.20),
        "fear": Affect(-0.70, 0.80, -0.60),
        "distress": Affect(-0.65, 0.50, -0.35),
        "confusion": Affect(-0.20, 0.35, -0.45),
        "embarrassment": Affect(-0.45, 0.30, -0.65),
        "shame": Affect(-0.60, -0.05, -0.65),
        "disappointment": Affect(-0.55, -0.25, -0.30),
        "sadness": Affect(-0.75, -0.45, -0.50),
        "bitterness": Affect(-0.65, 0.10, 0.10),
        "contempt": Affect(-0.55, 0.10, 0.55),
        "disgust": Affect(-0.80, 0.35, 0.25),
        "anger": Affect(-0.70, 0.85, 0.60),
        "malevolence": Affect(-0.75, 0.45, 0.75),
        "sourness": Affect(-0.35, 0.10, 0.20),
        "pain": Affect(-0.95, 0.60, -0.15),
        "helplessness": Affect(-0.80, 0.05, -0.90),
        "fatigue": Affect(-0.30, -0.85, -0.35),
        "emotional_numbness": Affect(-0.30, -0.75, 0.10),
        "intoxication": Affect(0.20, -0.05, -0.35),
        "jealousy": Affect(-0.60, 0.45, 0.00),
    }
)
"""One point for each id of `EMOTIONS`, in the same order."""

KERNEL_WIDTH = 0.35
"""Standard deviation of the kernel in `scores_for`; nearest neighbours are 0.32 to 0.47 apart."""


def scores_for(emotion: str, intensity: float) -> dict[str, float]:
    """The scores of all emotions of a voice that expresses `emotion`: its neighbours are heard in it, too.

    The score of another emotion at Euclidean distance d is `intensity * exp(-d^2 / (2 * KERNEL_WIDTH^2))`.

    Args:
        emotion: id, published name or alias.
        intensity: the emotion's own score, 0 to 4.

    Returns:
        Target id -> score from 0 to `intensity`, rounded to 0.01.

    Raises:
        RequestError: if the emotion is unknown or the intensity out of range.
    """
    EMOTIONS.validate(emotion, intensity)
    if math.isnan(intensity):
        raise RequestError("an intensity is missing", where=emotion, expected="0 to 4", found="NaN")
    centre = PLACEMENT[EMOTIONS[emotion].id]
    return {
        name: round(intensity * math.exp(-(math.dist(centre, point) ** 2) / (2 * KERNEL_WIDTH**2)), 2)
        for name, point in PLACEMENT.items()
    }
