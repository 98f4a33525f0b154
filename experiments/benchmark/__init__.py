"""The verb `benchmark`: models and encoders through published protocols, on one page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
