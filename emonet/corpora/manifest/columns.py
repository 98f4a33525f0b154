"""What the columns of a manifest mean: fields of a clip, targets, weights of targets."""

from __future__ import annotations

import difflib
import re

from emonet.tables import AUDIO_NAMES
from emonet.targets import PUBLISHED, TargetSpec

FIELDS = ("audio", "id", "speaker", "split", "language", "caption", "start", "end", "weight", "label")
LABEL = "label"
WEIGHT = "weight."  # and a target: how much its score counts
OTHER = "other."  # and a target of emonet's that is none of the corpus': its column is passed over
_NEAR = 0.8  # share of letters in common below which a suggestion is only confusing
_INDEX = re.compile(r"(unnamed: \d+|__index_level_\d+__|)")  # pandas' names for the numbers of rows


class UnknownColumnError(ValueError):
    """A column is neither a field nor a target; its message may advise, and may be empty."""


def meaning(column: str, targets: TargetSpec, *, names_audio: bool, label: str | None = None) -> str:
    """What a column means: a field, a target's id, `weight.` and a target's id, or `other.` and another target's id.

    Args:
        column: as the table spells it.
        targets: of the corpus.
        names_audio: whether another column is called `audio`; if not, some other names mean the same.
        label: the column that holds the classes, as the table spells it, where that is not the one called `label`.

    Raises:
        UnknownColumnError: if it stands for nothing.
    """
    name = column.strip().casefold()
    if label is not None and column.strip() == label:
        return LABEL
    if name in FIELDS:
        return name
    if name in AUDIO_NAMES and not names_audio:
        return "audio"
    weighs = WEIGHT if name.startswith(WEIGHT) else ""
    target = column.strip()[len(weighs) :]
    if target in targets:
        return weighs + targets.ids[targets.index(target)]
    if target in PUBLISHED:
        return OTHER + weighs + PUBLISHED[target].id
    if _INDEX.fullmatch(name):
        raise UnknownColumnError("it looks like pandas' row numbers: write the table without its index (index=False)")
    near = difflib.get_close_matches(name, [*FIELDS, *targets.ids], n=2, cutoff=_NEAR)
    raise UnknownColumnError(f"did you mean {' or '.join(near)}?" if near else "")
