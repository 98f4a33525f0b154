from .page import VIEW, view_facts, write_page
from .plots import timeline_figure

__all__ = ["VIEW", "timeline_figure", "view_facts", "write_page"]
