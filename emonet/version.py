"""Version of emonet: the one place that it is written in."""

__version__ = "0.1.0"
