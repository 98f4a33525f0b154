"""Tables 9 and 10 and Figure 1 of EmoNet-Voice: what raters gave, emotion by emotion, and how far they agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emonet.evaluation import RaterAgreement, rater_agreement
from emonet.protocols.consensus import PAPER
from emonet.protocols.ratings import Ratings
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

OVERALL = "overall"
EMOTION = Column(name="emotion", label="Emotion")


@dataclass(frozen=True)
class Kind:
    """A way in which the ratings of a clip agree.

    Args:
        name: its key.
        label: what people read.
    """

    name: str
    label: str


KINDS = (
    Kind("present_level", "all say present, at the same level"),
    Kind("present", "all say present, at different levels"),
    Kind("most_present", "most say present"),
    Kind("split", "as many say present as absent"),
    Kind("most_absent", "most say absent"),
    Kind("absent", "all say absent"),
)
"""Each clip with two ratings or more is of one kind."""


def agreement_shares(ratings: Ratings) -> pd.DataFrame:
    """Of each target's clips with two ratings or more, the share of each kind (0 to 1); NaN where there are none."""
    kinds = _kinds(ratings)
    return kinds.groupby(level="target").mean().reindex(list(ratings.targets))


def figure1(ratings: Ratings) -> ProtocolTable:
    """What Figure 1 draws: how the ratings of each emotion's clips agree, those with most agreed presence first."""
    shares = agreement_shares(ratings)
    order = (shares["present_level"] + shares["present"]).sort_values(ascending=False, kind="stable").index
    rows = []
    for target in order:
        cells: dict[str, Cell] = {EMOTION.name: str(target)}
        cells |= {kind.name: _percent(shares.loc[target, kind.name]) for kind in KINDS}
        rows.append(Row(cells=cells))
    return ProtocolTable(
        name="figure1",
        title="Agreement of raters by emotion",
        source=f"{PAPER}, Figure 1; the kinds of agreement are ours",
        columns=(EMOTION, *(_share(kind) for kind in KINDS)),
        rows=tuple(rows),
        notes=("Shares of the clips with two ratings or more, in percent.",),
    )


def table9(ratings: Ratings) -> ProtocolTable:
    """Ratings of each emotion: clips, ratings, how many raters, how often each level, and how they agree."""
    shares = agreement_shares(ratings)
    by_target = shares.to_dict("index")
    rows = [_counted(ratings, target, by_target[target]) for target in ratings.targets]
    rows.append(_counted(ratings, OVERALL, dict(_kinds(ratings).mean())))
    levels = [
        Column(name=f"level_{level:g}", label=f"{level:g} (%)", digits=1, about="of the ratings, in percent")
        for level in ratings.scale[:_LEVELS]
    ]
    return ProtocolTable(
        name="table9",
        title="Ratings by emotion",
        source=f"{PAPER}, beside its Table 9",
        columns=(
            EMOTION,
            Column(name="clips", label="Clips"),
            Column(name="ratings", label="Ratings"),
            Column(name="raters", label="Raters", about="who rated at least one of the clips (count)"),
            *(
                Column(name=f"by_{n}", label=f"By {n}", about=f"clips with {n} ratings (count)")
                for n in _raters(ratings)
            ),
            *levels,
            *(_share(kind) for kind in KINDS),
        ),
        rows=tuple(rows),
        notes=("The paper's Table 9 is not at hand; these are the counts behind its other tables.", *ratings.remarks),
    )


def table10(ratings: Ratings, *, resamples: int = 1000, seed: int = 42) -> ProtocolTable:
    """Table 10: Cronbach's alpha by emotion and overall; Krippendorff's ordinal alpha and Gwet's AC2 beside it.

    Args:
        ratings: of clips.
        resamples: of the clips, behind each interval (count).
        seed: of the resamples.
    """
    found = {
        target: rater_agreement(ratings.matrix([target]), levels=ratings.scale, resamples=resamples, seed=seed)
        for target in ratings.targets
    }
    order = sorted(found, key=lambda target: -_value(found[target]))
    whole = rater_agreement(ratings.matrix(), levels=ratings.scale, resamples=resamples, seed=seed)
    return ProtocolTable(
        name="table10",
        title="Agreement of raters",
        source=f"{PAPER}, Table 10",
        columns=(
            EMOTION,
            Column(name="alpha", label="Cronbach's alpha", better="higher", about="of the sum over raters"),
            Column(name="krippendorff", label="Krippendorff's alpha", better="higher", about="ordinal"),
            Column(name="gwet", label="Gwet's AC2", better="higher", about="with ordinal weights"),
            Column(name="clips", label="Clips"),
            Column(name="ratings", label="Ratings"),
            Column(name="raters", label="Raters"),
        ),
        rows=(*(_agreed(target, found[target]) for target in order), _agreed(OVERALL, whole)),
        notes=(
            f"Intervals are percentiles of {resamples:,} resamples of clips, seed {seed}.",
            "A clip has few of the raters: Cronbach's alpha is made of mean variances and covariances over the clips "
            "that raters share. The paper does not say what it does about missing raters.",
        ),
    )


_LEVELS = 11  # beyond, ratings are on no scale of a few levels


def _kinds(ratings: Ratings) -> pd.DataFrame:
    """Of which kind (1, else 0) each pair of clip and target with two ratings or more is."""
    items = ratings.items
    levels = items.to_numpy(np.float64)
    given, found = (~np.isnan(levels)).sum(1), ratings.present.sum(1)
    same = np.nanmax(levels, 1) == np.nanmin(levels, 1)
    each = (
        (found == given) & same,
        (found == given) & ~same,
        (found < given) & (2 * found > given),
        2 * found == given,
        (found > 0) & (2 * found < given),
        found == 0,
    )
    table = pd.DataFrame({kind.name: of for kind, of in zip(KINDS, each, strict=True)}, items.index)
    paired: pd.DataFrame = table.astype(np.float64).loc[given >= 2]
    return paired


def _share(kind: Kind) -> Column:
    return Column(name=kind.name, label=f"{kind.label} (%)", digits=1)


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def _raters(ratings: Ratings) -> list[int]:
    """How many ratings clips have."""
    return sorted(int(n) for n in ratings.items.notna().sum(axis=1).unique())


def _counted(ratings: Ratings, target: str, shares: Mapping[Hashable, float]) -> Row:
    table, items = ratings.table, ratings.items
    if target != OVERALL:
        table = table[table["target"] == target]
        items = items[items.index.get_level_values("target") == target]
    times = items.notna().sum(axis=1).value_counts()
    cells: dict[str, Cell] = {EMOTION.name: target, "clips": len(items), "ratings": len(table)}
    cells |= {"raters": int(table["rater"].nunique())}
    cells |= {f"by_{n}": int(times.get(n, 0)) for n in _raters(ratings)}
    cells |= {f"level_{level:g}": 100 * float((table["score"] == level).mean()) for level in ratings.scale[:_LEVELS]}
    return Row(cells=cells | {kind.name: _percent(shares[kind.name]) for kind in KINDS})


def _agreed(target: str, one: RaterAgreement) -> Row:
    cells: dict[str, Cell] = {EMOTION.name: target, "alpha": one.cronbach}
    cells |= {"krippendorff": one.krippendorff, "gwet": one.gwet}
    return Row(cells=cells | {"clips": one.clips, "ratings": one.ratings, "raters": one.raters})


def _value(one: RaterAgreement) -> float:
    return float("-inf") if one.cronbach.value is None else one.cronbach.value
