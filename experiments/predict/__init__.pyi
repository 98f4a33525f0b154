from .finding import find_audio
from .models import open_pipeline
from .owners import owners_of
from .verb import run, show

__all__ = [
    "find_audio",
    "open_pipeline",
    "owners_of",
    "run",
    "show",
]
