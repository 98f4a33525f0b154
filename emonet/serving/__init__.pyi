from .pyfunc import VoiceModel, _load_pyfunc
from .running import EmotionServer
from .settings import ServerSettings

__all__ = [
    "EmotionServer",
    "ServerSettings",
    "VoiceModel",
    "_load_pyfunc",
]
