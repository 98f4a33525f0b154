from .affect import PLACEMENT, Affect, scores_for
from .spec import APART, ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, Target, TargetSpec

__all__ = [
    "APART",
    "ATTRIBUTES",
    "EMOTIONS",
    "PLACEMENT",
    "PUBLISHED",
    "QUALITY",
    "Affect",
    "Target",
    "TargetSpec",
    "scores_for",
]
