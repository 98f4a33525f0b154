"""Fine-grained speech emotion: scores out of any voice recording."""

from typing import Any

from emonet.clips import SPLITS, Clip, Corpus, Rejection, Split
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.targets import EMOTIONS, Target, TargetSpec
from emonet.version import __version__

__all__ = [
    "EMOTIONS",
    "SPLITS",
    "AudioError",
    "Clip",
    "Corpus",
    "EmonetError",
    "EmotionPipeline",
    "Rejection",
    "RequestError",
    "Split",
    "Target",
    "TargetSpec",
    "__version__",
    "open_corpus",
]


def __getattr__(name: str) -> Any:
    """Import what is heavy (torch) or pulls in codecs only when it is asked for."""
    if name == "EmotionPipeline":
        from emonet.inference import EmotionPipeline

        return EmotionPipeline
    if name == "open_corpus":
        from emonet.corpora import open_corpus

        return open_corpus
    raise AttributeError(f"module 'emonet' has no attribute {name!r}")
