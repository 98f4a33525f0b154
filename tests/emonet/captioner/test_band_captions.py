from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.captioner import bands, named_emotions, rated_in_words, said_bands, strongest, write_caption
from emonet.captioner.band_captions import BANDS, MOST
from emonet.targets import ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, Target, TargetSpec

VAD = TargetSpec(tuple(Target(name, name.title(), 1, 7, "") for name in ("arousal", "valence", "dominance")))
MANY = TargetSpec(tuple(Target(f"t{number}", f"Target {number}", -1, 1, "") for number in range(30)))
SPECS = [VAD, MANY, ATTRIBUTES, QUALITY, PUBLISHED]


def write(scores: dict[str, float], spec: TargetSpec, seed: int = 0) -> str:
    return write_caption(scores, spec, np.random.default_rng(seed))


@given(st.sampled_from(SPECS), st.data(), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_back(spec: TargetSpec, data: st.DataObject, seed: int) -> None:
    shares = data.draw(st.dictionaries(st.sampled_from(spec.ids), st.floats(0, 1, allow_subnormal=False), min_size=1))
    scores = {name: min(spec[name].low + share * (spec[name].high - spec[name].low), spec[name].high)
              for name, share in shares.items()}  # fmt: skip
    caption = write(scores, spec, seed)
    told = bands(spec.shares(scores), spec)
    assert said_bands(caption, spec) == told
    assert len(told) == min(MOST, sum(name in spec.apart for name in scores))
    named, top = named_emotions(caption, spec), strongest(scores, spec)
    assert named[0] in top if top else not named


def test_bands_are_thirds_of_the_scale() -> None:
    found = [bands(VAD.shares({"arousal": score}), VAD)["arousal"] for score in (1, 2.9, 3.1, 4.9, 5.1, 7)]
    assert found == ["low", "low", "medium", "medium", "high", "high"]
    assert set(found) == set(BANDS)


def test_a_caption_tells_all_bands_in_the_order_of_the_set() -> None:
    text = "low arousal, medium valence and high dominance"
    scores = {"dominance": 6.5, "arousal": 1.0, "valence": 4.0}
    assert {write(scores, VAD, seed) for seed in range(40)} == {
        f"The voice has {text}.", f"One hears {text}.", f"There is {text} in the voice."}  # fmt: skip
    assert rated_in_words(scores, VAD) == "low arousal, medium valence, high dominance"
    assert rated_in_words({}, VAD) == "nothing rated"


def test_of_many_targets_those_farthest_from_the_middle_are_told() -> None:
    shares = {name: abs(number - 15) / 30 + 0.5 for number, name in enumerate(MANY.ids)}
    told = bands(shares, MANY)
    assert tuple(told) == tuple(name for name in MANY.ids if name in told)
    assert min(shares[name] for name in told) >= sorted(shares.values())[-MOST]


def test_emotions_come_first_and_the_rest_in_a_sentence_of_its_own() -> None:
    caption = write({"anger": 4, "arousal": 4, "valence": -3}, PUBLISHED)
    first, second = caption.split(". ")
    assert named_emotions(first, PUBLISHED) == ("anger",)
    assert second.endswith("low valence and high arousal.")
    assert rated_in_words({"anger": 0, "valence": 3}, PUBLISHED) == "strongest nothing, high valence"


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("HIGH  Arousal and low\nvalence", {"arousal": "high", "valence": "low"}),
        ("low arousal, high arousal", {"arousal": "low"}),
        ("arousal is high", {}),
        ("highest arousal, high arousals", {}),
        ("", {}),
    ],
)
def test_how_a_sentence_is_read(caption: str, said: dict[str, str]) -> None:
    assert said_bands(caption, VAD) == said
    assert said_bands(caption, EMOTIONS) == {}
