from .back_projection import lift
from .basis_files import listed
from .coordinates import PrincipalStates, forget_divisions, principal, require_unchanged

__all__ = [
    "PrincipalStates",
    "forget_divisions",
    "lift",
    "listed",
    "principal",
    "require_unchanged",
]
