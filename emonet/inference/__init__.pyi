from .pipeline import ENCODER, EXPERTS, EmotionPipeline, Prediction, assemble, assemble_published, experts_of

__all__ = [
    "ENCODER",
    "EXPERTS",
    "EmotionPipeline",
    "Prediction",
    "assemble",
    "assemble_published",
    "experts_of",
]
