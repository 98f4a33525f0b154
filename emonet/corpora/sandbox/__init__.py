"""The sandbox: a corpus that espeak-ng synthesises, so that everything runs on a fresh machine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
