"""Labels of other models and the targets that they stand for, in small CSV files: `label,target`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import final

import numpy as np

from emonet.errors import RequestError, raise_collected
from emonet.names import as_text
from emonet.targets import PUBLISHED, Target, TargetSpec

_SUFFIX = ".csv"


@final
@dataclass(frozen=True)
class LabelMap:
    """Which target each label of a model stands for; several labels may stand for one, then the strongest counts.

    Args:
        labels: label, in lower case -> id of the target.
        target_spec: the targets that a label stands for.
    """

    labels: Mapping[str, str]
    target_spec: TargetSpec

    def within(self, targets: TargetSpec | None) -> LabelMap:
        """The part of it that concerns these targets, on their scales; None is all of it.

        Raises:
            RequestError: if no label stands for one of them.
        """
        if targets is None:
            return self
        kept = tuple(target for target in targets if target.id in self.target_spec.ids)
        if not kept:
            raise RequestError(
                "this model has a label for none of the targets",
                expected=", ".join(self.target_spec.ids),
                found=targets.summary,
            )
        ids = {target.id for target in kept}
        return LabelMap({label: one for label, one in self.labels.items() if one in ids}, TargetSpec(kept))

    def scores(self, shares: Mapping[str, float]) -> list[float] | str:
        """Scores in the order of the targets, or what is wrong.

        Args:
            shares: label -> how strong it is (0 to 1); one that is absent is 0, one without a target is left out.
        """
        best = dict.fromkeys(self.target_spec.ids, 0.0)
        for label, share in shares.items():
            target = self.labels.get(label.strip().casefold())
            if target is None:
                continue
            if not (np.isfinite(share) and -1e-6 <= share <= 1 + 1e-6):
                return f"a share out of range: {label} {share:g}, expected 0 to 1"
            best[target] = max(best[target], min(1.0, share))
        return [_score(self.target_spec[name], share) for name, share in best.items()]


def open_labels(name_or_file: str) -> LabelMap:
    """The map that comes with emonet under this name, or one's own CSV file with the columns `label` and `target`.

    Raises:
        RequestError: if there is none, or with all that is wrong in the file.
    """
    path = Path(name_or_file).expanduser()
    shipped = resources.files("emonet.peers").joinpath("label_maps", f"{name_or_file}{_SUFFIX}")
    try:
        own = path.suffix.lower() == _SUFFIX
        text = path.read_text("utf-8-sig") if own else shipped.read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RequestError(
            "the file of labels cannot be read",
            where=as_text(name_or_file),
            expected="a CSV file with the columns label and target",
            found=error,
        ) from error
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"label", "target"} <= set(rows[0]):
        raise RequestError(
            "the file holds no labels",
            where=as_text(name_or_file),
            expected="the columns label and target",
            found=", ".join(map(str, rows[0])) if rows else "no row",
        )
    labels: dict[str, str] = {}
    problems = []
    for number, row in enumerate(rows, 2):
        label, target = (str(row[name] or "").strip() for name in ("label", "target"))
        if target and target not in PUBLISHED:
            problems.append(f"line {number}: {label} stands for {target!r}, which is no target")
        elif target and labels.setdefault(label.casefold(), PUBLISHED[target].id) != PUBLISHED[target].id:
            problems.append(f"line {number}: {label} stands for another target further up")
    raise_collected("the labels cannot be used", problems, where=as_text(name_or_file), hint="emonet targets")
    if not labels:
        raise RequestError("no label stands for a target", where=as_text(name_or_file))
    return LabelMap(labels, PUBLISHED.subset(labels.values()))


def _score(target: Target, share: float) -> float:
    return target.low + share * (target.high - target.low)
