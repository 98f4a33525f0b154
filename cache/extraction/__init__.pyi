from .multi_gpu import choose, extract_on
from .report import ExtractionReport
from .run import encoder_settings, extract, record_of

__all__ = [
    "ExtractionReport",
    "choose",
    "encoder_settings",
    "extract",
    "extract_on",
    "record_of",
]
