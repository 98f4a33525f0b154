from .affect import PLACEMENT, Affect, scores_for
from .sets import SETS, open_targets
from .spec import ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, Target, TargetSpec

__all__ = [
    "ATTRIBUTES",
    "EMOTIONS",
    "PLACEMENT",
    "PUBLISHED",
    "QUALITY",
    "SETS",
    "Affect",
    "Target",
    "TargetSpec",
    "open_targets",
    "scores_for",
]
