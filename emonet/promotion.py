"""When a challenger replaces the champion: the rule, and what it says of a comparison, in words.

The challenger is promoted if all of this holds:

1. It scores every emotion that the champion scores.
2. The interval of the difference of the mean MAE, challenger less champion, lies below 0, and the permutation test
   confirms it: its p is at most `alpha`. With so few speakers that no p value could be that small, the interval alone
   counts. This is what a comparison's page calls better.
3. No emotion is significantly worse by more than a margin: none whose MAE is larger by more than the margin with a
   Holm-corrected p of at most `alpha`. With so few speakers that no corrected p value could be that small, an emotion
   is one if the whole interval of its difference lies above the margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emonet.comparison import EmotionDifference, PairwiseDifference
from emonet.evaluation import Estimate
from emonet.permutation import SwapTest

MARGIN = 0.05
_SHOWN = 5  # emotions in a sentence


@dataclass(frozen=True)
class Verdict:
    """What the rule says.

    Args:
        promote: whether the challenger replaces the champion.
        reasons: why, or why not, a sentence each.
    """

    promote: bool
    reasons: tuple[str, ...]


def judge(
    pair: PairwiseDifference,
    test: SwapTest,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    missing: Sequence[str] = (),
) -> Verdict:
    """Apply the rule of this module.

    Args:
        pair: challenger less champion.
        test: how its p values were made, and how small they can become.
        margin: by how much a single emotion's MAE may be significantly worse (in units of the score).
        alpha: largest p value that counts (0 to 1).
        missing: ids of emotions that the champion scores and the challenger does not.
    """
    checks = (
        _complete(pair, missing),
        _better(pair, alpha, testable=test.confirms(alpha)),
        _nowhere_worse(pair, margin, alpha, testable=test.confirms_emotions(alpha)),
    )
    return Verdict(promote=all(passed for passed, _ in checks), reasons=tuple(reason for _, reason in checks))


def _complete(pair: PairwiseDifference, missing: Sequence[str]) -> tuple[bool, str]:
    if missing:
        return False, f"{pair.one} has no expert for what {pair.other} scores: {_listed(list(missing))}"
    return True, f"{pair.one} scores every emotion that {pair.other} scores"


def _better(pair: PairwiseDifference, alpha: float, *, testable: bool) -> tuple[bool, str]:
    mean = pair.mean["mae"]
    figures = f"mean MAE {_figures(mean)} (below 0: {pair.one} is better)"
    if mean.high is None:
        return False, f"{figures}: there is no interval"
    if mean.high < 0 and not testable:
        return True, f"{figures}: the interval lies below 0; it alone counts: too few speakers for a p of {alpha:g}"
    if mean.high < 0:
        told = pair.tells(alpha)
        p = "undefined" if pair.p is None else f"{pair.p:.3g}"
        return told, f"{figures}: the interval lies below 0, p of {p} {'confirms' if told else 'does not confirm'} it"
    worse = mean.low is not None and mean.low > 0
    return False, f"{figures}: {'the interval lies above 0' if worse else 'the interval does not exclude 0'}"


def _nowhere_worse(pair: PairwiseDifference, margin: float, alpha: float, *, testable: bool) -> tuple[bool, str]:
    worse = {
        target: each for target, each in pair.emotions.items() if _is_worse(each, margin, alpha, testable=testable)
    }
    by = f"Holm-corrected p of at most {alpha:g}" if testable else "going by intervals: too few speakers for p values"
    if not worse:
        return True, f"no emotion is significantly worse by more than {margin:g} ({by})"
    ranked = sorted(worse, key=lambda target: -(worse[target].mae.value or 0))
    shown = [f"{target} {_figures(worse[target].mae)}" for target in ranked]
    return False, f"significantly worse by more than {margin:g} ({by}): {_listed(shown)}"


def _is_worse(each: EmotionDifference, margin: float, alpha: float, *, testable: bool) -> bool:
    if not testable:
        return each.mae.low is not None and each.mae.low > margin
    larger = each.mae.value is not None and each.mae.value > margin
    return larger and each.p_holm is not None and each.p_holm <= alpha


def _figures(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "undefined"
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
