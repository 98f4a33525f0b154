"""The verb `plan`: hours, disk, memory, network and money of each stage, before anything is begun."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
