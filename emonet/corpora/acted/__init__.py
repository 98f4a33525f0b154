"""Acted corpora: RAVDESS, EmoDB and others that write one emotion into each file's name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
