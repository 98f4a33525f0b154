"""The feature stores of all experiments: in their folders, or where `extraction.store` has put them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import EmonetError
from emonet.objects import is_url

if TYPE_CHECKING:
    from cache.store import FeatureStore


def stores_in(runs: Path, pattern: str = "*/store.zarr") -> Iterator[FeatureStore]:
    """Each finished store, opened; one that is unfinished, damaged or out of reach is passed over.

    Args:
        runs: the folder of all experiments.
        pattern: of their stores in it.
    """
    from cache.store import FeatureStore

    own = [str(path.resolve()) for path in sorted(runs.glob(pattern))]
    for location in dict.fromkeys([*own, *_told(runs)]):
        try:
            yield FeatureStore.open(location)
        except EmonetError:
            continue


def _told(runs: Path) -> Iterator[str]:
    """Where results of `emonet extract` say that their stores are."""
    for result in sorted(runs.glob("*/extract.json")):
        try:
            store = json.loads(result.read_bytes())["store"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if isinstance(store, str):
            yield store if is_url(store) else str(Path(store).resolve())
