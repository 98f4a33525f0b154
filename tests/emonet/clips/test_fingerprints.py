from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from emonet.clips import Clip
from emonet.clips.fingerprints import fingerprint
from emonet.schema import digest
from emonet.targets import EMOTIONS

NUMBERS = st.floats(0, 4) | st.integers(0, 4) | st.sampled_from([-0.0, 0.0, 1e-9, 0.1234567, float("nan")])
SCORES = st.dictionaries(st.sampled_from(EMOTIONS.ids) | st.just('a "% name'), NUMBERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def first_formula(clip: Clip, size: int) -> list[Any]:
    """What stores were made with."""
    audio: object = hashlib.sha256(clip.audio).hexdigest() if isinstance(clip.audio, bytes) else size
    scores = sorted((name, round(float(score), 6)) for name, score in clip.scores.items())
    known = [clip.id, audio, clip.start, clip.end, clip.speaker, clip.split, clip.language]
    return [*known, scores, clip.caption]


@given(st.lists(st.tuples(TEXTS, SCORES, st.none() | st.floats(0, 9), st.none() | TEXTS, st.booleans()), max_size=5))
def test_stores_of_older_releases_keep_their_corpora(rows: list[Any]) -> None:
    clips = [
        Clip(name, b"audio" if held else Path("a.wav"), name, "train", scores=scores, start=start, caption=caption)
        for name, scores, start, caption, held in rows
    ]
    sizes = [-1 if isinstance(clip.audio, bytes) else 1000 + i for i, clip in enumerate(clips)]
    before = digest([EMOTIONS.to_json(), [first_formula(c, s) for c, s in zip(clips, sizes, strict=True)]])
    assert fingerprint(clips, sizes, EMOTIONS.to_json()) == before


def test_names_that_are_no_text_have_fingerprints() -> None:
    one, other = (fingerprint([Clip(name, b"a", "s", "train")], [-1], []) for name in ("\udce4", "\udce5"))
    assert one != other
