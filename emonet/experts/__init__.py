"""Experts: all of a bank in one module, what they see of the states, and quantised ones for inference."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
