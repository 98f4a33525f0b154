"""Targets: what is scored, on which scale; the emotions, further attributes, and where emotions lie in affect."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
