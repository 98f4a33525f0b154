from .site import ABOUT, router

__all__ = ["ABOUT", "router"]
