"""Manifests: tables of clips in Parquet, CSV or JSONL, read, checked and split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
