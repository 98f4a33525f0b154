"""Scorers as models of a comparison, peers and plug-ins: `scorer:NAME[:ARGUMENT]`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emonet.errors import RequestError, raise_collected
from emonet.evaluation import ContenderFacts
from emonet.schema import digest
from experiments.compare.clips import ComparedClips
from experiments.compare.predictions import Predicted
from experiments.core import console

if TYPE_CHECKING:
    from emonet.evaluation import Scored
    from emonet.peers import Peer
    from emonet.targets import TargetSpec

SCORER = "scorer:"


@dataclass(frozen=True)
class ComparedScorer:
    """A scorer to compare.

    Args:
        given: what was typed.
        scorer: that it names.
    """

    given: str
    scorer: Peer
    version: None = None  # none is registered
    calibrated: None = None
    encoder_digest: None = None

    @property
    def label(self) -> str:
        """What tables call it: as it was typed, since a plug-in may have the name of a baseline."""
        return self.given

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that it scores."""
        return self.target_spec.ids

    @property
    def target_spec(self) -> TargetSpec:
        """What they are."""
        return self.scorer.target_spec

    @property
    def identity(self) -> str:
        """What tells it from another model, as far as that can be known."""
        return digest([self.given, self.scorer.identity])

    def facts(self, milliseconds: float) -> ContenderFacts:
        """What it is and costs.

        Args:
            milliseconds: time per clip, decoding included (ms).
        """
        return ContenderFacts(source=self.given, milliseconds=milliseconds, details=dict(self.scorer.about))


@dataclass(frozen=True)
class ScoredClips:
    """What the scorers of a comparison gave.

    Args:
        ids: of the clips that none of them refused.
        predicted: by label, of these clips.
        notes: what is said of the others.
    """

    ids: list[str]
    predicted: dict[str, Predicted]
    notes: list[str]


def open_scorers(given: Sequence[str], runs: Path = Path("runs")) -> tuple[ComparedScorer, ...]:
    """Make the scorers that were typed.

    Args:
        given: each `scorer:NAME[:ARGUMENT]`.
        runs: folder below which the answers of services are kept.

    Raises:
        RequestError: if one was given twice, is not installed, or cannot be used.
    """
    from emonet.peers import Terms, open_peer

    twice = sorted({one for one in given if list(given).count(one) > 1})
    raise_collected("a model was given more than once", twice, hint="name each model once")
    terms = Terms(runs / "peers", say=lambda text: console.say(console.name(text)))
    return tuple(ComparedScorer(one, open_peer(one.removeprefix(SCORER), terms=terms)) for one in given)


def score(
    scorers: Sequence[ComparedScorer], clips: ComparedClips, ids: Sequence[str], targets: Sequence[str]
) -> ScoredClips:
    """Let each scorer score the same clips; those that one of them refuses are left out for all.

    Args:
        scorers: of the comparison.
        clips: of the comparison.
        ids: of those that every other model has states of, in order.
        targets: ids, in the order of the columns.

    Raises:
        RequestError: if the audio is not at hand, or no clip is left.
        EmonetError: if a plug-in fails, or gives something else than scores.
    """
    if not scorers:
        return ScoredClips(list(ids), {}, [])
    there = {clip.id: clip for clip in clips.part().clips}
    wanted = [there[name] for name in ids]
    scored: dict[str, tuple[Scored, float]] = {}
    for one in scorers:
        with console.progress(f"scoring by {one.label}") as progress:
            started = time.perf_counter()
            found = one.scorer.score(wanted, progress=progress)
            scored[one.label] = found, 1000 * (time.perf_counter() - started) / max(1, len(wanted))
    refused = {name for found, _ in scored.values() for name in found.refusals}
    kept = [name for name in ids if name not in refused]
    notes = [_refusals(label, found, len(ids)) for label, (found, _) in scored.items() if found.refusals]
    if not kept:
        raise RequestError(
            "no clip is left that every scorer accepts",
            where=f"{clips.on}, split {clips.split}",
            found="; ".join(notes),
        )
    predicted = {
        label: Predicted(found.scores.loc[kept, list(targets)].to_numpy(np.float64), milliseconds)
        for label, (found, milliseconds) in scored.items()
    }
    return ScoredClips(kept, predicted, notes)


def _refusals(label: str, found: Scored, clips: int) -> str:
    name, reason = next(iter(found.refusals.items()))
    many = f"{len(found.refusals)} of {console.counted(clips, 'clip')}"
    return f"left out for all models, since {label} refuses them: {many}; the first is {name}: {reason}"
