from .verb import copy, export, info, repair, show_copy, show_export, show_info, show_repair, show_verify, verify

__all__ = [
    "copy",
    "export",
    "info",
    "repair",
    "show_copy",
    "show_export",
    "show_info",
    "show_repair",
    "show_verify",
    "verify",
]
