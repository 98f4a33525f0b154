from .bucket import BucketObjects
from .clients import patience
from .files import ObjectFile
from .folder import Objects
from .locations import open_location, read_range, size_of, sizes_of, stamp_of_object
from .ranges import WHOLE, Ranges, SlicedFile
from .urls import is_loopback, is_url, without_query

__all__ = [
    "WHOLE",
    "BucketObjects",
    "ObjectFile",
    "Objects",
    "Ranges",
    "SlicedFile",
    "is_loopback",
    "is_url",
    "open_location",
    "patience",
    "read_range",
    "size_of",
    "sizes_of",
    "stamp_of_object",
    "without_query",
]
