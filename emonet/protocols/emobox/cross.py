"""EmoBox across corpora: trained on one, tested on as many clips of each class of another; each against each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from emonet.clips import Clip, Fold, number_of
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import ClassMetricName, Estimate, sample_classes
from emonet.protocols.emobox.leaderboard import EMOBOX, FIGURES, per_cent
from emonet.protocols.emobox.training import EmoBoxConfig, HeardStates, Rows, Selection, TrainedFold, fit_head
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row
from emonet.runtime import Progress, generator, ignore
from emonet.targets import NO_CLASS, Classes, ClassLabels

MOST = 60  # clips of a class in EmoBox's balanced test sets
_COMMON = {
    "angry": ("anger", "ang", "a"),
    "happy": ("happiness", "joy", "hap", "happily"),
    "sad": ("sadness", "sadly"),
    "neutral": ("neutrality", "neu", "normal"),
    "fear": ("fearful", "afraid", "anxiety"),
    "disgust": ("disgusted",),
    "surprise": ("surprised", "astonishment"),
    "boredom": ("bored",),
}
_SPELLED = {label: name for name, others in _COMMON.items() for label in (name, *others)}


@dataclass(frozen=True)
class CrossRun:
    """One corpus' head on the balanced test clips of another.

    Args:
        trained: name of the corpus that it was trained on.
        tested: name of the other one.
        run: its epochs.
        data: the other corpus, with the common classes.
    """

    trained: str
    tested: str
    run: TrainedFold
    data: HeardStates

    def figures(self, by: Selection, config: EvaluationConfig, seed: int) -> dict[ClassMetricName, Estimate]:
        """UA, WA and macro F1 (0 to 1) with intervals over speakers."""
        rows = self.run.test
        sampled = sample_classes(
            self.data.labels.given[rows],
            self.run.predicted[self.run.epoch(by)].astype(np.int64),
            classes=self.data.labels.classes.names,
            speakers=[self.data.speakers[row] for row in rows.tolist()],
            config=config,
            seed=seed,
        )
        assert sampled is not None  # balanced test clips have a class
        scores = sampled.scores()
        return {name: scores.of(name) for name in ("ua", "wa", "macro_f1")}


def common_class(label: str) -> str:
    """What a class is called across corpora: `angry` for `Anger`, EmoBox's word; itself where there is no such word."""
    return _SPELLED.get(label.casefold().strip(), label.casefold().strip())


def shared_classes(corpora: Mapping[str, HeardStates]) -> tuple[str, ...]:
    """The classes, by their common name, that every corpus has clips of, in order.

    Raises:
        RequestError: if there are fewer than two.
    """
    each = {name: set(_common(data)[1]) for name, data in corpora.items()}
    shared = sorted(set.intersection(*each.values())) if each else []
    if len(shared) < 2:
        raise RequestError(
            "the corpora share fewer than two classes",
            expected="two corpora or more with two classes in common",
            found="; ".join(f"{name}: {', '.join(sorted(classes))}" for name, classes in each.items()) or "no corpora",
            hint="a file of labels gives classes other names: --labels",
        )
    return tuple(shared)


def balanced(
    given: Int[np.ndarray, " clips"], clips: Sequence[Clip], *, most: int = MOST, seed: int = 0, name: str = ""
) -> Rows:
    """As many clips of each class, spread over speakers as evenly as they allow.

    Args:
        given: position of each clip's class, or `NO_CLASS`.
        clips: of the corpus.
        most: of a class (count); the class with fewest clips may allow less.
        seed: of the draw.
        name: of the corpus, so that corpora are drawn from independently.
    """
    classes = np.unique(given[given != NO_CLASS])
    each = min(most, *(int((given == one).sum()) for one in classes))
    chosen: list[int] = []
    for one in classes.tolist():
        waiting: dict[str, list[int]] = defaultdict(list)
        order = generator(seed, "balanced", name, one).permutation(np.flatnonzero(given == one)).tolist()
        for row in order:
            waiting[clips[row].speaker].append(row)
        turns = [(turn, place, row) for place, rows in enumerate(waiting.values()) for turn, row in enumerate(rows)]
        chosen += [row for _, _, row in sorted(turns)[:each]]
    return number_of(chosen)


def cross_corpus(
    corpora: Mapping[str, HeardStates],
    config: EmoBoxConfig | None = None,
    *,
    most: int = MOST,
    seed: int = 0,
    device: str | None = "cpu",
    progress: Progress = ignore,
) -> tuple[CrossRun, ...]:
    """Train on each corpus and test on a balanced set of each other one, on the classes that all of them have.

    A head is trained on all clips of these classes but those that its epoch is chosen by.

    Args:
        corpora: name -> states of one and the same encoder.
        config: of the head.
        most: test clips of a class (count).
        seed: of weights, order and test sets.
        device: that trains; None is the first GPU, else the processor.
        progress: told about finished epochs.

    Raises:
        RequestError: if there are fewer than two corpora, they share fewer than two classes, or their states are not as
            wide as each other.
        EmonetError: if training diverges.
    """
    config = config or EmoBoxConfig()
    if len(corpora) < 2:
        raise RequestError("across corpora there are two at least", found=", ".join(corpora) or "none")
    widths = {name: data.read(np.arange(1)).shape[2] for name, data in corpora.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise RequestError("the corpora's states are not of one encoder", expected="states of one width", found=found)
    shared = shared_classes(corpora)
    data = {name: _narrowed(one, shared) for name, one in corpora.items()}
    tests = {
        name: (one, balanced(one.labels.given, one.clips, most=most, seed=seed, name=name))
        for name, one in data.items()
    }
    runs: list[CrossRun] = []
    total = len(data) * config.epochs
    progress(0, total)
    for number, (name, one) in enumerate(data.items()):
        known = number_of(np.flatnonzero(one.labels.given != NO_CLASS).tolist())
        fold = Fold(name, number_of(()), known, number_of(()))
        others = {other: test for other, test in tests.items() if other != name}
        before = number * config.epochs

        def told(epochs: int, before: int = before) -> None:
            progress(before + epochs, total)

        fitted = fit_head(one, fold, others, config, seed=seed, device=device, told=told)
        runs += [CrossRun(name, run.name, run, data[run.name]) for run in fitted]
    return tuple(runs)


def cross_corpus_table(runs: Sequence[CrossRun], config: EvaluationConfig, *, seed: int = 0) -> ProtocolTable:
    """Every corpus against every other: UA and macro F1, and what choosing the epoch on test clips would have given.

    Args:
        runs: what `cross_corpus` gives.
        config: resamples and coverage of intervals.
        seed: of the resamples.

    Raises:
        RequestError: if there are no runs.
    """
    if not runs:
        raise RequestError("there are no corpora to compare")
    rows = []
    choices: tuple[Selection, ...] = ("validation", "test")
    for one in runs:
        for by in choices:
            cells: dict[str, Cell] = {
                "trained": one.trained,
                "tested": one.tested,
                "clips": len(one.run.test),
                "epoch": one.run.epoch(by) + 1,
            }
            cells |= {metric: per_cent(value) for metric, value in one.figures(by, config, seed).items()}
            rows.append(Row(cells=cells, kind="optimistic" if by == "test" else "measured"))
    names = list(runs[0].data.labels.classes.names.values())
    return ProtocolTable(
        name="emobox_cross",
        title="Trained on one corpus, tested on balanced clips of another",
        source=f"{EMOBOX}, cross-corpus",
        columns=(
            Column(name="trained", label="trained on"),
            Column(name="tested", label="tested on"),
            Column(name="clips", label="clips", about="Tested, as many of each class (count)."),
            Column(name="epoch", label="epoch", about="That counts, from 1."),
            *FIGURES,
        ),
        rows=tuple(rows),
        notes=(
            f"{len(names)} classes, which all corpora have: {', '.join(names)}; chance is {100 / len(names):.1f} %",
            "test sets are balanced, so that UA and WA are the same; they are drawn here, and are not EmoBox's own",
            "a corpus tested on itself needs folds: that is the table `emobox`",
        ),
    )


def _common(data: HeardStates) -> tuple[list[str], dict[str, list[int]]]:
    """The common name of each class by its position, and the positions of those that have clips."""
    labels: dict[int, str] = {}
    for label, position in data.labels.classes.labels.items():
        labels.setdefault(position, common_class(label))
    names = [labels.get(position, "") for position in range(len(data.labels.classes.names))]
    there = set(np.unique(data.labels.given).tolist())
    positions: dict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        if position in there and name:
            positions[name].append(position)
    return names, positions


def _narrowed(data: HeardStates, shared: Sequence[str]) -> HeardStates:
    """The same corpus with nothing but the shared classes, in their order; other clips have none."""
    _, positions = _common(data)
    given = np.full(len(data.clips), NO_CLASS, np.int64)
    for number, name in enumerate(shared):
        given[np.isin(data.labels.given, positions[name])] = number
    classes = Classes({name: name for name in shared}, {name: number for number, name in enumerate(shared)})
    return replace(data, labels=ClassLabels(classes, given))
