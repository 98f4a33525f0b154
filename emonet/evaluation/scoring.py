"""The protocol `Scorer`: clips in, a table of scores out, with a reason for each clip that it refuses.

The pipeline and the baselines are scorers; plug-ins bring other people's models, so that all are compared on the same
clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import numpy as np

from emonet.clips import Clip
from emonet.errors import EmonetError
from emonet.names import on_one_line
from emonet.runtime import Group, Plugin, Progress, ignore, name_and_argument, require_plugin
from emonet.targets import TargetSpec

if TYPE_CHECKING:
    import pandas as pd  # half a second, which the command line can do without until it scores

GROUP: Group = "emonet.scorers"


@dataclass(frozen=True)
class Scored:
    """What a scorer gives.

    Args:
        scores: one row per clip, by its id and in the order asked for; one column per target id. A clip that was
            refused has NaN throughout, any other one has finite scores.
        refusals: id of each clip that was refused -> why, in one line.
    """

    scores: pd.DataFrame
    refusals: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, clips: Sequence[Clip], targets: TargetSpec, found: Iterable[Sequence[float] | str]) -> Scored:
        """Put a table together.

        Args:
            clips: that were asked for.
            targets: whose scores they are.
            found: for each clip its scores, in the order of the targets, or the reason why it is refused.

        Raises:
            ValueError: if `found` has more or fewer entries than there are clips, or scores than targets.
        """
        import pandas as pd

        ids, refusals = [clip.id for clip in clips], {}
        scores = np.full((len(ids), len(targets)), np.nan)
        for row, (name, one) in enumerate(zip(ids, found, strict=True)):
            if isinstance(one, str):
                refusals[name] = one
            else:
                scores[row] = np.reshape(np.asarray(one, np.float64), len(targets))
        return cls(pd.DataFrame(scores, index=pd.Index(ids, name="id"), columns=list(targets.ids)), refusals)


@runtime_checkable
class Scorer(Protocol):
    """Scores clips, each for itself: neighbours do not matter.

    What `NAME[:ARGUMENT]` names is made by a call of the entry point `NAME` of the group `emonet.scorers`:
    `entry(argument, device=torch.device(...))`.
    """

    @property
    def target_spec(self) -> TargetSpec:
        """What it scores, and on which scales."""

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Score some clips; one that cannot be used is refused, and the rest is done.

        Args:
            clips: with unique ids; scores, labels and captions, if they have any, are not for it to see.
            progress: called with the number of finished clips.
        """


@final
class PluggedScorer:
    """A plug-in's scorer; what it gives is checked.

    Args:
        scorer: what the plug-in made.
        plugin: that made it.

    Raises:
        RequestError: if it is no `Scorer`.
    """

    def __init__(self, scorer: Any, plugin: Plugin) -> None:
        plugin.check(scorer, Scorer)
        self._scorer: Scorer = scorer
        self.plugin = plugin
        spec: Any = scorer.target_spec
        if not isinstance(spec, TargetSpec):
            raise plugin.refused(
                "does not say what it scores", expected="target_spec: an emonet.TargetSpec", found=type(spec).__name__
            )
        self.target_spec = spec

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """The plug-in's scores, checked; clips come to it without what people said of them: scores, label and caption.

        Raises:
            EmonetError: if the plug-in fails, or scores are not finite.
            RequestError: if it gives something else than scores of these clips and targets.
        """
        with self.plugin.guarded():
            scored: Any = self._scorer.score([_unrated(clip) for clip in clips], progress=progress)
        self._check_form(scored, [clip.id for clip in clips])
        known = ~scored.scores.index.isin(list(scored.refusals))
        values = scored.scores.to_numpy(np.float64, copy=True)
        wrong = known & ~np.isfinite(values).all(1)
        if wrong.any():
            raise EmonetError(
                f"the {self.plugin.label} gives scores that are not finite",
                where=scored.scores.index[wrong][0],
                expected="a finite score of each target, or a refusal with its reason",
                found=", ".join(f"{value:g}" for value in values[wrong][0][:5]),
            )
        refusals = {name: on_one_line(reason) for name, reason in scored.refusals.items()}
        values[~known] = np.nan
        return Scored(type(scored.scores)(values, scored.scores.index, scored.scores.columns), refusals)

    def _check_form(self, scored: Any, ids: list[str]) -> None:
        if not isinstance(scored, Scored):
            raise self.plugin.refused("gives no table", expected="an emonet.Scored", found=type(scored).__name__)
        table: Any = scored.scores
        columns, rows = (list(map(str, getattr(table, axis, ()))) for axis in ("columns", "index"))
        if columns != list(self.target_spec.ids):
            raise self.plugin.refused(
                "gives other columns than it has targets",
                expected=", ".join(self.target_spec.ids),
                found=", ".join(columns) or type(table).__name__,
            )
        unknown = sorted(set(map(str, scored.refusals)) - set(ids))
        if rows != ids or unknown:
            wrong = unknown or [f"{len(rows)} rows: {', '.join(rows[:3])}, ..."]
            raise self.plugin.refused(
                "gives scores of other clips than it was asked for",
                expected=f"{len(ids)} rows, by the clips' ids in their order: {', '.join(ids[:3])}, ...",
                found=", ".join(wrong[:3]),
            )


def open_scorer(name: str, *, device: str | None = None) -> PluggedScorer:
    """Make the scorer that `NAME[:ARGUMENT]` names.

    Args:
        name: of a plug-in, with what it makes of the argument.
        device: where it computes, e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.

    Raises:
        RequestError: if no installed package registers it, it cannot be used, or there is no such device.
    """
    from emonet.runtime import resolve_device

    known, argument = name_and_argument(name)
    plugin = require_plugin(known, GROUP)
    return PluggedScorer(plugin.call(argument, device=resolve_device(device)), plugin)


def _unrated(clip: Clip) -> Clip:
    return replace(clip, scores={}, weights={}, label=None, caption=None)
