from .multi_gpu import choose, extract_on
from .report import ExtractionReport
from .run import extract

__all__ = [
    "ExtractionReport",
    "choose",
    "extract",
    "extract_on",
]
