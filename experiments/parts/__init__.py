"""Parts of `emonet heads`: nodes that train a share of the experts each; the last one joins them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
