"""Consensus of raters: rules that make one score of several ratings, each with the clips that it keeps.

Figures under different rules are not comparable, since the clips differ; so every table says how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from emonet.protocols.ratings import Ratings, on_ten
from emonet.protocols.tables import Column, ProtocolTable, Row
from emonet.targets import TargetSpec

Rule = Literal["paper", "unanimous", "present", "majority", "mean"]
RULES: tuple[Rule, ...] = get_args(Rule)
PAPER = "EmoNet-Voice (arXiv 2506.09827)"

ABOUT: dict[Rule, str] = {
    "paper": "the first two say absent, or the first two and the third say present; their mean, extra ratings aside",
    "unanimous": "all say present, or all say absent; their mean",
    "present": "all say present; their mean",
    "majority": "more than half give the same level; that level",
    "mean": "every clip with a rating; the mean",
}

Items = Float64[np.ndarray, "items places"]
Kept = tuple[Bool[np.ndarray, " items"], Float64[np.ndarray, " items"]]


@dataclass(frozen=True)
class Consensus:
    """One score for each clip and target on which raters agree by a rule.

    Args:
        rule: by which they agree.
        spec: what was rated, and on which scales.
        scores: clips x targets, in the targets' ranges; NaN where nobody rated, or raters do not agree.
        asked: clips x targets; whether anybody rated.
    """

    rule: Rule
    spec: TargetSpec
    scores: pd.DataFrame
    asked: pd.DataFrame

    @property
    def rated(self) -> int:
        """Pairs of clip and target with a rating (count)."""
        return int(self.asked.to_numpy().sum())

    @property
    def disputed(self) -> pd.DataFrame:
        """Clips x targets; whether raters do not agree, so that it is neither there nor absent."""
        return self.asked & self.scores.isna()

    @cached_property
    def clips(self) -> tuple[str, ...]:
        """Ids of all rated clips, also of those that no target keeps."""
        return tuple(map(str, self.scores.index))

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Ids of the rated targets, in the spec's order."""
        return tuple(map(str, self.scores.columns))

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Those of the targets that are emotions; all of them where the spec has no emotions."""
        return tuple(target for target in self.targets if target in self.spec.ranked) or self.targets

    @cached_property
    def ten(self) -> pd.DataFrame:
        """The scores from 0 to 10."""
        values = on_ten(self.scores.to_numpy(np.float64), self.spec.subset(self.targets))
        return pd.DataFrame(values, self.scores.index, self.scores.columns)

    @property
    def kept(self) -> int:
        """Pairs of clip and target with a score (count)."""
        return int(self.scores.notna().to_numpy().sum())

    @property
    def present(self) -> int:
        """Of those kept, pairs with a score above the lowest (count)."""
        return int((self.ten > 0).to_numpy().sum())

    @property
    def summary(self) -> str:
        """What is kept, for a note: `4 of 7 clips by the rule 'paper' (2 present)`."""
        return (
            f"{self.kept:,} of {self.rated:,} rated clips are kept by the rule {self.rule!r}, {self.present:,} present"
        )


def agree(ratings: Ratings, rule: Rule = "paper") -> Consensus:
    """Make one score of several ratings.

    Args:
        ratings: of clips; the paper's rule takes their order as that in which raters were asked.
        rule: see `ABOUT`. All but `mean` need two ratings of a clip.
    """
    items, present = ratings.items, ratings.present
    levels = items.to_numpy(np.float64)
    if (fewer := 3 - levels.shape[1]) > 0:
        levels = np.pad(levels, ((0, 0), (0, fewer)), constant_values=np.nan)
        present = np.pad(present, ((0, 0), (0, fewer)))
    kept, scores = _RULES[rule](levels, present)
    column = pd.Series(np.where(kept, scores, np.nan), items.index)
    table = column.unstack("target").reindex(index=list(ratings.clip_ids), columns=list(ratings.targets))  # noqa: PD010
    asked = pd.Series(1.0, items.index).unstack("target").reindex_like(table).notna()  # noqa: PD010
    for one in (table, asked):
        one.index.name, one.columns.name = "id", None
    return Consensus(rule, ratings.spec, table, asked)


def consensus_table(ratings: Ratings) -> ProtocolTable:
    """What each rule keeps of all clips, and what it makes of them."""
    rows = []
    for rule in RULES:
        one = agree(ratings, rule)
        mean = float(np.nanmean(one.ten.to_numpy())) if one.kept else None
        counts = {"kept": one.kept, "of": one.rated, "share": 100 * one.kept / one.rated}
        present = {"present": one.present, "absent": one.kept - one.present, "mean": mean}
        rows.append(Row(cells={"rule": rule, **counts, **present, "about": ABOUT[rule]}))
    return ProtocolTable(
        name="consensus",
        title="Clips that each rule of consensus keeps",
        source=f"{PAPER}, section on annotation; other rules beside it",
        columns=(
            Column(name="rule", label="Rule"),
            Column(name="kept", label="Kept", about="pairs of clip and emotion with a score (count)"),
            Column(name="of", label="Of", about="pairs of clip and emotion with a rating (count)"),
            Column(name="share", label="Kept (%)", digits=1, about="kept of rated, in percent"),
            Column(name="present", label="Present", about="of the kept, those with a score above the lowest (count)"),
            Column(name="absent", label="Absent", about="of the kept, those with the lowest score (count)"),
            Column(name="mean", label="Mean score", digits=2, about="of the kept, 0 to 10"),
            Column(name="about", label="Keeps"),
        ),
        rows=tuple(rows),
        notes=("The paper does not say how levels become one score; here it is the mean over the raters that count.",),
    )


def _paper(levels: Items, present: Bool[np.ndarray, "items places"]) -> Kept:
    given = ~np.isnan(levels)
    absent = given[:, 1] & ~present[:, 0] & ~present[:, 1]
    confirmed = present[:, :3].all(1)
    scores = np.where(confirmed, levels[:, :3].mean(1), levels[:, :2].mean(1))
    return absent | confirmed, scores


def _unanimous(levels: Items, present: Bool[np.ndarray, "items places"]) -> Kept:
    given, found = (~np.isnan(levels)).sum(1), present.sum(1)
    return (given >= 2) & ((found == 0) | (found == given)), _mean(levels)


def _present(levels: Items, present: Bool[np.ndarray, "items places"]) -> Kept:
    given = (~np.isnan(levels)).sum(1)
    return (given >= 2) & (present.sum(1) == given), _mean(levels)


def _majority(levels: Items, present: Bool[np.ndarray, "items places"]) -> Kept:  # noqa: ARG001 as the other rules
    given = (~np.isnan(levels)).sum(1)
    scale = np.unique(levels[~np.isnan(levels)])
    votes = np.stack([(levels == level).sum(1) for level in scale], 1)
    return (given >= 2) & (2 * votes.max(1) > given), scale[votes.argmax(1)]


def _all(levels: Items, present: Bool[np.ndarray, "items places"]) -> Kept:  # noqa: ARG001 as the other rules
    return np.ones(len(levels), bool), _mean(levels)


def _mean(levels: Items) -> Float64[np.ndarray, " items"]:
    mean: Float64[np.ndarray, " items"] = np.nanmean(levels, 1)  # each item has a rating
    return mean


_RULES: dict[Rule, Callable[[Items, Bool[np.ndarray, "items places"]], Kept]] = {
    "paper": _paper,
    "unanimous": _unanimous,
    "present": _present,
    "majority": _majority,
    "mean": _all,
}
