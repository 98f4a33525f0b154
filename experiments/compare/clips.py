"""The clips of a comparison: of a store or of a corpus, with scores, labels and digests of their sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float32

from emonet.clips import SPLITS, Corpus, Split, values_of
from emonet.corpora import contents
from emonet.errors import EmonetError, RequestError
from emonet.schema import digest
from emonet.targets import EMOTIONS, PUBLISHED, Target, TargetSpec
from emonet.tracking import SOUND
from emonet.windows import Window
from experiments.core import console, open_spec

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from experiments.compare.models import Model


@dataclass(frozen=True)
class ComparedClips:
    """The clips that models are compared on.

    Args:
        on: what was typed: a store's folder, or a corpus.
        split: of the clips.
        table: id, speaker and seconds of each.
        truth: their scores, NaN where nobody rated.
        targets: what the scores mean.
        fingerprint: of the whole corpus.
        spec: that opens the corpus.
        store: the store that was named, if it was one.
        corpus: the whole corpus, with audio; None where it cannot be opened.
        note: of the corpus.
        labels: the class of each clip, as the corpus names it; None where it has none.
        classes: label -> id of the target that stands for it.
    """

    on: str
    split: Split
    table: pd.DataFrame
    truth: Float32[np.ndarray, "clips targets"]
    targets: TargetSpec
    fingerprint: str
    spec: str
    store: FeatureStore | None
    corpus: Corpus | None
    note: str
    labels: Sequence[str | None] = ()
    classes: Mapping[str, str | None] = field(default_factory=dict)
    _digests: dict[float, list[str | None]] = field(default_factory=dict, init=False, repr=False)

    def sound_digests(self, window_seconds: float) -> Sequence[str | None]:
        """Digests of the clips' sound in a window of so many seconds; None where they are not known."""
        store = self.store
        if store is not None and store.record.window_seconds == window_seconds and SOUND in store.clips:
            found: list[str | None] = store.clips[SOUND].iloc[store.rows(self.split)].tolist()
            return found
        if self.corpus is None:
            return [None] * len(self.table)
        if window_seconds not in self._digests:
            clips = {clip.id: clip for clip in self.corpus.of_split(self.split)}
            with console.progress("listening") as progress:
                heard = contents([clips[name] for name in self.table["id"]], Window(window_seconds), progress)
            self._digests[window_seconds] = heard
        return self._digests[window_seconds]

    @property
    def digest(self) -> str:
        """SHA-256 over the corpus and the split: the data behind every figure."""
        return digest([self.fingerprint, self.split])

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Positions of some clips in `table` and `truth`."""
        positions: np.ndarray = pd.Index(self.table["id"]).get_indexer(list(ids))
        return positions

    def scores(self, rows: np.ndarray, targets: Sequence[str]) -> Float32[np.ndarray, "rows targets"]:
        """Scores of some rows and targets, NaN where nobody rated."""
        scores: np.ndarray = self.truth[rows][:, [self.targets.index(target) for target in targets]]
        return scores

    def part(self) -> Corpus:
        """The clips of the split as a corpus.

        Raises:
            RequestError: if the corpus could not be opened.
        """
        if self.corpus is None:
            raise RequestError(
                "the audio is needed, and the corpus that the store was made from cannot be opened here",
                where=self.spec,
                found=f"working folder {Path.cwd()}",
                hint="run it where emonet extract was run, or name the corpus: --on CORPUS",
            )
        whole = self.corpus
        return Corpus(name=whole.name, clips=whole.of_split(self.split), targets=whole.targets, note=whole.note)


def open_clips(
    on: str,
    split: Split,
    runs: Path,
    targets: TargetSpec,
    classes: Mapping[str, str | None] = MappingProxyType({}),
) -> ComparedClips:
    """Open what `--on` names.

    Args:
        on: a store's folder, or a corpus.
        split: of its clips.
        runs: folder with synthesised corpora.
        targets: what a corpus is opened for; a store has its own.
        classes: label -> target, for labels of which a corpus or a store itself does not say what they stand for.

    Raises:
        RequestError: if it is neither a store nor a corpus, or has no clips in the split.
        EmonetError: if the store's table is damaged.
    """
    is_store = Path(on).suffix == ".zarr" or (Path(on) / "zarr.json").is_file()
    clips = _of_store(on, split, runs, classes) if is_store else _of_corpus(on, split, runs, targets, classes)
    if not len(clips.table):
        raise RequestError(
            f"there are no clips in the split {split}", where=on, hint=f"--split {' or '.join(_filled(clips))}"
        )
    return clips


def corpus_of(models: Sequence[Model]) -> str:
    """The corpus that the first model with a lineage was trained on, as the spec that opened it.

    Raises:
        RequestError: if no model has a lineage.
    """
    from emonet.tracking import lineage

    found = (lineage.read(model.origin) for model in models if model.origin is not None)
    known = next((one for one in found if one is not None), None)
    if known is None:
        raise RequestError(
            "no model says which corpus it was trained on, so the clips to compare on must be named",
            hint="--on CORPUS or --on STORE",
        )
    return known.corpus


def targets_of(models: Sequence[Model]) -> TargetSpec:
    """The set that a corpus is opened with for these models: one that covers what they score.

    That of a model's lineage if it does, else one of emonet's own, else no more than what they score.
    """
    from emonet.tracking import lineage

    scored: dict[str, Target] = {}
    for model in models:  # of a target that two score on different scales, the first one's counts
        for target in model.target_spec:
            scored.setdefault(target.id, target)
    wanted = TargetSpec(tuple(scored.values()))
    found = (lineage.read(model.origin) for model in models if model.origin is not None)
    known = [TargetSpec.from_json(one.targets) for one in found if one is not None and one.targets]
    return next((spec for spec in (*known, EMOTIONS, PUBLISHED) if wanted.also_in(spec) == wanted.ids), wanted)


def classes_of(models: Sequence[Model]) -> dict[str, str | None]:
    """What labels stand for in the training of these models; of a label that two know, the first one's."""
    found: dict[str, str | None] = {}
    for model in models:
        for info in model.infos.values():
            for label, target in info.classes.items():
                found.setdefault(label, target)
    return found


def _of_corpus(
    spec: str, split: Split, runs: Path, targets: TargetSpec, classes: Mapping[str, str | None]
) -> ComparedClips:
    from emonet.corpora import as_prototypes

    corpus = _corpus(spec, runs, targets)
    if more := _known(classes, corpus.targets, corpus.labels, corpus.classes):
        corpus = as_prototypes(corpus, more)
    clips = corpus.of_split(split)
    return ComparedClips(
        on=spec,
        split=split,
        table=pd.DataFrame({name: values_of(clips, name) for name in ("id", "speaker", "seconds")}),
        truth=corpus.scores(clips),
        targets=corpus.targets,
        fingerprint=corpus.fingerprint,
        spec=spec,
        store=None,
        corpus=corpus,
        note=corpus.note,
        labels=values_of(clips, "label"),
        classes=corpus.classes,
    )


def _of_store(path: str, split: Split, runs: Path, classes: Mapping[str, str | None]) -> ComparedClips:
    from cache.store import FeatureStore

    store = FeatureStore.open(path)
    rows, corpus = store.rows(split), _corpus_of(store, runs)
    labels, known = store.labels(rows), store.classes
    if corpus is not None:  # of a store made before labels were kept, too
        every, known = values_of(corpus.clips, "label"), dict(corpus.classes)
        labels = [every[row] for row in rows]
    return ComparedClips(
        on=path,
        split=split,
        table=store.clips.iloc[rows][["id", "speaker", "seconds"]].reset_index(drop=True),
        truth=store.scores(rows),
        targets=store.targets,
        fingerprint=store.record.corpus_fingerprint,
        spec=store.record.corpus,
        store=store,
        corpus=corpus,
        note=store.note,
        labels=labels,
        classes={**known, **_known(classes, store.targets, [label for label in labels if label is not None], known)},
    )


def _corpus_of(store: FeatureStore, runs: Path) -> Corpus | None:
    """The corpus behind a store, if it can still be opened and is the same."""
    record = store.record
    for classes in ({}, store.classes) if store.classes else ({},):  # whether a file of labels scored it is not stored
        try:
            corpus = _corpus(record.corpus, runs, store.targets, classes)
        except EmonetError as error:
            console.say(f"[yellow]note[/] the corpus behind this store cannot be opened: {console.name(error.what)}")
            return None
        if corpus.fingerprint == record.corpus_fingerprint:
            return corpus
    console.say("[yellow]note[/] the corpus behind this store has changed since; only its states are used")
    return None


def _known(
    classes: Mapping[str, str | None], targets: TargetSpec, labels: Iterable[str], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """What classes say of labels that clips have and of which it is not known yet what they stand for."""
    return {
        label: classes[label]
        for label in dict.fromkeys(labels)
        if label in classes and label not in known and (classes[label] is None or classes[label] in targets)
    }


def _corpus(
    spec: str, runs: Path, targets: TargetSpec, classes: Mapping[str, str | None] = MappingProxyType({})
) -> Corpus:
    return open_spec(spec, runs / "corpora", targets, classes)


def _filled(clips: ComparedClips) -> list[str]:
    if clips.corpus is None:
        return [split for split in SPLITS if clips.store is not None and len(clips.store.rows(split))]
    return [split for split in SPLITS if clips.corpus.of_split(split)]
