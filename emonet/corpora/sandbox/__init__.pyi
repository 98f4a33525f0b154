from .format import open_sandbox

__all__ = [
    "open_sandbox",
]
