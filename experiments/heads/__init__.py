"""The verb `heads`: experts on a store, their report, model card and version in the registry."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
