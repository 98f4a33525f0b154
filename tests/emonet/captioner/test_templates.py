from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.captioner import named_emotions, strongest, write_caption
from emonet.captioner import templates as captions
from emonet.errors import RequestError
from emonet.targets import EMOTIONS, Target, TargetSpec

scores_of_some = st.dictionaries(
    st.sampled_from(EMOTIONS.ids),
    st.one_of(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0]), st.floats(0, 4, allow_subnormal=False)),
    min_size=1,
)


def write(scores: dict[str, float], seed: int = 0) -> str:
    return write_caption(scores, EMOTIONS, np.random.default_rng(seed))


@given(scores_of_some, st.integers(0, 2**32 - 1))
def test_the_first_named_emotion_is_the_strongest(scores: dict[str, float], seed: int) -> None:
    named = named_emotions(write(scores, seed), EMOTIONS)
    top = strongest(scores, EMOTIONS)
    assert (named[0] in top) if top else named == ()
    assert len(named) <= 3
    assert set(named) <= {name for name, score in scores.items() if score > 0}
    levels = [scores[name] for name in named]
    assert levels == sorted(levels, reverse=True)


@given(st.sampled_from(EMOTIONS.ids), st.integers(0, 2**32 - 1))
def test_unrated_emotions_are_never_mentioned(name: str, seed: int) -> None:
    scores = dict.fromkeys(EMOTIONS.ids, float("nan")) | {name: 3.0}
    assert named_emotions(write(scores, seed), EMOTIONS) == (name,)


def test_every_written_term_names_its_emotion_alone() -> None:
    for name, terms in captions._writable(EMOTIONS).items():
        for term in terms:
            assert named_emotions(f"One hears strong {term}.", EMOTIONS) == (name,)


def test_templates_name_no_emotion_themselves() -> None:
    words = [*captions._OPENINGS, *captions._NEUTRAL, *sum(captions._INTENSITIES, ())]
    assert [word for word in words if named_emotions(word.format("it"), EMOTIONS)] == []


@pytest.mark.parametrize(("score", "band"), [(0.3, 0), (1.0, 0), (2.0, 1), (3.0, 2), (3.6, 3), (4.0, 3)])
def test_intensity_words_follow_the_score(score: float, band: int) -> None:
    words = {word for seed in range(40) for word in write({"anger": score}, seed).split()}
    assert words & set(sum(captions._INTENSITIES, ())) == set(captions._INTENSITIES[band])


def test_faint_further_emotions_are_left_out() -> None:
    assert named_emotions(write({"anger": 3.0, "fear": 0.2}), EMOTIONS) == ("anger",)


def test_same_seed_same_caption_and_many_captions() -> None:
    assert write({"anger": 2.0}, 7) == write({"anger": 2.0}, 7)
    assert len({write({"anger": 2.0}, seed) for seed in range(100)}) > 20


def test_neutral_clips_have_captions_that_name_nothing() -> None:
    texts = {write({"anger": 0.0, "fear": 0.0}, seed) for seed in range(50)}
    assert len(texts) > 3
    assert all(named_emotions(text, EMOTIONS) == () for text in texts)


@pytest.mark.parametrize("scores", [{}, {"anger": float("nan")}])
def test_nothing_rated_is_an_error(scores: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="cannot be written without scores"):
        write(scores)


def test_scores_are_checked() -> None:
    with pytest.raises(RequestError, match="out of range"):
        write({"anger": 4.5})
    with pytest.raises(RequestError, match="no target called"):
        write({"angst": 1.0})


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Anger, then SADNESS, then anger again.", ("anger", "sadness")),
        ("A desire to harm.", ("malevolence",)),  # longest first: "desire" alone is longing
        ("A romantic desire and a carnal desire.", ("infatuation", "sexual_lust")),
        ("A strange disease; uneasy.", ()),  # "ease" is no word here
        ("Envy and bliss.", ()),  # each belongs to two emotions
        ("Impatience and Irritability", ("impatience",)),
        ("Hope/Enthusiasm/Optimism", ("hope",)),
        ("sexual lust", ("sexual_lust",)),
        ("self-pity", ("sadness",)),
        ("", ()),
    ],
)
def test_named_emotions(caption: str, expected: tuple[str, ...]) -> None:
    assert named_emotions(caption, EMOTIONS) == expected


def test_other_targets_than_the_taxonomy() -> None:
    spec = TargetSpec(
        (
            Target("calm_voice", "Calm voice", -1.0, 1.0, "", group="emotion"),
            Target("tense", "Tense", 0.0, 10.0, "", group="emotion"),
        )
    )
    caption = write_caption({"calm_voice": 0.0, "tense": 9.0}, spec, np.random.default_rng(0))
    assert named_emotions(caption, spec) == ("tense", "calm_voice")
    assert strongest({"calm_voice": -1.0, "tense": 0.0}, spec) == frozenset()
    assert named_emotions("anything", TargetSpec(())) == ()


def test_targets_without_a_name_of_their_own() -> None:
    spec = TargetSpec(
        (
            Target("a", "Same", 0.0, 4.0, "", group="emotion"),
            Target("b", "a/same/b", 0.0, 4.0, "", terms=("b",), group="emotion"),
            Target("c", "b", 0.0, 4.0, "", group="emotion"),
        )
    )
    with pytest.raises(RequestError, match="captions cannot name"):
        write_caption({"a": 1.0}, spec, np.random.default_rng(0))
