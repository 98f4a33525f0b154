"""The feature store, opened for reading: arrays, table, metadata, shards and codec tiers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
