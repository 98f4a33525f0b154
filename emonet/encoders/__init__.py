"""Frozen encoders: audio of one window in, states out; where pretrained weights are."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
