"""Scores of files by a peer or a plug-in, for the verb `predict`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.names import as_text
from experiments.core import console

if TYPE_CHECKING:
    from emonet.inference import Prediction
    from emonet.targets import TargetSpec
    from experiments.arguments import PredictArguments

# Flags that a scorer has no use for.
_OF_EXPERTS = ("model", "experts", "encoder", "experts_precision", "batch_size", "uncertainty")


def score_files(arguments: PredictArguments, files: Sequence[Path]) -> tuple[TargetSpec, Iterator[Prediction]]:
    """Let the scorer that `--scorer` names score files; one that it refuses is reported, and the rest is done.

    Args:
        arguments: of the verb.
        files: to be scored, in order.

    Returns:
        What it scores, and a prediction for each file.

    Raises:
        RequestError: if flags of another model are given as well, or the scorer is not installed or cannot be used.
        EmonetError: if the plug-in fails.
    """
    from emonet.inference import Prediction, strongest_first
    from emonet.peers import Terms, open_peer

    assert arguments.scorer is not None
    _refuse_others(arguments)
    scorer = open_peer(
        arguments.scorer,
        device=arguments.device,
        terms=Terms(arguments.runs / "peers", say=lambda text: console.say(console.name(text))),
    )
    names = [as_text(path) for path in files]
    clips = [Clip(name, path, name, "test") for name, path in dict(zip(names, files, strict=True)).items()]
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


def _refuse_others(arguments: PredictArguments) -> None:
    """A scorer heeds none of the flags that say which experts score, and how."""
    for name in _OF_EXPERTS:
        value = getattr(arguments, name)
        if value != type(arguments).model_fields[name].default:
            flag = f"--{name.replace('_', '-')}"
            raise RequestError(f"{flag} means nothing to a --scorer", found=value, hint="give one of the two")
