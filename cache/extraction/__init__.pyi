from .ray import choose, extract_on_ray
from .report import ExtractionReport
from .run import encoder_settings, extract, record_of

__all__ = [
    "ExtractionReport",
    "choose",
    "encoder_settings",
    "extract",
    "extract_on_ray",
    "record_of",
]
