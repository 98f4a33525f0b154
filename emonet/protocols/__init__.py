"""Protocols of published benchmarks: from ratings, classes and models' scores to the tables that papers print."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
