"""Training of experts: losses, optimiser, early stopping, plan of memory, principal coordinates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
