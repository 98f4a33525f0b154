"""The verb `compare`: models on the same clips, with intervals, costs and a promotion."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
