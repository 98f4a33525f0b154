"""Origins of compared models: what they were trained on, and whether the compared clips are new to them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from emonet.errors import raise_collected
from emonet.schema import Schema
from experiments.compare.clips import ComparedClips
from experiments.compare.stores import stores_in
from experiments.core import console

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from emonet.tracking import Overlap
    from experiments.compare.models import Model

_SHOWN = 3  # ids in a message


class Origin(Schema):
    """What a model knows of the clips that it is compared on."""

    known: Literal["lineage", "store", "unknown"]
    """Whence that is known: the model's lineage, the feature store that both share, or not at all."""
    trained: int = Field(0, ge=0)
    """Clips that it was trained on (count)."""
    chosen: int = Field(0, ge=0)
    """Clips that its epochs and its form of input were chosen by (count)."""
    ids: tuple[str, ...] = ()
    """The first of both."""
    speakers: tuple[str, ...] = ()
    """Speakers of the compared clips that training heard."""

    @property
    def overlaps(self) -> bool:
        """Whether figures on these clips flatter the model."""
        return bool(self.trained or self.chosen)


def origin_of(model: Model, clips: ComparedClips, runs: Path) -> Origin:
    """What a model knows of the clips: from its lineage, or else from the store that it was trained on, if it is there.

    Args:
        model: of the comparison.
        clips: of the comparison.
        runs: folder of the experiments, whose stores are looked at.

    Raises:
        RequestError: if its lineage cannot be read.
    """
    from emonet.tracking import overlap_with, trained_on

    window = inf if clips.store is None else clips.store.record.window_seconds
    sounds = clips.sound_digests
    overlap = (
        None if model.origin is None else trained_on(model.origin, clips.table, window_seconds=window, sounds=sounds)
    )
    if overlap is not None:
        return _origin("lineage", overlap)
    store = _trained_on(model, clips, runs)
    if store is None:
        return Origin(known="unknown")
    heard = store.clips.iloc[[*store.rows("train"), *store.rows("validation")]]
    window = min(window, store.record.window_seconds)
    return _origin("store", overlap_with(clips.table, heard, window_seconds=window))


def require_new(origins: Mapping[str, Origin], clips: ComparedClips) -> None:
    """Refuse a comparison on clips that a model was trained on or chosen by.

    Args:
        origins: by label of the model.
        clips: of the comparison.

    Raises:
        RequestError: if they are not new to one of them; says how many, and which first.
    """
    known = [f"{label}: {overlap_text(origin)}" for label, origin in origins.items() if origin.overlaps]
    other = "--split test" if clips.split != "test" else "clips that are new to it"
    raise_collected(
        "a model would be compared on clips that it was trained on",
        known,
        where=f"{clips.on}, split {clips.split}, {console.counted(len(clips.table), 'clip')}",
        hint=f"{other}; or --force, which marks every output",
    )


def overlap_text(origin: Origin) -> str:
    """How many of the clips a model knows, and which first."""
    parts = [f"trained on {origin.trained}"] * bool(origin.trained)
    parts += [f"chosen by {origin.chosen}"] * bool(origin.chosen)
    more = ", ..." if origin.trained + origin.chosen > len(origin.ids) else ""
    return f"{' and '.join(parts)} of these clips: {', '.join(origin.ids)}{more}"


def origin_notes(origins: Mapping[str, Origin]) -> list[str]:
    """What every output says of the models' origins; an overlap first."""
    forced = [
        f"FORCED: {label} was {overlap_text(origin)}; its figures are better than it is"
        for label, origin in origins.items()
        if origin.overlaps
    ]
    heard = [
        f"{label} heard {console.counted(len(origin.speakers), 'speaker')} of these clips in training: "
        f"{', '.join(origin.speakers[:_SHOWN])}{', ...' if len(origin.speakers) > _SHOWN else ''}; "
        "its figures say less about new voices"
        for label, origin in origins.items()
        if origin.speakers
    ]
    unknown = [
        f"{label} is of unknown origin: whether it was trained on these clips cannot be told"
        for label, origin in origins.items()
        if origin.known == "unknown"
    ]
    return forced + heard + unknown


def _trained_on(model: Model, clips: ComparedClips, runs: Path) -> FeatureStore | None:
    """The store that a model's experts were trained on: the one that was named, or an experiment's."""
    wanted = model.first.store_fingerprint
    if clips.store is not None and clips.store.fingerprint == wanted:
        return clips.store
    return next((store for store in stores_in(runs) if store.fingerprint == wanted), None)


def _origin(known: Literal["lineage", "store"], overlap: Overlap) -> Origin:
    return Origin(
        known=known,
        trained=len(overlap.train),
        chosen=len(overlap.validation),
        ids=overlap.clips[:_SHOWN],
        speakers=overlap.speakers,
    )
