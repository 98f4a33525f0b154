"""Protocols of encoders whose states heads are trained on: EmoBox over its folds, and corpus against corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cache.store import FeatureStore
from emonet.clips import Corpus, values_of
from emonet.corpora import open_folds
from emonet.errors import RequestError
from emonet.protocols import (
    Column,
    HeardStates,
    ProtocolTable,
    cross_corpus,
    cross_corpus_figure,
    cross_corpus_leaderboard,
    cross_corpus_table,
    emobox_rank,
    emobox_table,
    epochs_figure,
    leaderboard,
    rank_figure,
    train_folds,
)
from emonet.targets import Classes, ClassLabels, class_targets
from experiments.benchmark.context import Context, Prepared, contents_of
from experiments.benchmark.parts import Draft
from experiments.benchmark.plan import CrossCorpusEntry, EmoBoxEntry, NamedEncoder, key_of
from experiments.core import Experiment, identity_of, resolve_source

ENCODER = Column(name="encoder", label="Encoder")
_IN_MEMORY = 4 << 30  # bytes of states that are read once, and not in each epoch


def emobox(entry: EmoBoxEntry, context: Context) -> Prepared:
    """EmoBox's head over its folds on each encoder: chosen on held-out speakers, and beside it as its code chooses."""
    corpus = context.corpus(entry.corpus)
    folds = open_folds(_named_folds(entry.folds), corpus)
    encoders = _encoders(context)

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        tables: dict[str, ProtocolTable] = {}
        for encoder in encoders:
            store = context.states(encoder, entry.corpus, key_of(entry))
            data = _heard(store, corpus)
            usable = folds.usable(np.isin(np.arange(len(corpus)), store.rows()))
            with context.progress(f"{encoder.label}: heads", "epochs") as progress:
                runs = train_folds(data, usable, entry.head, seed=seed, progress=progress)
            tables[encoder.label] = emobox_table(runs, data, config, seed=seed)
            number = len(draft.pictures)
            draft.draw(
                f"epochs-{number}", f"UA by epoch, {encoder.label}: what chose it.", partial(epochs_figure, runs)
            )
            if entry.leaderboard:
                rank = emobox_rank(entry.leaderboard, encoder.label, runs, data, config, seed=seed)
                draft.add(rank.renamed(encoder.label) if len(encoders) > 1 else rank)
                text = f"{encoder.label} among EmoBox's ten encoders on {entry.leaderboard}."
                draft.draw(f"rank-{number}", text, partial(rank_figure, rank))
        draft.tables.insert(0, ProtocolTable.joined(tables, ENCODER))

    if entry.leaderboard:
        leaderboard(entry.leaderboard)  # refused before anything is trained
    parts = [[one.name, *(rows.tolist() for rows in (one.train, one.validation, one.test))] for one in folds.folds]
    return Prepared([contents_of(corpus), identities_of(context), parts], run)


def across(entry: CrossCorpusEntry, context: Context) -> Prepared:
    """Heads trained on each corpus, tested on balanced clips of each other one."""
    corpora = {name: context.corpus(spec) for name, spec in entry.corpora.items()}
    encoders = _encoders(context)

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        tables: dict[str, ProtocolTable] = {}
        for encoder in encoders:
            heard = {
                name: _heard(context.states(encoder, spec, f"{key_of(entry)}-{name}"), corpora[name])
                for name, spec in entry.corpora.items()
            }
            with context.progress(f"{encoder.label}: corpus against corpus", "epochs") as progress:
                runs = cross_corpus(heard, entry.head, most=entry.most, seed=seed, progress=progress)
            table = tables[encoder.label] = cross_corpus_table(runs, config, seed=seed)
            text = f"UA of heads on {encoder.label}: trained on the row, tested on the column."
            draft.draw(f"cross-corpus-{len(draft.pictures)}", text, partial(cross_corpus_figure, table))
        draft.add(ProtocolTable.joined(tables, ENCODER), cross_corpus_leaderboard())

    contents = {name: contents_of(corpus) for name, corpus in corpora.items()}
    return Prepared([contents, identities_of(context)], run)


def _encoders(context: Context) -> tuple[NamedEncoder, ...]:
    if not context.plan.encoders:
        raise RequestError("no encoder takes part", hint="encoders: [openai/whisper-base] in the plan")
    return context.plan.encoders


def identities_of(context: Context) -> list[Any]:
    """What tells the plan's encoders from others.

    Raises:
        RequestError: if there are none, or one is not there.
    """
    nowhere = Experiment(runs=context.runs)
    return [
        [one.model_dump(mode="json"), identity_of(resolve_source(one.encoder, nowhere))] for one in _encoders(context)
    ]


def _named_folds(folds: str) -> str:
    """EmoBox's folds that come with emonet, by their corpus; anything else as it is."""
    shipped = Path(__file__).parent / "folds" / f"{folds}.csv"
    return str(shipped) if shipped.is_file() else folds


def _heard(store: FeatureStore, corpus: Corpus) -> HeardStates:
    """The states of a store as heads hear them."""
    targets = class_targets(corpus.labels)
    classes = Classes.among({label: target.id for label, target in targets.items()}, [t.id for t in targets.values()])
    if classes is None:
        raise RequestError(
            "the corpus has fewer than two classes", where=corpus.name, found=", ".join(targets) or "no class label"
        )
    every = np.arange(len(corpus))
    lengths = np.maximum(1, store.speech_frames(every))
    labels = ClassLabels(classes, classes.given(values_of(corpus.clips, "label")))
    fits = len(corpus) * store.record.clip_bytes <= _IN_MEMORY
    read = _in_memory(store).__getitem__ if fits else store.read
    return HeardStates(read, lengths, labels, corpus.clips)


def _in_memory(store: FeatureStore) -> np.ndarray:
    """All states; those of clips that could not be read stay 0."""
    states = np.zeros(store.record.shape, np.float16)
    rows = store.rows()
    for first in range(0, len(rows), 64):
        some = rows[first : first + 64]
        states[some] = store.read(some)
    return states
