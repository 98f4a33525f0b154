"""Tracking: MLflow runs, the databases they are in, and where a model comes from (lineage)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
