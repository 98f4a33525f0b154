"""Peers: other people's models as scorers: services over HTTP, local models, tables of predictions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
