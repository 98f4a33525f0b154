from .cells import as_cell_text, as_name, as_number, as_seconds, is_missing
from .columns import AUDIO_NAMES, names_audio
from .parquet import cells_of
from .problems import Problems
from .reading import SUFFIXES, Row, read_rows

__all__ = [
    "AUDIO_NAMES",
    "SUFFIXES",
    "Problems",
    "Row",
    "as_cell_text",
    "as_name",
    "as_number",
    "as_seconds",
    "cells_of",
    "is_missing",
    "names_audio",
    "read_rows",
]
