"""HTML pages: the frame and style that all of them share, and how templates become one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
