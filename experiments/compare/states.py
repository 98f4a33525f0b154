"""The states that compared models hear: read where they are, else extracted once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.configs import ExtractionConfig
from emonet.errors import RequestError
from experiments.compare.stores import stores_in
from experiments.core import console

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from emonet.encoders import ReadyEncoder
    from emonet.windows import Window
    from experiments.compare.clips import ComparedClips
    from experiments.compare.models import Model

STATES = Path("compare") / "states"


@dataclass(frozen=True)
class States:
    """States of the compared clips by one encoder.

    Args:
        store: that holds them.
        rows: clip id -> row of the store, for the clips that could be read.
    """

    store: FeatureStore
    rows: Mapping[str, int]

    @property
    def window(self) -> Window:
        """As much audio as the encoder hears."""
        from emonet.windows import Window

        return Window(self.store.record.window_seconds)


class Encoders:
    """The encoders of the compared models, each loaded once, and only when it is needed.

    Args:
        models: of the comparison.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self._loaded: dict[str, ReadyEncoder] = {}

    def find(self, digest: str) -> Path | None:
        """The folder of an encoder, if one of the models has it."""
        return next((m.encoder for m in self._models if m.encoder_digest == digest and m.encoder is not None), None)

    def hear_statistics(self, digest: str) -> bool:
        """Whether a pooled store serves all models that hear an encoder."""
        return all(model.hears_statistics for model in self._models if model.encoder_digest == digest)

    def load(self, digest: str) -> ReadyEncoder:
        """The encoder with these weights.

        Raises:
            RequestError: if no model has it, or its weights are others.
        """
        from emonet.encoders import open_encoder

        if digest in self._loaded:
            return self._loaded[digest]
        folder = self.find(digest)
        label = next(model.label for model in self._models if model.encoder_digest == digest)
        if folder is None:
            raise RequestError(
                f"{label} has experts without their encoder, and no store has its states of these clips",
                expected=f"encoder weights {digest[:16]}",
                hint="--on a store of that encoder, or give the voice model's folder",
            )
        encoder = open_encoder(str(folder))
        if encoder.digest != digest:
            raise RequestError(
                f"the encoder beside the experts of {label} is another one",
                where=folder,
                expected=f"encoder weights {digest[:16]}",
                found=f"encoder weights {encoder.digest[:16]}",
            )
        self._loaded[digest] = encoder
        return encoder


def states_of(digest: str, clips: ComparedClips, encoders: Encoders, runs: Path) -> States:
    """The states of the clips by the encoder with these weights.

    They are taken from the store that was named, from an experiment's store of the same corpus, or from an earlier
    comparison's; else they are extracted into `runs/compare/states`, where a run that was killed goes on.

    Raises:
        RequestError: if they are nowhere and cannot be extracted, since the encoder or the audio is not there.
        EmonetError: if too many clips cannot be read, or the disk is full.
    """
    pooled = encoders.hear_statistics(digest)
    store = next((one for one in _there(digest, clips, runs) if pooled or not one.pooled), None)
    if store is None:
        store = _extracted(digest, clips, encoders, runs)
    else:
        console.say(f"states by the encoder {digest[:12]}: {console.name(store.path)}")
    rows = store.rows(clips.split)
    return States(store, dict(zip(store.clips["id"].iloc[rows], rows.tolist(), strict=True)))


def _there(digest: str, clips: ComparedClips, runs: Path) -> Iterator[FeatureStore]:
    if clips.store is not None and clips.store.record.encoder_digest == digest:
        yield clips.store
    wanted = {clips.fingerprint} | ({clips.part().fingerprint} if clips.corpus is not None else set())
    for store in chain(stores_in(runs / STATES, f"{digest[:12]}-*.zarr"), stores_in(runs)):
        if store.record.encoder_digest == digest and store.record.corpus_fingerprint in wanted:
            yield store


def _extracted(digest: str, clips: ComparedClips, encoders: Encoders, runs: Path) -> FeatureStore:
    from cache.extraction import extract
    from cache.store import FeatureStore

    part = clips.part()
    encoder = encoders.load(digest)
    kind = "-pooled" if encoders.hear_statistics(digest) else ""
    path = runs / STATES / f"{digest[:12]}-{part.fingerprint[:12]}-{encoder.precision}{kind}.zarr"
    path.parent.mkdir(parents=True, exist_ok=True)
    console.say(f"states by the encoder {digest[:12]} are extracted into {console.name(path)}")
    with console.progress("encoding") as progress:
        config = ExtractionConfig(pool="statistics" if encoders.hear_statistics(digest) else "none")
        extract(part, encoder, path, config, source=str(encoders.find(digest)), progress=progress)
    return FeatureStore.open(path)
