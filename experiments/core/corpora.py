"""The corpus of an experiment, opened with a word about what is not in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from experiments.core import console
from experiments.core.config import Experiment

if TYPE_CHECKING:
    from emonet.clips import Corpus
    from emonet.targets import TargetSpec


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
    """The experiment's corpus, scored by its targets; out of its snapshot, if there is a true one.

    Raises:
        RequestError: if it, or the set of targets, cannot be used.
    """
    targets, classes = experiment.open_targets(), experiment.open_labels()
    return open_spec(experiment.corpus, experiment.corpora, targets, classes)


def open_spec(
    spec: str, folder: Path, targets: TargetSpec, classes: Mapping[str, str | None] = MappingProxyType({})
) -> Corpus:
    """A corpus, out of its snapshot, if there is a true one.

    Args:
        spec: that opens it.
        folder: where synthesised corpora and snapshots are kept.
        targets: what it is for.
        classes: label -> target, as a file of labels says.

    Raises:
        RequestError: if it cannot be used.
    """
    from emonet.corpora import open_kept

    def say(text: str) -> None:
        console.say(f"[yellow]note[/] {console.name(text)}")

    with console.progress("corpus") as progress:
        return open_kept(spec, targets=targets, classes=classes, folder=folder, say=say, progress=progress)


def rejected(corpus: Corpus) -> dict[str, str]:
    """The recordings that were left out of a corpus: id -> reason."""
    return {rejection.id: rejection.reason for rejection in corpus.rejected}
