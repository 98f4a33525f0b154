"""Audits of a model: what perturbed recordings do to its figures, and whom it serves worse."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
