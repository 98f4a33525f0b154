from .module import MONITOR
from .progress import CaptionerCallbacks
from .training import FittedCaptioner, fit_captioner

__all__ = [
    "MONITOR",
    "CaptionerCallbacks",
    "FittedCaptioner",
    "fit_captioner",
]
