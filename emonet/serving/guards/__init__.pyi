from .connections import connection_types
from .limits import GONE, Guard, Limits
from .refusals import Refusal, too_busy
from .security import AUTHORISED, NEW_TOKEN, PROTOCOL, Doors, Keys, Tokens

__all__ = [
    "AUTHORISED",
    "GONE",
    "NEW_TOKEN",
    "PROTOCOL",
    "Doors",
    "Guard",
    "Keys",
    "Limits",
    "Refusal",
    "Tokens",
    "connection_types",
    "too_busy",
]
