"""Segments: parts of a recording that somebody or something has marked, and their file formats."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
