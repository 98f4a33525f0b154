"""openSMILE and a ridge or support vector regression as scorers, fitted on the training clips of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import final

import numpy as np

from emonet.baselines import Wanted, chosen_baselines, fit_baselines
from emonet.clips import Clip
from emonet.corpora import open_corpus
from emonet.errors import RequestError
from emonet.evaluation import Scored
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS, TargetSpec
from emonet.windows import PRETRAINED_SECONDS, Window


@final
class Regression:
    """A baseline as a scorer of any clips; `fingerprint` is that of the corpus.

    Args:
        name: `egemaps_ridge`, for example.
        corpus: that it is fitted on: its train split, with penalties by validation.
        targets: that it scores, those that the corpus rates; None is the emotions.

    Raises:
        RequestError: if openSMILE is not installed, or the corpus has no clips to fit on.
        AudioError: if one of these cannot be decoded.
    """

    def __init__(self, name: str, corpus: str, targets: TargetSpec | None) -> None:
        chosen_baselines((name,), 0)  # type: ignore[arg-type]
        if not corpus:
            raise RequestError(f"{name} needs a corpus to be fitted on", expected=f"{name}:CORPUS")
        opened = open_corpus(corpus, targets=EMOTIONS if targets is None else targets)
        clips = {split: [c for c in opened.clips if c.split == split and c.scores] for split in ("train", "validation")}
        rated = [set().union(*(clip.scores for clip in part)) for part in clips.values()]
        both = set.intersection(*rated)
        if not both:
            raise RequestError(
                "the corpus has no clips to fit on",
                where=corpus,
                expected="rated clips in train and validation",
                found=", ".join(f"{len(part)} in {split}" for split, part in clips.items()),
            )
        self.fingerprint = opened.fingerprint
        self.target_spec = opened.targets.subset(both)
        truth = {
            split: np.array(
                [[clip.scores.get(one, np.nan) for one in self.target_spec.ids] for clip in part], np.float32
            )
            for split, part in clips.items()
        }
        wanted = Wanted((name,), Window(PRETRAINED_SECONDS))
        fitted = fit_baselines(clips, truth, self.target_spec, wanted, lambda _: nullcontext(ignore))  # type: ignore[arg-type]
        self._scorer = fitted[name]
        self._speakers = {clip.speaker for part in clips.values() for clip in part}

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Unclamped scores; a clip of a speaker that it was fitted on is refused, and one that cannot be decoded."""
        known = {clip.id for clip in clips if clip.speaker in self._speakers}
        scored = self._scorer.score([clip for clip in clips if clip.id not in known], progress=progress)
        rows = scored.scores.to_numpy().tolist()
        found = {
            name: scored.refusals.get(name, row) for name, row in zip(scored.scores.index, rows, strict=True)
        } | dict.fromkeys(known, "it was fitted on this speaker")
        return Scored.of(clips, self.target_spec, [found[clip.id] for clip in clips])
