"""The verb `predict`: scores of recordings, by our experts or by somebody's scorer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
