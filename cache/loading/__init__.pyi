from .buffers import POOLS
from .loader import ShuffledClips

__all__ = [
    "POOLS",
    "ShuffledClips",
]
