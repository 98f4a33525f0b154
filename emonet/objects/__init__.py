"""Object stores (S3, Google Cloud Storage, Azure): folders of objects by URL, read by ranges and written whole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
