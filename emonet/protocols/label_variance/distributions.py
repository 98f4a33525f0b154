"""Label variance: raters disagree, so a clip's label is a distribution, over grades or classes; rules of consensus.

Rules that ask for agreement drop the clips without it, also those that a model is tested on, so that figures under
different rules are figures of different clips. The all-inclusive rule (Chou et al.) keeps them all: the label is the
distribution of all ratings. Which clips each rule keeps is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int

from emonet.errors import RequestError, raise_collected, shortened
from emonet.protocols.tables import Column, ProtocolTable, Row
from emonet.targets import NO_CLASS

if TYPE_CHECKING:
    import pandas as pd

Rule = Literal["all_inclusive", "plurality", "majority"]
Consensus = Literal["plurality", "majority"]
CONSENSUS: tuple[Consensus, ...] = get_args(Consensus)
"""Rules that ask for one class."""

RULES: tuple[Rule, ...] = get_args(Rule)
ABOUT: Mapping[Rule, str] = {
    "all_inclusive": "every clip; its label is the distribution of all ratings",
    "plurality": "clips with one class that most raters chose; a tie drops the clip",
    "majority": "clips with a class that more than half of the raters chose",
}

_COLUMNS = ("clip", "rater", "target", "score")
_MOST_GRADES = 12  # more different scores are no grades but a scale without steps


@dataclass(frozen=True)
class Distributions:
    """How the raters of each clip are distributed over classes, or over grades of one target.

    Args:
        clips: ids.
        classes: names, or grades as text in ascending order.
        votes: how many ratings each class has.
        raters: who rated each clip (count); one at least.
    """

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    votes: Float64[np.ndarray, "clips classes"]
    raters: Int[np.ndarray, " clips"]

    @property
    def shares(self) -> Float64[np.ndarray, "clips classes"]:
        """The label of each clip under the all-inclusive rule; rows add up to 1."""
        shares: Float64[np.ndarray, "clips classes"] = self.votes / self.votes.sum(1, keepdims=True)
        return shares

    def consensus(self, rule: Consensus) -> Int[np.ndarray, " clips"]:
        """The one class of each clip by its position; `NO_CLASS` for those that the rule drops."""
        most = self.votes.max(1, keepdims=True)
        agreed = (self.votes == most).sum(1) == 1
        if rule == "majority":
            agreed &= most[:, 0] > self.raters / 2
        label: Int[np.ndarray, " clips"] = np.where(agreed, self.votes.argmax(1), NO_CLASS)
        return label

    def kept(self, rule: Rule) -> Bool[np.ndarray, " clips"]:
        """Which clips a rule keeps."""
        if rule == "all_inclusive":
            return np.ones(len(self.clips), bool)
        kept: Bool[np.ndarray, " clips"] = self.consensus(rule) != NO_CLASS
        return kept

    def of(self, clips: Sequence[str]) -> Distributions:
        """Those of some clips, in their order.

        Raises:
            RequestError: if one was not rated.
        """
        rows = {name: row for row, name in enumerate(self.clips)}
        if lacking := [name for name in clips if name not in rows]:
            raise RequestError(
                "clips have no rating",
                expected=f"ratings of {len(clips):,} clips",
                found=f"none of {len(lacking):,}: {shortened(lacking, 3)}",
            )
        order = np.array([rows[name] for name in clips], np.int64)
        return Distributions(tuple(clips), self.classes, self.votes[order], self.raters[order])


def grade_distributions(ratings: pd.DataFrame, target: str, *, grades: Sequence[float] | None = None) -> Distributions:
    """The probability density of each clip's grades of one target, as its raters gave them.

    Args:
        ratings: columns clip, rater, target and score, a row for each judgement.
        target: id.
        grades: that could be given, ascending; by default those that were given to any target.

    Raises:
        RequestError: if a column is missing, nobody rated the target, a rater rated a clip's target twice, a score is
            no number, or none of the grades.
    """
    table = _checked(ratings)
    steps = tuple(sorted(set(grades if grades is not None else table["score"].tolist())))
    if grades is None and len(steps) > _MOST_GRADES:
        raise RequestError(
            "scores have no grades",
            expected=f"at most {_MOST_GRADES} different ones, or the grades they are to be",
            found=f"{len(steps):,} different scores",
        )
    part = table[table["target"] == target]
    if part.empty:
        raise RequestError(
            f"nobody rated {target!r}", expected=f"one of {shortened(sorted(set(table['target'])), 6)}", found=target
        )
    if wrong := sorted(set(part["score"]) - set(steps)):
        raise RequestError(
            f"scores of {target} are none of the grades",
            expected=", ".join(f"{grade:g}" for grade in steps),
            found=", ".join(f"{score:g}" for score in wrong[:5]),
        )
    return _counted(part, part["score"].map({grade: row for row, grade in enumerate(steps)}), [f"{s:g}" for s in steps])


def class_distributions(
    ratings: pd.DataFrame, *, classes: Sequence[str] | None = None, above: float = 0.0
) -> tuple[Distributions, tuple[str, ...]]:
    """The distribution of each clip's ratings over classes; a rater may choose several, each of which is a vote.

    Args:
        ratings: columns clip, rater, target (the class) and score, a row for each judgement.
        classes: ids of the targets, in their order; by default all that were chosen, by name.
        above: scores above this choose the class.

    Returns:
        Those of the clips for which somebody chose a class, and the ids of the others.

    Raises:
        RequestError: if a column is missing, nobody chose any class, a rater rated a class twice, a score is no number,
            or fewer than two classes remain.
    """
    table = _checked(ratings)
    chosen = table[table["score"] > above]
    names = tuple(sorted(set(chosen["target"])) if classes is None else classes)
    chosen = chosen[chosen["target"].isin(names)]
    if len(names) < 2 or chosen.empty:
        raise RequestError(
            "there is nothing to be distributed",
            expected="votes for two classes at least",
            found=f"{len(chosen):,} votes for {shortened(names, 6) or 'no class'}",
        )
    found = _counted(chosen, chosen["target"].map({name: row for row, name in enumerate(names)}), names)
    silent = sorted(set(table["clip"]) - set(found.clips))
    return found, tuple(silent)


def rules_table(sets: Mapping[str, Distributions]) -> ProtocolTable:
    """Which clips each rule keeps, and how much their raters disagree.

    Args:
        sets: by name, such as that of a corpus or of a target; several are shown together, too.
    """
    columns = (
        Column(name="labels", label="Labels"),
        Column(name="rule", label="Rule"),
        Column(name="kept", label="Clips kept", about="by the rule (count)"),
        Column(name="clips", label="Clips", about="rated (count)"),
        Column(name="share", label="Kept", about="of the rated clips (0 to 1)"),
        Column(name="raters", label="Raters", digits=2, about="of a kept clip (mean)"),
        Column(name="entropy", label="Entropy", about="of a kept clip's distribution (mean, bits)"),
        Column(name="agreement", label="Agreement", about="ratings of a kept clip for its most frequent class (mean)"),
    )
    parts = {name: _disagreement(one) for name, one in sets.items()}
    if len(parts) > 1:
        parts["together"] = {key: np.concatenate([one[key] for one in parts.values()]) for key in _DISAGREEMENT}
    rows = []
    for name, figures in parts.items():
        for rule in RULES:
            kept = figures[rule] > 0
            means = {key: float(figures[key][kept].mean()) if kept.any() else None for key in _MEANS}
            counts = {"kept": int(kept.sum()), "clips": len(kept), "share": float(kept.mean())}
            rows.append(Row(cells={"labels": name, "rule": rule, **counts, **means}))
    return ProtocolTable(
        name="label_variance",
        title="Rules of consensus, and the clips that each keeps",
        source="All-inclusive rule (Chou et al., Interspeech 2024), beside plurality and majority",
        columns=columns,
        rows=tuple(rows),
        notes=(
            *(f"{rule}: {ABOUT[rule]}" for rule in RULES),
            "figures under different rules are of different clips, and cannot be compared",
        ),
    )


_MEANS = ("raters", "entropy", "agreement")
_DISAGREEMENT = (*_MEANS, *RULES)


def _disagreement(one: Distributions) -> dict[str, Float64[np.ndarray, " clips"]]:
    """Of each clip: raters, entropy (bits), share of the most frequent class, and 1 for each rule that keeps it."""
    shares = one.shares
    entropy = np.abs((shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0)).sum(1))
    columns = (one.raters, entropy, shares.max(1), *(one.kept(rule) for rule in RULES))
    return {key: column.astype(np.float64) for key, column in zip(_DISAGREEMENT, columns, strict=True)}


def _counted(part: pd.DataFrame, column: pd.Series[int], classes: Sequence[str]) -> Distributions:
    clips = sorted(set(part["clip"]))
    rows = part["clip"].map({name: row for row, name in enumerate(clips)})
    votes = np.zeros((len(clips), len(classes)))
    np.add.at(votes, (rows.to_numpy(np.int64), column.to_numpy(np.int64)), 1)
    raters = part.groupby("clip")["rater"].nunique()
    return Distributions(tuple(clips), tuple(classes), votes, raters.loc[clips].to_numpy(np.int64))


def _checked(ratings: pd.DataFrame) -> pd.DataFrame:
    if lacking := [name for name in _COLUMNS if name not in ratings.columns]:
        raise RequestError(
            "the table of ratings lacks columns", expected=", ".join(_COLUMNS), found=f"no {', '.join(lacking)}"
        )
    table = ratings[list(_COLUMNS)].astype({"clip": str, "rater": str, "target": str, "score": float})
    found = {
        "rated twice by the same rater": table[table.duplicated(["clip", "rater", "target"])],
        "scores that are no numbers": table[~np.isfinite(table["score"])],
    }
    problems = [
        f"{told}: {len(rows):,}, such as {', '.join(rows.iloc[0][['clip', 'rater', 'target']])}"
        for told, rows in found.items()
        if len(rows)
    ]
    problems += ["there are no ratings"] * table.empty
    raise_collected("the ratings cannot be used", problems)
    return table
