"""The verb `listen`: scores of live sound, from a microphone, a file or standard input."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
