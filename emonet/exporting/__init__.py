"""Exporting: a voice model as ONNX files, written node by node and checked against the model itself."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
