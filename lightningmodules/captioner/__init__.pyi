from .module import MONITOR, CaptionerModule
from .progress import CaptionerCallbacks
from .training import CaptionTask, FittedCaptioner, build_trainer, fit_captioner, follow_captioner

__all__ = [
    "MONITOR",
    "CaptionTask",
    "CaptionerCallbacks",
    "CaptionerModule",
    "FittedCaptioner",
    "build_trainer",
    "fit_captioner",
    "follow_captioner",
]
