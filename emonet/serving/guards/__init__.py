"""Guards: who may ask the HTTP server, how much, how fast, and how those are refused who may not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
