from .rendering import LANGUAGES, render, text, words

__all__ = ["LANGUAGES", "render", "text", "words"]
