"""Audio in: recordings of any kind become 16 kHz mono with notices about what is odd; log-mel; augmentation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
