from . import sources
from .pyfunc import EXPERTS_PRECISION, VoiceModel, _load_pyfunc

__all__ = [
    "EXPERTS_PRECISION",
    "VoiceModel",
    "_load_pyfunc",
    "sources",
]
