"""Label variance: distributions of judgements, models that predict them, and heads that are trained on them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from pyarrow import parquet

from cache.store import FeatureStore
from emonet.clips import Clip, Corpus
from emonet.corpora import open_folds
from emonet.errors import EmonetError, RequestError, shortened
from emonet.protocols import (
    Distributions,
    ProtocolTable,
    Ratings,
    class_distributions,
    distribution_table,
    grade_distributions,
    label_heads_table,
    predicted_distributions,
    read_bench,
    read_ratings,
    rules_table,
)
from emonet.runtime import durable
from emonet.targets import TargetSpec, open_targets
from experiments.benchmark.context import Context, Prepared, Scoring, contents_of
from experiments.benchmark.files import content_of, data_file, is_bench
from experiments.benchmark.models import OpenModel
from experiments.benchmark.of_encoders import ENCODER, identities_of
from experiments.benchmark.parts import Draft
from experiments.benchmark.plan import RatersEntry, key_of

_MEAN, _DEVIATION = 0, 3  # of the statistics that a pooled store keeps
_SOUND = "clips.parquet"  # the Bench's clips as a corpus, so that their states are kept as any


@dataclass(frozen=True)
class _Rated:
    """Ratings, their distributions over emotions, and the clips that models hear.

    Args:
        ratings: by clip id.
        of_classes: which emotion is strongest, of clips with a present one.
        empty: clips without one (count).
        clips: those of `of_classes` that there is sound of.
        notes: what a reader has to know.
    """

    ratings: Ratings
    of_classes: Distributions
    empty: int
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()


def raters(entry: RatersEntry, context: Context) -> Prepared:
    """Distributions of judgements, what each rule keeps, models that predict distributions, heads trained on them."""
    path = data_file(entry.ratings, "the table of ratings", context)
    targets = open_targets(entry.targets)
    corpus = None if entry.corpus is None else context.corpus(entry.corpus, entry.targets)
    has_sound = corpus is not None or is_bench(path)
    models = context.models(needed=False) if has_sound else ()
    lacking, encoders = _heads(entry, context, has_sound=has_sound)

    def read() -> _Rated:
        return _read(path, targets, corpus, context)

    def scorings() -> list[Scoring]:
        rated = read()
        spoken = set(rated.of_classes.classes)
        return [Scoring(model, rated.clips) for model in models if spoken <= set(model.scorer.target_spec.ids)]

    def run(draft: Draft) -> None:
        rated = read()
        grades = {
            target: grade_distributions(rated.ratings.table, target, grades=rated.ratings.scale)
            for target in rated.ratings.targets
        }
        draft.add(rules_table({"strongest emotion": rated.of_classes, **grades}))
        if models:
            _predict(draft, rated, models, entry, context)
        if lacking:
            draft.tables[-1] = draft.tables[-1].with_notes(lacking)
        elif encoders:
            draft.add(_trained(rated.of_classes, entry, context))

    fixed = [content_of(path), targets.to_json(), None if corpus is None else contents_of(corpus), lacking, encoders]
    return Prepared([*fixed, [model.shown for model in models]], run, scorings)


def _heads(entry: RatersEntry, context: Context, *, has_sound: bool) -> tuple[str, list[Any]]:
    """Why no heads are trained, if they were to be; and what tells the encoders from others.

    Raises:
        RequestError: if they are wanted in any case, and cannot be trained.
    """
    if entry.heads is False or (entry.heads is None and not context.plan.encoders):
        return "", []
    try:
        if not has_sound:
            raise RequestError("the table has no sound", hint="corpus: SPEC in the entry names the clips")
        return "", identities_of(context)
    except EmonetError as error:  # also where the hub cannot be reached
        if entry.heads:
            raise
        return f"no heads were trained on the raters' distributions: {error.what}", []


def _read(path: Path, targets: TargetSpec, corpus: Corpus | None, context: Context) -> _Rated:
    """Ratings, and the rated clips, without those that a model was trained on."""
    notes: tuple[str, ...] = ()
    clips: Sequence[Clip]
    if is_bench(path):
        data = read_bench(path)
        ratings, clips = data.ratings, data.clips
    else:
        ratings, clips = read_ratings(path, targets), ()
    if corpus is not None:
        clips, notes = context.clips(corpus, "all") if context.models(needed=False) else (corpus.clips, ())
    of_classes, empty = class_distributions(ratings.only(ratings.emotions).table)
    names = set(of_classes.clips)
    heard = tuple(clip for clip in clips if clip.id in names)
    if clips and not heard:
        raise RequestError(
            "the ratings are of other clips",
            where=path,
            expected=f"clips such as {shortened([clip.id for clip in clips], 2)}",
            found=shortened(list(of_classes.clips), 2),
        )
    if clips and len(heard) < len(names):
        notes = (*notes, f"of {len(names) - len(heard):,} rated clips there is no sound to hear: left out")
    return _Rated(ratings, of_classes, len(empty), heard, notes)


def _predict(draft: Draft, rated: _Rated, models: Sequence[OpenModel], entry: RatersEntry, context: Context) -> None:
    of_classes = rated.of_classes
    predicted = {}
    notes = [*rated.notes, *[f"{rated.empty:,} clips without a present emotion are left out"] * bool(rated.empty)]
    for model in models:
        if unknown := sorted(set(of_classes.classes) - set(model.scorer.target_spec.ids)):
            notes.append(f"{model.label} does not score {shortened(unknown, 3)}: it predicts no distribution")
            continue
        scored = context.scores(model, rated.clips, key_of(entry))
        names, shares = predicted_distributions(scored, of_classes.classes, spec=model.scorer.target_spec)
        predicted[model.label] = (names, shares)
    if not predicted:
        draft.tables[-1] = draft.tables[-1].with_notes(*notes)
        return
    common = [name for name in of_classes.clips if all(name in names for names, _ in predicted.values())]
    if not common:
        raise RequestError(
            "no rated clip was scored by all models",
            expected=f"scores of {len(rated.clips):,} clips",
            found=", ".join(f"{label}: {len(names):,}" for label, (names, _) in predicted.items()),
        )
    kept = {label: shares[[names.index(name) for name in common]] for label, (names, shares) in predicted.items()}
    speakers = {clip.id: clip.speaker for clip in rated.clips}
    draft.add(
        distribution_table(
            of_classes.of(common),
            kept,
            speakers=[speakers[name] for name in common],
            config=context.plan.evaluation,
            seed=context.plan.seed,
            notes=notes,
        )
    )


def _trained(of_classes: Distributions, entry: RatersEntry, context: Context) -> ProtocolTable:
    """Heads on each encoder's states: mean and deviation over those that hear the clip."""
    spec = entry.corpus or _as_corpus(data_file(entry.ratings, "the table of ratings", context), entry, context)
    corpus = context.corpus(spec)
    folds = open_folds(entry.folds, corpus)
    rated = set(of_classes.clips)
    tables: dict[str, ProtocolTable] = {}
    for encoder in context.plan.encoders:
        features, there = _features(context.states(encoder, spec, key_of(entry), "statistics"), len(corpus))
        names = [clip.id for clip, heard in zip(corpus.clips, there, strict=True) if heard and clip.id in rated]
        if not names:
            raise RequestError("the ratings are of other clips", where=entry.ratings, expected=f"clips of {spec}")
        with context.progress(f"{encoder.label}: heads on distributions", "folds") as progress:
            tables[encoder.label] = label_heads_table(
                features,
                of_classes.of(names),
                corpus.clips,
                folds,
                config=context.plan.evaluation,
                seed=context.plan.seed,
                progress=progress,
            )
    return ProtocolTable.joined(tables, ENCODER)


def _features(store: FeatureStore, clips: int) -> tuple[Float32[np.ndarray, "clips features"], np.ndarray]:
    """Of every clip, zeros where it could not be read; and whether it could."""
    rows = store.rows()
    read = store.read(rows).astype(np.float32)[:, [_MEAN, _DEVIATION]].reshape(len(rows), -1)
    features, there = np.zeros((clips, read.shape[1]), np.float32), np.zeros(clips, bool)
    features[rows], there[rows] = read, True
    return features, there


def _as_corpus(path: Path, entry: RatersEntry, context: Context) -> str:
    """The clips of the Bench as a corpus: a table with their sound."""
    table = context.folder / f"{key_of(entry)}-{_SOUND}"
    clips = read_bench(path).clips
    columns: dict[str, Any] = {
        "id": [clip.id for clip in clips],
        "speaker": [clip.speaker for clip in clips],
        "split": [clip.split for clip in clips],
        "audio": pa.array([{"bytes": clip.audio, "path": clip.id} for clip in clips]),
    }
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer, row_group_size=100)
    durable.write(table, buffer.getvalue())
    return f"manifest:{table}"
