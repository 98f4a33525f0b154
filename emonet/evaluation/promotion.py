"""Promotion, the champion rule: a challenger wins if better in the mean and non-inferior in every target.

The challenger is promoted if all of this holds:

1. It scores every target that the champion scores.
2. The interval of the difference of the mean MAE, challenger less champion, lies below 0, and the permutation test
   confirms it: its p is at most `alpha`. With so few speakers that no p value could be that small, the interval alone
   counts. This is what a comparison's page calls better.
3. It is non-inferior in every emotion: the interval of the difference of that emotion's MAE ends below the margin,
   which is a share of the range of its scores.

That no emotion is *significantly worse* would be easy to pass with clips too few to tell anything. What is not worse
has to be shown: by an interval that excludes every difference as large as the margin (non-inferiority by confidence
interval: ICH E9, 1998, section 3.3.2; Piaggio et al. 2012, JAMA 308:2594). The interval is the comparison's own, so
that everybody sees in it why the verdict is what it is; the upper end of one of 95 % is a one-sided test at 2.5 %,
which is the custom there. All has to hold at once, for as many emotions as there are: an intersection-union test, whose
level is that of each test alone, without correction (Berger 1982, Technometrics 24:295). More emotions make it harder
to pass, never easier. Few speakers need no rule of their own: they make intervals wide.

An emotion that nobody rated is not judged, which is said. One that a single speaker or clip was rated for has no
interval: nothing is shown for it, and the challenger is not promoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emonet.evaluation.comparison import PairwiseDifference, TargetDifference
from emonet.evaluation.permutation import SwapTest

MARGIN = 0.025
"""Share of the range of an emotion's scores: 0.1 on a scale from 0 to 4."""
_SHOWN = 5  # emotions in a sentence


@dataclass(frozen=True)
class Verdict:
    """What the rule says.

    Args:
        promote: whether the challenger replaces the champion.
        reasons: why, or why not, a sentence each.
        unproven: ids of the emotions in which the challenger is not shown to be non-inferior.
    """

    promote: bool
    reasons: tuple[str, ...]
    unproven: tuple[str, ...] = ()


def judge(
    pair: PairwiseDifference,
    test: SwapTest,
    *,
    ranges: Mapping[str, float],
    margin: float = MARGIN,
    alpha: float = 0.05,
    missing: Sequence[str] = (),
    unrated: Sequence[str] = (),
) -> Verdict:
    """Apply the rule of this module.

    Args:
        pair: challenger less champion.
        test: how its p values were made, and how small they can become.
        ranges: target id -> highest less lowest score.
        margin: of non-inferiority, as a share of the range (0 to 1).
        alpha: largest p value that counts; intervals cover the rest (0 to 1).
        missing: ids of emotions that the champion scores and the challenger does not.
        unrated: ids of emotions that both score and nobody rated, beside those of `pair`.
    """
    rated = {target: each for target, each in pair.emotions.items() if each.mae.value is not None}
    unproven = {
        target: each
        for target, each in rated.items()
        if each.mae.high is None or each.mae.high >= margin * ranges[target]
    }
    skipped = [*(target for target in pair.emotions if target not in rated), *unrated]
    rule = f"the {100 * (1 - alpha):g} % interval ends below {100 * margin:g} % of the range"
    checks = (
        _complete(pair, missing),
        _better(pair, alpha, testable=test.confirms(alpha)),
        _non_inferior(rated, unproven, {target: margin * ranges[target] for target in rated}, rule, skipped),
    )
    promote = all(passed for passed, _ in checks)
    return Verdict(promote=promote, reasons=tuple(reason for _, reason in checks), unproven=tuple(unproven))


def _complete(pair: PairwiseDifference, missing: Sequence[str]) -> tuple[bool, str]:
    if missing:
        return False, f"{pair.one} has no expert for what {pair.other} scores: {_listed(missing)}"
    return True, f"{pair.one} scores every target that {pair.other} scores"


def _better(pair: PairwiseDifference, alpha: float, *, testable: bool) -> tuple[bool, str]:
    mean = pair.mean["mae"]
    figures = f"mean MAE {mean:+} (below 0: {pair.one} is better)"
    if mean.high is None:
        return False, f"{figures}: there is no interval"
    if mean.high < 0 and not testable:
        return True, f"{figures}: the interval lies below 0; it alone counts: too few speakers for a p of {alpha:g}"
    if mean.high < 0:
        told = pair.is_significant(alpha)
        p = "undefined" if pair.p is None else f"{pair.p:.3g}"
        return told, f"{figures}: the interval lies below 0, p of {p} {'confirms' if told else 'does not confirm'} it"
    worse = mean.low is not None and mean.low > 0
    return False, f"{figures}: {'the interval lies above 0' if worse else 'the interval does not exclude 0'}"


def _non_inferior(
    rated: Mapping[str, TargetDifference],
    unproven: Mapping[str, TargetDifference],
    margins: Mapping[str, float],
    rule: str,
    skipped: Sequence[str],
) -> tuple[bool, str]:
    """Whether every emotion is shown to be no worse than by its margin."""

    def told(target: str) -> str:
        mae = rated[target].mae
        without = "" if mae.high is not None else " (no interval: rated for one speaker or clip)"
        return f"{target} {mae:+}{without}, margin {margins[target]:g}"

    def nearness(target: str) -> float:
        high = rated[target].mae.high
        return float("inf") if high is None else high / margins[target] if margins[target] else high

    ranked = sorted(rated, key=nearness, reverse=True)
    also = f"; not judged, since nobody rated it here: {_listed(skipped)}" if skipped else ""
    if not rated:
        return False, f"no target can be shown to be no worse: nobody rated any{also}"
    if not unproven:
        return True, f"no target is worse, of {len(rated)}: {rule}; nearest is {told(ranked[0])}{also}"
    shown = _listed([told(target) for target in ranked[: len(unproven)]], "; ")
    return False, f"that no target is worse is not shown for {len(unproven)} of {len(rated)} ({rule}): {shown}{also}"


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more
