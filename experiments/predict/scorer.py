"""Scores of files by a peer or a plug-in, for the verb `predict`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from emonet.clips import Clip
from emonet.errors import RequestError
from experiments.core import console
from experiments.predict.asked import Asked

if TYPE_CHECKING:
    from emonet.inference import Prediction
    from emonet.targets import TargetSpec
    from experiments.arguments import PredictArguments

# Flags that a scorer has no use for.
_OF_EXPERTS = ("model", "experts", "encoder", "experts_precision", "batch_size", "uncertainty", "rank_by")


def score_files(arguments: PredictArguments, asked: Sequence[Asked]) -> tuple[TargetSpec, Iterator[Prediction]]:
    """Let the scorer that `--scorer` names score files; one that it refuses is reported, and the rest is done.

    Args:
        arguments: of the verb.
        asked: to be scored, in order.

    Returns:
        What it scores, and a prediction for each.

    Raises:
        RequestError: if flags of another model are given as well, or the scorer is not installed or cannot be used.
        EmonetError: if the plug-in fails.
    """
    from emonet.inference import Prediction, strongest_first
    from emonet.peers import Terms, open_peer

    assert arguments.scorer is not None
    _refuse_others(arguments)
    if any(one.excerpt.channel is not None for one in asked):
        raise RequestError("a --scorer hears channels mixed", found="single channels", hint="--channels mix")
    scorer = open_peer(
        arguments.scorer,
        device=arguments.device,
        terms=Terms(arguments.runs / "peers", say=lambda text: console.say(console.name(text))),
    )
    names = [_id(one) for one in asked]
    clips = [
        Clip(name, one.audio, name, "test", start=one.start, end=one.end)
        for name, one in {name: one.excerpt for name, one in zip(names, asked, strict=True)}.items()
    ]
    with console.progress(f"scoring by {arguments.scorer}", "files") as progress:
        scored = scorer.score(clips, progress=progress)
    spec = scorer.target_spec
    rows = dict(zip([clip.id for clip in clips], scored.scores.to_numpy().tolist(), strict=True))
    return spec, (
        Prediction(name, error=scored.refusals[name])
        if name in scored.refusals
        else Prediction(name, strongest_first(dict(zip(spec.ids, rows[name], strict=True)), spec), seconds=math.nan)
        for name in names
    )


def _id(asked: Asked) -> str:
    """A name for each part."""
    start, end = asked.excerpt.start, asked.excerpt.end
    part = "" if start is None and end is None else f"#{start or 0!r}-{'' if end is None else repr(end)}"
    return asked.name + part


def _refuse_others(arguments: PredictArguments) -> None:
    """A scorer heeds none of the flags that say which experts score, and how."""
    for name in _OF_EXPERTS:
        value = getattr(arguments, name)
        if value != type(arguments).model_fields[name].default:
            flag = f"--{name.replace('_', '-')}"
            raise RequestError(f"{flag} means nothing to a --scorer", found=value, hint="give one of the two")
