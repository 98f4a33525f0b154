from .back_projection import lift
from .basis_files import listed
from .coordinates import PrincipalStates, principal, require_unchanged

__all__ = [
    "PrincipalStates",
    "lift",
    "listed",
    "principal",
    "require_unchanged",
]
