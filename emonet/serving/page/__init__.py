"""The server's page: drop, choose or record a voice, see, hear and download what is heard in it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
