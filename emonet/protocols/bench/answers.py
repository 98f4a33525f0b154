"""Answers: what one model says of a benchmark's clips, checked, on the scale from 0 to 10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from emonet.errors import RequestError, shortened
from emonet.evaluation import Scored
from emonet.protocols.ratings import on_ten
from emonet.targets import PUBLISHED, TargetSpec


@dataclass(frozen=True)
class Answers:
    """Scores of one model.

    Args:
        scored: by clip id; what was refused is NaN throughout and has a reason.
        spec: the scales of its scores.
    """

    scored: Scored
    spec: TargetSpec = PUBLISHED

    def on_ten(
        self, clips: Sequence[str], targets: Sequence[str], model: str = "the model"
    ) -> Float64[np.ndarray, "clips targets"]:
        """Scores from 0 to 10 of these clips and targets; NaN where the clip was refused, or it scores no such target.

        Args:
            clips: ids of the benchmark's clips.
            targets: ids.
            model: its name, for messages.

        Raises:
            RequestError: if it answers for other clips or twice for one, or a score is not finite without a refusal.
        """
        self._check(clips, model)
        table = self.scored.scores.loc[list(clips)]
        values = np.full((len(clips), len(targets)), np.nan)
        for column, target in enumerate(targets):
            if target in table.columns and target in self.spec.ids:
                one = table[target].to_numpy(np.float64)
                values[:, column] = on_ten(one[:, None], self.spec.subset([target]))[:, 0]
        return values

    def _check(self, clips: Sequence[str], model: str) -> None:
        table, wanted = self.scored.scores, set(clips)
        times = Counter(map(str, table.index))
        missing, other = [name for name in clips if name not in times], [name for name in times if name not in wanted]
        twice = [name for name, count in times.items() if count > 1]
        if missing or other or twice:
            found = [f"no answer for {shortened(missing, 3)}"] if missing else []
            found += [f"answers for {shortened(other, 3)}"] if other else []
            found += [f"two answers for {shortened(twice, 3)}"] if twice else []
            raise RequestError(
                f"{model} answers for other clips than the benchmark has",
                expected=f"one answer for each of its {len(wanted):,} clips",
                found="; ".join(found),
                hint="a clip that it cannot answer for is refused, with a reason",
            )
        answered = ~table.index.isin(list(self.scored.refusals))
        wrong = answered & ~np.isfinite(table.to_numpy(np.float64)).all(1)
        if wrong.any():
            names = [str(name) for name in table.index[wrong]]
            raise RequestError(
                f"{model} gives scores that are not finite",
                expected="a finite score of each target, or a refusal with its reason",
                found=f"{len(names):,} of {len(wrong):,} clips: {shortened(names, 3)}",
            )
