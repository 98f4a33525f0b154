"""The captioner: a Whisper that writes how the speaker feels, its tokenizer, and its captions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
