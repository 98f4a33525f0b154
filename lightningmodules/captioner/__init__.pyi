from .module import MONITOR, CaptionerModule
from .progress import CaptionerCallbacks
from .training import FittedCaptioner, fit_captioner

__all__ = [
    "MONITOR",
    "CaptionerCallbacks",
    "CaptionerModule",
    "FittedCaptioner",
    "fit_captioner",
]
