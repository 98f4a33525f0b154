"""Hume's form: scores as the predictions JSON for prosody of its Expression Measurement API, which ended in 2026."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emonet.peers.labels import open_labels
from emonet.targets import TargetSpec

HUME_NAMES = (
    "Admiration", "Adoration", "Aesthetic Appreciation", "Amusement", "Anger", "Anxiety", "Awe", "Awkwardness",
    "Boredom", "Calmness", "Concentration", "Confusion", "Contemplation", "Contempt", "Contentment", "Craving",
    "Desire", "Determination", "Disappointment", "Disgust", "Distress", "Doubt", "Ecstasy", "Embarrassment",
    "Empathic Pain", "Entrancement", "Envy", "Excitement", "Fear", "Guilt", "Horror", "Interest", "Joy", "Love",
    "Nostalgia", "Pain", "Pride", "Realization", "Relief", "Romance", "Sadness", "Satisfaction", "Shame",
    "Surprise (negative)", "Surprise (positive)", "Sympathy", "Tiredness", "Triumph",
)  # fmt: skip
"""What its model of prosody told, in its order."""
UNKNOWN = "unknown"  # its id where it did not tell speakers apart


@dataclass(frozen=True)
class Utterance:
    """One prediction.

    Args:
        begin: seconds.
        end: seconds.
        scores: target id -> score.
        speaker: who speaks, if that is known.
        text: what is said, if that is known.
    """

    begin: float
    end: float
    scores: Mapping[str, float]
    speaker: str | None = None
    text: str | None = None


def hume_names(spec: TargetSpec) -> dict[str, str]:
    """Hume's name -> the target that stands for it (EmoNet-Voice's Table 8), of those that a model scores."""
    labels = open_labels("hume").labels
    found = {name: labels.get(name.casefold()) for name in HUME_NAMES}
    return {name: target for name, target in found.items() if target is not None and target in spec.ids}


def hume_source(
    file: str,
    utterances: Sequence[Utterance],
    spec: TargetSpec,
    error: str | None = None,
    *,
    recording: Path | None = None,
) -> dict[str, Any]:
    """A recording as an item of the predictions' list; names without an expert are left out.

    Args:
        file: the recording's name or path, as it is told: nothing is opened.
        utterances: of it, by time.
        spec: what the scores are of.
        error: why there are none, or no more.
        recording: the file itself, whose checksum is told; None tells none.
    """
    names = hume_names(spec)
    by_speaker: dict[str, list[dict[str, Any]]] = {}
    for one in utterances:
        by_speaker.setdefault(one.speaker or UNKNOWN, []).append(_prediction(one, names, spec))
    groups = [{"id": who, "predictions": predictions} for who, predictions in by_speaker.items()]
    models = {"prosody": {"metadata": None, "grouped_predictions": groups}}
    name = Path(file).name
    return {
        "source": {"type": "file", "filename": name, "content_type": None, "md5sum": _md5(recording)},
        "results": {
            "predictions": [{"file": name, "models": models}] if utterances else [],
            "errors": [] if error is None else [{"message": error, "file": name}],
        },
    }


def _prediction(one: Utterance, names: Mapping[str, str], spec: TargetSpec) -> dict[str, Any]:
    """Scores are shares of the target's scale, from 0 to 1; those of experts that leave it are cut."""
    shares = {name: min(1.0, max(0.0, spec[target].share(one.scores[target]))) for name, target in names.items()}
    return {
        "text": one.text,
        "time": {"begin": one.begin, "end": one.end},
        "confidence": None,
        "speaker_confidence": None,
        "emotions": [{"name": name, "score": share} for name, share in shares.items()],
    }


def _md5(path: Path | None) -> str:
    """Hume's checksum of a file; empty where there is none, or it cannot be read."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return ""
