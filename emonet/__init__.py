"""Fine-grained speech emotion: scores out of any voice recording."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from emonet.clips import SPLITS, Clip, Corpus, Rejection, Split
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.runtime import Progress
from emonet.targets import EMOTIONS, Target, TargetSpec
from emonet.version import __version__
from emonet.windows import Window

if TYPE_CHECKING:
    from emonet.corpora import open_corpus
    from emonet.encoders import Encoder
    from emonet.evaluation import Scored, Scorer
    from emonet.inference import EmotionPipeline

__all__ = [
    "EMOTIONS",
    "SPLITS",
    "AudioError",
    "Clip",
    "Corpus",
    "EmonetError",
    "EmotionPipeline",
    "Encoder",
    "Progress",
    "Rejection",
    "RequestError",
    "Scored",
    "Scorer",
    "Split",
    "Target",
    "TargetSpec",
    "Window",
    "__version__",
    "open_corpus",
]
# How threads of torch's OpenMP (libgomp) wait for each other, which is read when torch is loaded: by default they spin
# for milliseconds, and two processes that do so on the same cores stand in each other's way (16 times slower).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
_LAZY = {
    "EmotionPipeline": "emonet.inference",
    "Encoder": "emonet.encoders",
    "Scored": "emonet.evaluation",
    "Scorer": "emonet.evaluation",
    "open_corpus": "emonet.corpora",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy (torch) or pulls in codecs only when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'emonet' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """What is offered, also what has not been imported yet."""
    return __all__
