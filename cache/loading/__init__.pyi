from .buffers import POOLS
from .loader import ClipBatch, ShuffledClips
from .order import ShuffledOrder
from .shared_clips import SharedClips
from .sharing import SharedArray, SharedOrder, SharedPlace, SharedReading, as_error

__all__ = [
    "POOLS",
    "ClipBatch",
    "SharedArray",
    "SharedClips",
    "SharedOrder",
    "SharedPlace",
    "SharedReading",
    "ShuffledClips",
    "ShuffledOrder",
    "as_error",
]
