from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emonet.clips import Clip, Corpus, Rejection, join
from emonet.errors import RequestError
from emonet.targets import EMOTIONS


def clip(name: str = "a", **changes: object) -> Clip:
    return replace(Clip(name, b"audio", f"speaker-{name}", "train", "en", {"anger": 2.0}), **changes)


def test_scores_are_missing_where_nobody_rated() -> None:
    corpus = Corpus("c", (clip("a", scores={"anger": 2, "Fear": 0}), clip("b", scores={})))
    scores = corpus.scores()
    assert scores.shape == (2, 40)
    assert scores.dtype == np.float32
    assert scores[0, EMOTIONS.index("anger")] == 2
    assert scores[0, EMOTIONS.index("fear")] == 0
    assert np.isnan(scores).sum() == 78
    assert corpus.rated == ("fear", "anger")
    assert corpus.scores(corpus.clips[1:]).shape == (1, 40)


def test_clips_of_a_split_keep_their_order() -> None:
    corpus = Corpus("c", (clip("a"), clip("b", split="test"), clip("c")))
    assert [c.id for c in corpus.of_split("train")] == ["a", "c"]
    assert corpus.of_split("validation") == ()
    assert len(corpus) == 3


def test_all_problems_of_a_corpus_come_in_one_message() -> None:
    with pytest.raises(RequestError) as caught:
        Corpus(
            "mine",
            (
                clip("a"),
                clip("a"),
                clip("b", scores={"anger": 5}),
                clip("c", scores={"angr": 1}),
                clip("d", speaker="eve"),
                clip("e", speaker="eve", split="test"),
                clip("f", split="dev"),
            ),
        )
    message = str(caught.value)
    for part in (
        "the corpus 'mine' cannot be used",
        "clip id 'a' occurs 2 times",
        "clip 'b': a score of anger is out of range expected: 0 to 4 found: 5",
        "clip 'c': there is no target called 'angr'",
        "split 'dev' is none of train, validation, test",
        "speaker 'eve' is in test and train; a speaker belongs to one split",
        "emonet corpus mine",
    ):
        assert part in message


def test_joined_corpora_keep_clips_rejections_and_notes() -> None:
    one = Corpus("one", (clip("a"),), (Rejection("x", "0 bytes"),), note="First.")
    two = Corpus("two", (clip("b"),), note="Second.")
    both = join([one, two, replace(two, name="three", clips=(clip("c"),))])
    assert both.name == "one+two+three"
    assert [c.id for c in both.clips] == ["a", "b", "c"]
    assert both.rejected == one.rejected
    assert both.note == "First. Second."
    assert join([one]) is one


def test_a_speaker_split_between_joined_corpora_raises() -> None:
    one = Corpus("one", (clip("a", speaker="eve"),))
    two = Corpus("two", (clip("b", speaker="eve", split="test"),))
    with pytest.raises(RequestError, match="speaker 'eve' is in test and train"):
        join([one, two])
    with pytest.raises(RequestError, match="clip id 'a' occurs 2 times"):
        join([one, one])


def test_corpora_with_other_targets_are_not_joined() -> None:
    one = Corpus("one", (clip("a"),))
    two = Corpus("two", (clip("b", scores={}),), targets=EMOTIONS.subset(["fear"]))
    with pytest.raises(RequestError, match=r"(?s)'one' and 'two' score different targets.*found: +fear"):
        join([one, two])


def test_the_fingerprint_follows_everything_but_the_name(make_wav: Callable[..., Path]) -> None:
    short, long = make_wav("short.wav"), make_wav("long.wav", seconds=2)
    base = clip("a", audio=short)
    fingerprint = Corpus("one", (base,)).fingerprint
    assert len(fingerprint) == 64
    assert Corpus("two", (base,)).fingerprint == fingerprint
    changed = [
        replace(base, id="b"),
        replace(base, audio=long),
        replace(base, audio=b"bytes"),
        replace(base, start=0.1),
        replace(base, end=0.9),
        replace(base, speaker="eve"),
        replace(base, split="test"),
        replace(base, language="de"),
        replace(base, scores={"anger": 2.1}),
        replace(base, scores={"anger": 2, "fear": 0}),
        replace(base, caption="Angry."),
    ]
    prints = {Corpus("one", (other,)).fingerprint for other in changed}
    assert fingerprint not in prints
    assert len(prints) == len(changed)


def test_a_file_that_is_not_there_has_no_fingerprint(tmp_path: Path) -> None:
    corpus = Corpus("c", (clip("a", audio=tmp_path / "none.wav"), clip("b")))
    with pytest.raises(FileNotFoundError):
        _ = corpus.fingerprint


def test_the_same_file_in_two_joined_corpora(make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    one, two = Corpus("one", (clip("a", audio=path),)), Corpus("two", (clip("b", audio=path, split="test"),))
    with pytest.raises(RequestError, match=r"the same recording is in two splits: 'a' .train. and 'b' .test."):
        join([one, two])
    assert len(join([one, replace(two, clips=(clip("b", audio=path),))])) == 2


def test_joined_corpora_keep_what_was_passed_over_and_remarked() -> None:
    one = Corpus("one", (clip("a"),), passed_over={".txt": 1}, remarks=("One.",))
    two = Corpus("two", (clip("b"),), passed_over={".txt": 2, ".m4a": 1})
    both = join([one, two])
    assert (both.passed_over, both.warnings) == ({".txt": 3, ".m4a": 1}, ("One.",))


def test_scores_under_any_names_in_any_order() -> None:
    corpus = Corpus(
        "c", (clip("a", scores={"Fear": 1, "anger": 2.5}), clip("b", scores={}), clip("c", scores={"anger": 0}))
    )
    anger, fear = EMOTIONS.index("anger"), EMOTIONS.index("fear")
    np.testing.assert_array_equal(corpus.scores()[:, [anger, fear]], [[2.5, 1], [np.nan, np.nan], [0, np.nan]])
    with pytest.raises(RequestError, match="no target called 'angr'"):
        corpus.scores((clip("d", scores={"angr": 1}),))


def test_joined_corpora_agree_on_what_a_label_stands_for() -> None:
    one = Corpus("one", (clip("a", label="happy"),), classes={"happy": "elation"})
    same = Corpus("two", (clip("b", label="sad"),), classes={"happy": "elation", "sad": "sadness"})
    assert join([one, same]).classes == {"happy": "elation", "sad": "sadness"}
    assert join([one, same]).labels == ("happy", "sad")
    other = Corpus("two", (clip("b"),), classes={"happy": "contentment"})
    with pytest.raises(RequestError, match=r"(?s)same class label.*'happy' is elation in one, contentment in two"):
        join([one, other])


def test_a_class_that_stands_for_no_target_is_a_problem() -> None:
    with pytest.raises(RequestError, match="class 'happy' stands for 'joyfulness', which is no target"):
        Corpus("c", (clip("a"),), classes={"happy": "joyfulness"})


def test_labels_are_not_in_the_fingerprint() -> None:
    assert Corpus("c", (clip("a", label="happy"),)).fingerprint == Corpus("c", (clip("a"),)).fingerprint
