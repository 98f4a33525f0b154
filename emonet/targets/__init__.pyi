from .affect import PLACEMENT, Affect, scores_for
from .classes import CLASSES, NO_CLASS, Classes, ClassLabels, are_classes, class_targets, majority
from .sets import SETS, open_targets
from .spec import ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, Target, TargetSpec, spelling

__all__ = [
    "ATTRIBUTES",
    "CLASSES",
    "EMOTIONS",
    "NO_CLASS",
    "PLACEMENT",
    "PUBLISHED",
    "QUALITY",
    "SETS",
    "Affect",
    "ClassLabels",
    "Classes",
    "Target",
    "TargetSpec",
    "are_classes",
    "class_targets",
    "majority",
    "open_targets",
    "scores_for",
    "spelling",
]
