"""Schema, the base of every configuration and result: frozen, closed, described."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError, to_json

from emonet.names import as_text


class Schema(BaseModel):
    """A pydantic model that cannot be changed and that refuses unknown fields.

    A field's description is its help text on the command line and its comment in the documentation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    later_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that came when results without them were there: their defaults are what those were made with."""

    def distinguishing(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """What tells results apart, JSON-able: all fields, but for later ones that hold their default.

        So what was made before there was such a field still counts as made with these settings.
        """
        default = {name for name in self.later_fields if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude={*exclude, *default})

    def model_dump_json(self, **options: Any) -> str:
        """As pydantic's; bytes of paths that are not UTF-8, which it refuses, are spelled as `emonet.names` does."""
        try:
            return super().model_dump_json(**options)
        except PydanticSerializationError:
            known = {name: value for name, value in options.items() if name not in {"indent", "ensure_ascii"}}
            return to_json(_spelled(self.model_dump(**known)), indent=options.get("indent")).decode()


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {as_text(key): _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return as_text(value) if isinstance(value, str | Path) else value


def digest(value: Any) -> str:
    """SHA-256 in hex (64 characters) of a JSON-able value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Registered(Schema):
    """A version in the model registry."""

    name: str
    """The registered model."""
    version: int
    """Counted from 1."""
