from .multi_gpu import choose, extract_on
from .report import ExtractionReport
from .run import extract, record_of

__all__ = [
    "ExtractionReport",
    "choose",
    "extract",
    "extract_on",
    "record_of",
]
