from .address import hub_address
from .fetching import fetch_from_hub, fetch_model
from .form import CONFIG
from .pushing import Upload, prepare, push

__all__ = ["CONFIG", "Upload", "fetch_from_hub", "fetch_model", "hub_address", "prepare", "push"]
