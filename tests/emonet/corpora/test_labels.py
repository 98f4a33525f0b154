from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emonet.clips import Clip, Corpus
from emonet.corpora import as_prototypes, open_corpus, read_mapping
from emonet.corpora.labels import as_classes
from emonet.errors import RequestError
from emonet.targets import CLASSES, EMOTIONS, Target, TargetSpec

ACTED = {"sad": "sadness"}
MAPPING = {"happy": "elation", "Joy": "Elation", "sad": "sadness", "neutral": None}


def clip(name: str, label: str | None, split: str = "train", **scores: float) -> Clip:
    return Clip(name, b"audio", f"speaker-{split}", split, scores=scores, label=label)  # type: ignore[arg-type]


def corpus(*clips: Clip) -> Corpus:
    return Corpus("mine", clips)


def test_each_class_is_a_target_from_0_to_1() -> None:
    opened = corpus(
        clip("a", "sad", anger=3.0), clip("b", "Happy!"), clip("c", None), clip("d", "sad", "test"), clip("e", "01")
    )
    found = as_classes(replace(opened, classes={"sad": "sadness"}))
    assert found.targets.ids == ("class_01", "happy", "sad")
    assert found.classes == {"01": "class_01", "Happy!": "happy", "sad": "sad"}
    assert [dict(one.scores) for one in found.clips] == [
        {"class_01": 0, "happy": 0, "sad": 1},
        {"class_01": 0, "happy": 1, "sad": 0},
        {},
        {"class_01": 0, "happy": 0, "sad": 1},
        {"class_01": 1, "happy": 0, "sad": 0},
    ]
    assert found.fingerprint != opened.fingerprint


def test_classes_that_cannot_be_trained_are_told_together() -> None:
    with pytest.raises(RequestError) as caught:
        as_classes(
            corpus(clip("a", "sad"), clip("b", "Sad"), clip("c", "happy", "test"), clip("d", "shy", "validation"))
        )
    for text in (
        "no clip of the class 'happy' is in the split train",
        "no clip of the class 'shy' is in the split train",
        "the labels 'Sad', 'sad' differ in their spelling alone",
        "emonet corpus without --targets",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize(("label", "found"), [("sad", r"1 \(sad\)"), (None, "no labels")])
def test_fewer_than_two_classes_are_refused(label: str | None, found: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s)fewer than two.*column `label`.*{found}"):
        as_classes(corpus(clip("a", label), clip("b", label)))


def test_prototypes_get_the_ends_of_the_scale_and_ratings_stay() -> None:
    clips = [clip(n, label) for n, label in zip("abcde", ("happy", "Joy", "neutral", "bored", None), strict=True)]
    found = as_prototypes(corpus(*clips, clip("f", "sad", anger=1.5)), MAPPING)
    assert [dict(one.scores) for one in found.clips] == [
        {"elation": 4, "sadness": 0},
        {"elation": 4, "sadness": 0},
        {"elation": 0, "sadness": 0},
        {},
        {},
        {"anger": 1.5},
    ]
    assert found.classes == {"happy": "elation", "Joy": "elation", "sad": "sadness", "neutral": None}
    assert found.targets is EMOTIONS
    assert found.warnings == ("labels that stand for nothing; their clips get no scores: bored",)
    assert as_prototypes(corpus(clip("a", "sad")), MAPPING).warnings == (
        "labels that no clip has: happy, Joy, neutral",
    )


def test_a_corpus_that_knows_some_labels_itself_is_found_again_by_all_its_classes() -> None:
    """A store keeps the classes of corpora that were joined, not the file: opened by these, the clips score the same."""
    joined = replace(corpus(clip("a", "sad", sadness=3.0), clip("b", "cross"), clip("c", "sad")), classes=ACTED)
    found = as_prototypes(joined, {"cross": "anger"})
    assert [dict(one.scores) for one in found.clips] == [
        {"sadness": 3.0},
        {"anger": 4, "sadness": 0},
        {"anger": 0, "sadness": 4},
    ]
    assert as_prototypes(joined, found.classes).fingerprint == found.fingerprint


def test_labels_that_stand_for_no_target_are_told_together() -> None:
    with pytest.raises(RequestError) as caught:
        as_prototypes(corpus(clip("a", "sad")), {"sad": "sadnes", "happy": "joyous", "cross": "anger"}, Path("l.yaml"))
    message = str(caught.value)
    assert "sad: there is no target called 'sadnes'" in message
    assert "such as sadness" in message
    assert "happy: there is no target called 'joyous'" in message
    assert "cross" not in message
    assert "l.yaml" in message


def test_a_mapping_file_in_yaml_or_json(tmp_path: Path) -> None:
    file = tmp_path / "l.yaml"
    file.write_text("happy: elation\n1: sadness\nneutral:\n'no': anger\n", "utf-8")
    assert read_mapping(file) == {"happy": "elation", "1": "sadness", "neutral": None, "no": "anger"}
    file.write_text('{"happy": "elation", "neutral": null}', "utf-8")
    assert read_mapping(file) == {"happy": "elation", "neutral": None}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no: anger\nsad: 3\n", r"(?s)False is no label: write it in quotes.*'sad': 3 is no target's name"),
        ("- happy\n", r"is no mapping(?s:.*)`happy: elation`"),
        ("", "is no mapping"),
        ("a: b: c", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("happy: 2024-13-45", "cannot be read"),
    ],
)
def test_other_files_are_no_mapping(text: str | bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "l.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=told):
        read_mapping(file)
    with pytest.raises(RequestError, match="No such file"):
        read_mapping(tmp_path / "gone.yaml")


def test_the_classes_of_a_store_are_found_again() -> None:
    """A store's or a model's set of classes opens a part of the corpus, and other labels have no score."""
    opened = as_classes(corpus(clip("a", "sad"), clip("b", "happy"), clip("c", "shy")))
    spec = TargetSpec.from_json(opened.targets.to_json())  # type: ignore[arg-type]
    assert spec == opened.targets
    part = as_classes(corpus(clip("a", "sad", "test"), clip("z", "proud", "test")), spec)
    assert part.targets == spec
    assert [dict(one.scores) for one in part.clips] == [{"happy": 0, "sad": 1, "shy": 0}, {}]


def test_fixed_classes_are_named_by_any_spelling_of_their_names() -> None:
    spec = TargetSpec(
        (
            Target("sad", "Sad", 0, 1, "whether it is sad", group="class"),
            Target("very_happy", "Very happy", 0, 1, "whether it is happy", aliases=("Joy",), group="class"),
            Target("shy", "Shy", 0, 1, "whether it is shy", group="class"),
        )
    )
    found = as_classes(corpus(clip("a", "sad"), clip("b", "joy"), clip("c", "very-happy"), clip("d", "proud")), spec)
    assert found.classes == {"sad": "sad", "joy": "very_happy", "very-happy": "very_happy", "Shy": "shy"}
    assert found.warnings == ("labels that stand for nothing; their clips get no scores: proud",)
    assert [dict(one.scores) for one in found.clips] == [
        {"sad": 1, "very_happy": 0, "shy": 0},
        {"sad": 0, "very_happy": 1, "shy": 0},
        {"sad": 0, "very_happy": 1, "shy": 0},
        {},
    ]


def test_open_corpus_scores_by_classes_or_by_a_mapping(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    for name in "abc":
        make_wav(f"{name}.wav")
    manifest = tmp_path / "m.csv"
    manifest.write_text("audio,speaker,split,mood\na.wav,a,train,happy\nb.wav,b,train,sad\nc.wav,c,test,neutral\n")
    spec = f"manifest:{manifest}#mood"
    with pytest.raises(RequestError, match="no clip of the class 'neutral' is in the split train"):
        open_corpus(spec, targets=CLASSES)
    manifest.write_text(manifest.read_text().replace("neutral", "sad"))
    classes = open_corpus(spec, targets=CLASSES)
    assert classes.targets.ids == ("happy", "sad")
    assert (
        open_corpus(classes.name, targets=classes.targets, classes=classes.classes).fingerprint == classes.fingerprint
    )
    mapped = open_corpus(spec, classes={"happy": "elation", "sad": "sadness"})
    assert mapped.rated == ("elation", "sadness")
    assert open_corpus(mapped.name, targets=mapped.targets, classes=mapped.classes).fingerprint == mapped.fingerprint
    with pytest.raises(RequestError, match="no column `label` with the classes"):
        open_corpus(f"manifest:{_without_labels(manifest)}", targets=CLASSES)


def _without_labels(manifest: Path) -> Path:
    other = manifest.with_name("n.csv")
    other.write_text("\n".join(line.rpartition(",")[0] for line in manifest.read_text().splitlines()))
    return other


@pytest.mark.parametrize("kind", ["ravdess", "emodb", "nemo"])
def test_acted_corpora_offer_their_classes(kind: str, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    names = {
        "ravdess": {
            "03-01-01-01-01-01-01": "neutral",
            "03-01-05-01-01-01-20": "angry",
            "03-01-05-01-01-01-02": "angry",
        },
        "emodb": {"03a01Na": "neutral", "15a01Wa": "anger", "08a01Wa": "anger"},
        "nemo": {"EB0_neutral_1": "neutral", "MK0_anger_1": "anger", "TP0_anger_1": "anger"},
    }[kind]
    for name in names:
        make_wav(f"{name}.wav")
    found = open_corpus(f"{kind}:{tmp_path}", targets=CLASSES)
    assert found.targets.ids == tuple(sorted(set(names.values())))
    for one in found.clips:
        assert one.scores == {target: float(target == names[one.id.split("/")[1]]) for target in found.targets.ids}


def test_a_manifest_for_classes_needs_labels_and_not_its_scores(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    """Scores on another scale than emonet's are no problem where nobody asks for them."""
    for name in "abc":
        make_wav(f"{name}.wav")
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "audio,speaker,split,label,anger\na.wav,a,train,happy,6\nb.wav,b,train,sad,7\nc.wav,c,test,sad,5\n"
    )
    opened = open_corpus(f"manifest:{manifest}", targets=CLASSES)
    assert opened.targets.ids == ("happy", "sad")
    assert [dict(one.scores) for one in opened.clips] == [{"happy": 1, "sad": 0}] + 2 * [{"happy": 0, "sad": 1}]
    assert opened.warnings == ("columns of other targets are passed over: anger; --targets names another set",)
    again = open_corpus(f"manifest:{manifest}", targets=opened.targets)
    assert again.fingerprint == opened.fingerprint
    manifest.write_text("audio,speaker,anger\na.wav,a,3\nb.wav,b,1\nc.wav,c,2\n")
    with pytest.raises(RequestError, match=r"no column `label`.*FILE#COLUMN.*the table has anger"):
        open_corpus(f"manifest:{manifest}", targets=CLASSES)
