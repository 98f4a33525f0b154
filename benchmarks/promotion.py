"""How often a challenger is promoted, by the rule of `emonet.evaluation.promotion` and by the former one: a simulation.

    python -m benchmarks.promotion --trials 400

Errors of two models on the same clips are drawn, not trained: a difference of absolute errors per clip and emotion,
with a part of the speaker's and a heavy-tailed part of the clip's own, a tenth of whose variance all emotions share.
Spreads follow two trainings of small experts that differ in their seed alone: on the sandbox deviations of up to 0.3
within a speaker, on RAVDESS of up to 0.8, and of up to 0.13 between speakers (in units of the score).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from emonet.evaluation import (
    MARGIN,
    Estimate,
    PairwiseDifference,
    SwapTest,
    TargetDifference,
    describe,
    holm,
    independent,
    judge,
    resample,
    swapped,
)

ALPHA, RANGE, FORMER_MARGIN = 0.05, 4.0, 0.05
RESAMPLES, SWAPS = 1000, 1000
TAILS = 5  # degrees of freedom of the clips' part
SHARED = 0.1  # of its variance, by all emotions of a clip


@dataclass(frozen=True)
class Corpus:
    """Test clips.

    Args:
        speakers: count.
        clips: of each speaker (count).
        emotions: rated ones (count).
        within: deviation of a clip's difference of absolute errors (in units of the score).
        between: deviation of a speaker's mean difference (in units of the score).
    """

    speakers: int
    clips: int
    emotions: int
    within: float
    between: float


CORPORA = {
    "2 x 160, 40 (sandbox)": Corpus(2, 160, 40, 0.3, 0.0),
    "6 x 60, 7 (RAVDESS)": Corpus(6, 60, 7, 0.4, 0.06),
    "6 x 60, 40": Corpus(6, 60, 40, 0.4, 0.06),
    "12 x 10, 40": Corpus(12, 10, 40, 0.4, 0.06),
    "20 x 60, 40": Corpus(20, 60, 40, 0.4, 0.06),
}
CANDIDATES: Mapping[str, tuple[float, float]] = {
    "equal": (0.0, 0.0),
    "0.02 better everywhere": (-0.02, -0.02),
    "0.05 better everywhere": (-0.05, -0.05),
    "0.05 better, one 0.1 worse": (-0.05, 0.1),
    "0.05 better, one 0.2 worse": (-0.05, 0.2),
}
"""Label -> true difference of MAE of all emotions but one, and of that one."""


def differences(corpus: Corpus, rest: float, one: float, rng: np.random.Generator) -> np.ndarray:
    """Differences of absolute errors, shape (clips, emotions)."""
    count = corpus.speakers * corpus.clips
    own = rng.normal(size=(count, corpus.emotions)) * np.sqrt(1 - SHARED)
    mixed = own + rng.normal(size=(count, 1)) * np.sqrt(SHARED)
    heavy = mixed / np.sqrt(rng.chisquare(TAILS, size=(count, 1)) / TAILS) * np.sqrt((TAILS - 2) / TAILS)
    speakers = np.repeat(rng.normal(size=(corpus.speakers, corpus.emotions)), corpus.clips, axis=0)
    truth = np.full(corpus.emotions, rest)
    truth[0] = one
    return np.asarray(truth + corpus.within * heavy + corpus.between * speakers)


def compared(found: np.ndarray, speakers: Sequence[str], seed: int) -> tuple[PairwiseDifference, SwapTest]:
    """What `emonet.evaluation.comparison` would make of these differences, as far as the rules look at it."""
    counts, owner, _ = resample(speakers, RESAMPLES, seed)
    units = np.zeros((counts.shape[1], found.shape[1]))
    np.add.at(units, owner, found)
    drawn = counts @ units / (counts @ np.bincount(owner))[:, None]
    drawn, point = (np.concatenate([each, each.mean(-1, keepdims=True)], -1) for each in (drawn, found.mean(0)))
    low, high = np.percentile(drawn, [100 * ALPHA / 2, 100 - 100 * ALPHA / 2], axis=0)
    *maes, mean = (Estimate(value=v, low=a, high=b) for v, a, b in zip(point, low, high, strict=True))
    *p, of_mean = (float(one) for one in swapped(found, owner, permutations=SWAPS, seed=seed))
    emotions = {
        f"e{number}": TargetDifference(mae=mae, p=raw, p_holm=corrected, clips=len(found))
        for number, (mae, raw, corrected) in enumerate(zip(maes, p, holm(p), strict=True))
    }
    pair = PairwiseDifference(one="challenger", other="champion", mean={"mae": mean}, p=of_mean, emotions=emotions)
    return pair, describe(independent(speakers)[1], owner, found, SWAPS)


def formerly(pair: PairwiseDifference, test: SwapTest) -> bool:
    """The guard until version 0.1: no emotion significantly worse by an estimate above the margin."""
    for each in pair.emotions.values():
        if not test.confirms_emotions(ALPHA):
            worse = (each.mae.low or 0.0) > FORMER_MARGIN
        else:
            worse = (each.mae.value or 0.0) > FORMER_MARGIN and (each.p_holm or 0.0) <= ALPHA
        if worse:
            return False
    return True


def shares(corpus: Corpus, rest: float, one: float, margins: Sequence[float], trials: int, seed: int) -> list[float]:
    """Share of trials in which the former rule promotes, and then the rule with each margin."""
    rng = np.random.default_rng(seed)
    speakers = [f"s{number // corpus.clips}" for number in range(corpus.speakers * corpus.clips)]
    ranges = {f"e{number}": RANGE for number in range(corpus.emotions)}
    promoted = np.zeros(1 + len(margins))
    for trial in range(trials):
        pair, test = compared(differences(corpus, rest, one, rng), speakers, trial)
        verdicts = [judge(pair, test, ranges=ranges, margin=margin, alpha=ALPHA).promote for margin in margins]
        better = judge(pair, test, ranges=ranges, margin=1.0, alpha=ALPHA).promote  # no emotion is worse by all of it
        promoted += [better and formerly(pair, test), *verdicts]
    return [float(share) for share in promoted / trials]


def rows(margins: Sequence[float], trials: int, seed: int) -> Iterator[tuple[str, str, list[float]]]:
    """Corpus, candidate and shares, one after another."""
    for number, (corpus_name, corpus) in enumerate(CORPORA.items()):
        for candidate, (rest, one) in CANDIDATES.items():
            yield corpus_name, candidate, shares(corpus, rest, one, margins, trials, seed + number)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How often the promotion rules promote.")
    parser.add_argument("--trials", type=int, default=400, help="simulated comparisons behind each share (count)")
    parser.add_argument("--margins", type=float, nargs="+", default=[MARGIN / 2, MARGIN, 1.5 * MARGIN])
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(arguments)
    table = Table(
        "speakers x clips, emotions", "candidate", "formerly", *(f"margin {margin:g}" for margin in flags.margins)
    )
    for corpus, candidate, found in rows(flags.margins, flags.trials, flags.seed):
        table.add_row(corpus, candidate, *(f"{100 * share:.0f} %" for share in found))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
