"""A comparison with everything that is hard to show, which the tests of its tables and its page share."""

from __future__ import annotations

import numpy as np

from emonet.configs import EvaluationConfig
from emonet.evaluation import Classified, Contender, ContenderFacts, compare
from emonet.targets import EMOTIONS
from experiments.compare.page import ComparisonFindings

HOSTILE = '<script>alert("x")</script> & [bold]$1$'


def findings(
    *, clips: int = 60, speakers: int = 15, models: int = 2, targets: int = 6, seed: int = 0, classes: bool = False
) -> ComparisonFindings:
    """Models of falling quality and a baseline; the third emotion is never rated, the second model saw some clips.

    Args:
        clips: how many (count).
        speakers: how many (count).
        models: how many, at most 4 (count).
        targets: the first so many emotions (count).
        seed: of the scores.
        classes: whether clips have labels, of two classes.
    """
    rng = np.random.default_rng(seed)
    spec = EMOTIONS.subset(EMOTIONS.ids[:targets])
    given = rng.integers(0, 5, (clips, targets)).astype(np.float32)
    labels = ("good", HOSTILE, "models:/emonet-voice@a-name-that-is-too-long-for-any-column/12", "fourth")
    facts = (
        ContenderFacts(
            source="runs/good/voice", seen_clips=0, parameters=88_154_112, megabytes=353.2, milliseconds=87.1,
            memory_mib=1022.5, details={"Store": "9f8e7d6c5b4a"},
        ),
        ContenderFacts(seen_clips=12),
        ContenderFacts(),
        ContenderFacts(seen_clips=0),
    )  # fmt: skip
    contenders = [
        Contender(label, (given + rng.normal(0, 0.3 + 0.3 * rank, given.shape)).astype(np.float32), fact)
        for rank, (label, fact) in enumerate(zip(labels[:models], facts, strict=False))
    ]
    contenders.append(Contender("median", np.ones_like(given), ContenderFacts(baseline=True, seen_clips=0)))
    truth = np.where(rng.random(given.shape) < 0.1, np.nan, given).astype(np.float32)
    truth[:, 2] = np.nan
    comparison = compare(
        truth,
        contenders,
        targets=spec.ids,
        speakers=[f"s{row % speakers}" for row in range(clips)],
        config=EvaluationConfig(resamples=40),
        permutations=20_000,
        scale=spec.scale,
        classified=None
        if not classes
        else Classified(
            {target: f"{target} & <co>" for target in spec.ids[:2]},
            np.arange(clips) % 2,
            {each.label: (np.arange(clips) + (rng.random(clips) < 0.2)) % 2 for each in contenders[:models]}
            | {"majority": np.zeros(clips, int)},
        ),
    )
    return ComparisonFindings(
        comparison=comparison,
        spec=spec,
        truth=truth,
        predictions={each.label: each.predictions for each in contenders},
        facts={"Corpus": "a & <b>", "Command": "emonet compare a b"},
        note="a stand-in <for> speech",
        warnings=("one was trained on these clips",),
        decision=("@champion stays", "it is not better"),
    )
