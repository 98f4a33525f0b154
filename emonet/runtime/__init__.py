"""Runtime: files that survive a kill, processes, threads, signals, memory, hardware, progress and seeds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
