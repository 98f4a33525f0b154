"""Timelines made by hand."""

from __future__ import annotations

import numpy as np

from emonet.segments import Segment
from emonet.targets import EMOTIONS, PUBLISHED
from emonet.timelines import ScoredSegment, Timeline

HOSTILE = "</script><script>alert(1)</script><!-- \" & 'x' $a_b$ \u2028 \udce4"


def small(**changed: object) -> Timeline:
    """Three segments of two speakers in 12 s; the last one is flagged, names are hostile."""
    scores = dict.fromkeys(EMOTIONS.ids, 0.1)
    rows = (
        (Segment(0.5, 3.5, HOSTILE, text="hello"), {"anger": 2.5, "fear": 0.8}, ()),
        (Segment(4.0, 7.0, "B"), {"anger": 0.5, "fear": 3.1}, ()),
        (Segment(7.5, 11.0, HOSTILE), {"anger": 3.9}, ("no speech", "unfamiliar")),
    )
    made = [
        ScoredSegment(
            segment,
            scores | given,
            uncertainties=dict.fromkeys(EMOTIONS.ids, 0.3),
            standardised={name: 4 * value - 1 for name, value in (scores | given).items()},
            unfamiliarity=0.5 + 0.3 * at,
            flags=flags,
            caption=f"They are furious. {HOSTILE}" if at == 0 else "",
        )
        for at, (segment, given, flags) in enumerate(rows)
    ]
    wave = np.abs(np.sin(np.linspace(0, 40, 600))) * 0.8
    fields = {
        "audio": f"/data/{HOSTILE}.wav",
        "seconds": 12.0,
        "model": "ravdess-base",
        "target_spec": EMOTIONS,
        "segments": tuple(made),
        "speech": (Segment(0.4, 7.1), Segment(7.5, 11.0)),
        "notices": (f"clipping: {HOSTILE}",),
        "envelope": tuple(zip((-wave).tolist(), wave.tolist(), strict=True)),
    }
    return Timeline(**{**fields, **changed})  # type: ignore[arg-type]


def long(hours: float = 10.0, count: int = 10_000, *, speakers: int = 3, overlap: float = 0.0) -> Timeline:
    """Many segments of a long recording, with slow changes in all 59 targets' scores.

    Args:
        hours: its length.
        count: of segments.
        speakers: who take turns.
        overlap: share of a segment that the next one covers, too.
    """
    chance = np.random.default_rng(0)
    seconds = 3600 * hours
    each = seconds / count
    at = np.arange(count)
    waves = np.sin(at[:, None] * chance.uniform(0.001, 0.02, len(PUBLISHED)) + chance.uniform(0, 6, len(PUBLISHED)))
    shares = np.clip(0.12 + 0.15 * waves + chance.normal(0, 0.04, waves.shape), 0, 1)
    scores = np.array(PUBLISHED.low) + shares * (np.array(PUBLISHED.high) - np.array(PUBLISHED.low))
    length = each * (1 + overlap) if overlap else 0.8 * each
    rows = []
    for row in range(count):
        values = dict(zip(PUBLISHED.ids, scores[row].tolist(), strict=True))
        rows.append(
            ScoredSegment(
                Segment(
                    row * each, min(seconds, row * each + length), f"speaker {row // 7 % speakers}" if speakers else ""
                ),
                values,
                uncertainties=dict.fromkeys(PUBLISHED.ids, 0.2),
                standardised={
                    name: 8 * float(share) - 1 for name, share in zip(PUBLISHED.ids, shares[row], strict=True)
                },
                unfamiliarity=float(chance.uniform(0.2, 1.1)),
                flags=("unfamiliar",) if row % 50 == 49 else (),
                caption="A woman speaks calmly, a little amused." if row % 3 == 0 else "",
            )
        )
    wave = np.clip(np.abs(chance.normal(0, 0.25, 400_000)), 0, 1)
    return Timeline(
        f"meeting-{hours:g}h.flac",
        seconds,
        "ravdess-base, version 3",
        PUBLISHED,
        tuple(rows),
        None,
        ("telephone bandwidth",),
        tuple(zip((-wave).tolist(), wave.tolist(), strict=True)),
    )
