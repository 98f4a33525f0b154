"""Principal coordinates of a store's states: computed once, kept inside the store, and projected back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
