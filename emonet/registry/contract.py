"""The contract of a voice model: its folders, columns beside its scores, and the settings that a reader may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENCODER = "encoder"
"""Folder of the encoder within a voice model."""
EXPERTS = "experts"
"""Folder of the experts within a voice model."""
ERROR = "error"
"""Column of the answer: None, or why the recording cannot be used."""
NOTICES = "notices"
"""Column of the answer: None, or what should be known of the recording's sound."""
SETTINGS: Mapping[str, Any] = {"experts_precision": "float32", "allow_paths": "any", "allow_urls": []}
"""What a reader may change with `load_model(model_config=...)`; MLflow drops keys that were not logged."""
