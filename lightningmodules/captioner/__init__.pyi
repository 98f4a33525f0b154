from .module import MONITOR
from .progress import Watch
from .training import FittedCaptioner, fit_captioner

__all__ = [
    "MONITOR",
    "FittedCaptioner",
    "Watch",
    "fit_captioner",
]
