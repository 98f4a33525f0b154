from .files import read_segments, write_segments
from .segment import Segment

__all__ = ["Segment", "read_segments", "write_segments"]
