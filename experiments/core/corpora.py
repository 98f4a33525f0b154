"""The corpus of an experiment, opened with a word about what is not in it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from emonet.clips import Corpus


def open_experiments_corpus(experiment: Experiment) -> Corpus:
    """The experiment's corpus; says how many recordings were left out of it, and what its user should look at.

    Raises:
        RequestError: if it cannot be used.
    """
    corpus = open_quietly(experiment)
    if corpus.rejected:
        left_out, one = console.counted(len(corpus.rejected), "recording"), len(corpus.rejected) == 1
        console.say(
            f"[yellow]{left_out} of the corpus {'was' if one else 'were'} left out[/] "
            f"(emonet corpus {console.name(shlex.quote(corpus.name))} lists {'it' if one else 'them'})"
        )
    for warning in corpus.warnings:
        console.say(f"[yellow]warning[/] {console.name(warning)}")
    return corpus


def open_quietly(experiment: Experiment) -> Corpus:
    """The experiment's corpus, scored by its targets.

    Raises:
        RequestError: if it, or the set of targets, cannot be used.
    """
    from emonet.corpora import open_corpus

    targets, classes = experiment.open_targets(), experiment.open_labels()
    with console.progress("corpus") as progress:
        return open_corpus(
            experiment.corpus, targets=targets, classes=classes, folder=experiment.corpora, progress=progress
        )


def rejected(corpus: Corpus) -> dict[str, str]:
    """The recordings that were left out of a corpus: id -> reason."""
    return {rejection.id: rejection.reason for rejection in corpus.rejected}
