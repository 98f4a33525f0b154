from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.clips import Clip, ClipColumns, Clips, Corpus, GatheredClips, join, values_of
from emonet.clips.columns import BLOCK
from emonet.clips.fingerprints import fingerprint
from emonet.errors import RequestError
from emonet.targets import EMOTIONS
from tests.emonet.clips.made import CLIPS, plain

LISTS = st.lists(CLIPS, max_size=6)
FIELDS = ("id", "audio", "speaker", "split", "language", "caption", "label", "start", "end", "weight", "weights")


def clip(name: str, **changes: object) -> Clip:
    return replace(Clip(name, b"audio", f"speaker-{name}", "train", "en", {"anger": 2.0}), **changes)


def columns_of(clips: Sequence[Clip]) -> Clips:
    return Clips(ClipColumns.of(clips))


@settings(max_examples=30)
@given(LISTS)
def test_clips_come_out_of_columns_as_they_went_in(clips: list[Clip]) -> None:
    made = columns_of(clips)
    assert len(made) == len(clips)
    assert list(map(plain, made)) == list(map(plain, clips))
    assert [plain(made[row]) for row in range(-len(clips), 0)] == list(map(plain, clips))
    assert list(map(plain, made[1::2])) == list(map(plain, clips[1::2]))
    assert list(map(plain, pickle.loads(pickle.dumps(made)))) == list(map(plain, clips))
    for name in FIELDS:
        assert values_of(made, name) == values_of(clips, name) == [getattr(one, name) for one in clips]


@settings(max_examples=30)
@given(LISTS, LISTS, st.lists(st.booleans(), max_size=12))
def test_columns_are_joined_and_chosen_from(first: list[Clip], second: list[Clip], wanted: list[bool]) -> None:
    clips, columns = [*first, *second], ClipColumns.joined([ClipColumns.of(first), ClipColumns.of(second)])
    assert list(map(plain, Clips(columns))) == list(map(plain, clips))
    wanted = [*wanted, *[True] * len(clips)][: len(clips)]
    some = Clips(columns).where(np.array(wanted, bool))
    chosen = [plain(one) for one, want in zip(clips, wanted, strict=True) if want]
    assert list(map(plain, some)) == list(map(plain, Clips(some.columns))) == chosen
    every_second = some.where(np.arange(len(some)) % 2 == 1)
    assert list(map(plain, every_second)) == chosen[1::2]


@settings(max_examples=30)
@given(LISTS)
def test_the_fingerprint_is_the_same_however_clips_are_held(clips: list[Clip]) -> None:
    sizes, targets = range(len(clips)), EMOTIONS.to_json()
    assert fingerprint(columns_of(clips), sizes, targets) == fingerprint(clips, sizes, targets)


@settings(max_examples=30)
@given(LISTS)
def test_scores_and_weights_are_those_of_the_clips(clips: list[Clip]) -> None:
    clips = [replace(one, id=f"{n}", speaker=f"s{n}", audio=b"%d" % n) for n, one in enumerate(clips)]
    corpus = Corpus("c", columns_of(clips))
    scores, weights = np.full((len(clips), 40), np.nan, np.float32), np.ones((len(clips), 40), np.float32)
    for row, one in enumerate(clips):
        for name, score in one.scores.items():
            if one.scores.keys() & {"anger", "Anger"} != {"anger", "Anger"} or name not in {"anger", "Anger"}:
                scores[row, EMOTIONS.index(name)] = score
        weights[row] = one.weight
        for name, weight in one.weights.items():
            weights[row, EMOTIONS.index(name)] *= np.float32(weight)
    both = [row for row, one in enumerate(clips) if {"anger", "Anger"} <= one.scores.keys()]
    mine = corpus.scores()
    mine[both, EMOTIONS.index("anger")] = np.nan  # either may be meant
    np.testing.assert_array_equal(mine, scores)
    np.testing.assert_array_equal(corpus.weights(), weights)
    np.testing.assert_array_equal(corpus.scores(clips), corpus.scores())
    assert set(corpus.rated) == {EMOTIONS.ids[EMOTIONS.index(name)] for one in clips for name in one.scores}
    assert corpus.labels == tuple(sorted({one.label for one in clips if one.label is not None}))


def test_clips_equal_any_sequence_of_the_same() -> None:
    clips = (clip("a"), clip("b"))
    made = columns_of(clips)
    assert made == clips
    assert clips == made
    assert made == list(clips)
    assert made[:1] != clips
    assert made != (clip("a"), clip("c"))
    assert made != "ab"
    assert made[5:] == ()
    assert repr(made) == "<2 clips>"
    with pytest.raises(IndexError):
        made[2]
    with pytest.raises(TypeError, match="unhashable"):
        hash(made)


def test_columns_are_gathered_block_by_block() -> None:
    gathered = GatheredClips()
    for number in range(BLOCK + 3):
        gathered.add(clip(str(number)))
        assert len(gathered) == number + 1
    assert (gathered.at(7).id, gathered.at(BLOCK + 1).id) == ("7", str(BLOCK + 1))
    assert [one.id for one in Clips(gathered.taken())] == [str(number) for number in range(BLOCK + 3)]
    assert len(gathered) == len(gathered.taken()) == 0


def test_all_problems_are_found_in_columns(make_wav: Callable[..., Path]) -> None:
    shared, alone = make_wav("shared.wav"), make_wav("alone.wav")
    clips = (
        clip("a"),
        clip("a"),
        clip("b", scores={"anger": 5}),
        clip("c", scores={"angr": 1}),
        clip("d", speaker="eve"),
        clip("e", speaker="eve", split="test"),
        clip("f", split="dev"),
        clip("g", speaker="07"),
        clip("h", speaker="7", split="test"),
        clip("i", audio=shared, end=0.5),
        clip("j", audio=shared, start=0.3, split="test"),
        clip("k", audio=alone, end=0.5, split="test"),
        clip("l", audio=alone, start=0.5, split="train"),
        clip("m", speaker="m"),
        clip("n", speaker="n", split="test"),
    )
    messages = []
    for given_as in (clips, columns_of(clips)):
        with pytest.raises(RequestError, match="the corpus 'mine' cannot be used") as caught:
            Corpus("mine", given_as)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    for part in (
        "clip id 'a' occurs 2 times",
        "clip 'b': a score of anger is out of range",
        "clip 'c': there is no target called 'angr'",
        "split 'dev' is none of train, validation, test",
        "speaker 'eve' is in test and train",
        "'07' (train) and '7' (test)",
        "the same recording is in two splits: 'i' (train) and 'j' (test); a recording",
    ):
        assert part in messages[0]
    assert "'k'" not in messages[0], "its parts do not overlap"


def test_corpora_of_columns_are_joined_with_others() -> None:
    one = Corpus("one", (clip("a", start=1),))
    two = Corpus("two", columns_of((clip("b", scores={"fear": 1.0}), clip("c", scores={}))))
    both = join([one, two])
    assert both.clips == (*one.clips, *two.clips)
    assert both.fingerprint == Corpus("both", tuple(both.clips)).fingerprint
    assert both.rated == ("fear", "anger")
    assert [one.id for one in both.of_split("train")] == ["a", "b", "c"]
    assert both.of_split("test") == ()
    assert join([one, one.__class__("three", (clip("d"),))]).clips == (*one.clips, clip("d"))


def test_fingerprints_stay_what_they_were() -> None:
    clips = (
        clip("a/ä", start=1, end=2.5, caption="Grüße \udce4", scores={"Fear": 1, "anger": 0.1234567}),
        clip("b", language="de", scores={}, split="test"),
        clip("c", start=0.1, scores={"anger": -0.0}),
    )
    golden = "927430ba2c9b6162a09c8f67d9339b584610087ae809e83547fb8c1d68b4949b"
    assert Corpus("c", clips).fingerprint == golden
    assert Corpus("c", columns_of(clips)).fingerprint == golden
