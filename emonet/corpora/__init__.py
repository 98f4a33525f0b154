"""Corpora by name: `sandbox`, `ravdess:PATH`, `emodb:PATH`, `nemo:PATH`, `manifest:FILE`, joined with `+`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
