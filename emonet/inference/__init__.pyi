from .pipeline import (
    EmotionPipeline,
    Prediction,
    assemble,
    assemble_published,
    experts_of,
    strongest_first,
)

__all__ = [
    "EmotionPipeline",
    "Prediction",
    "assemble",
    "assemble_published",
    "experts_of",
    "strongest_first",
]
