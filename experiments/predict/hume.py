"""Predictions in Hume's form, and which of its names the model has no expert for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emonet.names import as_text
from emonet.targets import TargetSpec
from experiments.core import console
from experiments.predict.results import FilePrediction, PredictResult


def as_hume(result: PredictResult, spec: TargetSpec) -> list[dict[str, Any]]:
    """An item for each recording; says which names are left out."""
    from emonet.peers import HUME_NAMES, Utterance, hume_names, hume_source

    known = hume_names(spec)
    absent = [name for name in HUME_NAMES if name not in known]
    console.say(f"hume: {len(known)} of its {len(HUME_NAMES)} names have an expert here; left out: {', '.join(absent)}")
    by_file: dict[str, list[FilePrediction]] = {}
    for one in result.predictions:
        by_file.setdefault(one.audio, []).append(one)
    sources = []
    for file, parts in by_file.items():
        heard = [
            Utterance(*_times(one), one.scores, one.speaker or _channel(one), one.text) for one in parts if one.scores
        ]
        errors = [one.error for one in parts if one.error is not None]
        error = "; ".join(dict.fromkeys(errors)) or None
        sources.append(hume_source(as_text(file), heard, spec, error, recording=Path(file)))
    return sources


def _times(one: FilePrediction) -> tuple[float, float]:
    """Where a part begins and ends (seconds)."""
    begin = one.start or 0.0
    return begin, begin + (one.seconds or one.total or 0.0) if one.end is None else one.end


def _channel(one: FilePrediction) -> str | None:
    return None if one.channel is None else f"channel {one.channel + 1}"
