"""Checks of a corpus: ids, scores, classes, splits; found in all clips at once, said one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from emonet.clips.clip import SPLITS
from emonet.clips.columns import ClipColumns
from emonet.clips.leaks import shared_recordings, shared_speakers
from emonet.errors import RequestError
from emonet.targets import TargetSpec


def repeated_ids(columns: ClipColumns) -> list[str]:
    """What is to be said of ids that occur twice."""
    ids = columns.id.tolist()
    if len(set(ids)) == len(ids):
        return []
    return [f"clip id {clip_id!r} occurs {n} times; ids are unique" for clip_id, n in Counter(ids).items() if n > 1]


def wrong_scores(columns: ClipColumns, targets: TargetSpec) -> list[str]:
    """What is to be said of scores of unknown targets, or out of range."""
    scores, suspects = columns.scores, np.zeros(len(columns), bool)
    for column, name in enumerate(scores.names):
        if name in targets:
            values, target = scores.values[:, column], targets[name]
            suspects |= (values < target.low) | (values > target.high)
        else:
            suspects |= scores.where(column)
    problems = []
    rows = np.flatnonzero(suspects)
    for row, given in zip(rows.tolist(), scores.take(rows).mappings(), strict=True):
        for name, score in given.items():
            try:
                targets.validate(name, score)
            except RequestError as error:
                problems.append(f"clip {columns.id[row]!r}: " + " ".join(str(error).split()))
    return problems


def wrong_classes(classes: Mapping[str, str | None], targets: TargetSpec) -> list[str]:
    """What is to be said of classes that stand for no target."""
    return [
        f"class {label!r} stands for {target!r}, which is no target"
        for label, target in classes.items()
        if target is not None and target not in targets.ids
    ]


def leaks(columns: ClipColumns) -> list[str]:
    """What is to be said of unknown splits, and of what two splits share."""
    splits = columns.split.present()
    problems = [f"split {name!r} is none of {', '.join(SPLITS)}" for name in sorted(set(splits) - set(SPLITS))]
    problems += shared_speakers(speakers_splits(columns))
    if len(splits) > 1:
        rows = _doubtful_rows(columns)
        some = columns.take(rows)
        starts, ends = (np.asarray(times, np.float64) for times in (some.start, some.end))
        spans = zip(np.nan_to_num(starts).tolist(), np.where(np.isnan(ends), np.inf, ends).tolist(), strict=True)
        groups = columns.recordings[0][rows].tolist()
        problems += shared_recordings(groups, list(spans), some.split.values(), some.id.tolist())
    return problems


def _doubtful_rows(columns: ClipColumns) -> np.ndarray:
    """The clips of recordings that have clips in several splits."""
    groups, width = columns.recordings[0], len(columns.split.names)
    recordings, counts = np.unique(np.unique(groups * width + columns.split.codes) // width, return_counts=True)
    return np.flatnonzero(np.isin(groups, recordings[counts > 1]))


def speakers_splits(columns: ClipColumns) -> dict[str, set[str]]:
    """Speaker -> splits; a clip that names its own id as its speaker is anonymous."""
    named = ~columns.anonymous
    speaker, split = columns.speaker, columns.split
    width = len(split.names) + 1
    splits: dict[str, set[str]] = defaultdict(set)
    for pair in np.unique(speaker.codes[named].astype(np.int64) * width + split.codes[named]).tolist():
        splits[speaker.names[pair // width]].add(split.names[pair % width])
    return splits
