"""The base of every configuration and result: frozen, closed, described."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A pydantic model that cannot be changed and that refuses unknown fields.

    A field's description is its help text on the command line and its comment in the documentation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def digest(value: Any) -> str:
    """SHA-256 in hex (64 characters) of a JSON-able value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Registered(Schema):
    """A version in the model registry."""

    name: str
    """The registered model."""
    version: int
    """Counted from 1."""
