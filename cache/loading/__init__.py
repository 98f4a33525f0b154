"""Loading: shuffled batches out of a store that does not fit into memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
