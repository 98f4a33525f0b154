from .verb import export, info, repair, show_export, show_info, show_repair, show_verify, verify

__all__ = [
    "export",
    "info",
    "repair",
    "show_export",
    "show_info",
    "show_repair",
    "show_verify",
    "verify",
]
