"""Writing a store: one writer per shard, whole and on disk before it counts, with resume after a kill."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
