"""`emonet heads --folds`: experts trained and tested fold by fold over speakers, and what baselines give there."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
