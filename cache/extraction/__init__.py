"""Extraction: from a corpus to a store, on one machine's processors or on each of its GPUs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
