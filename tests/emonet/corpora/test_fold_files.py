from __future__ import annotations

import json
from pathlib import Path

import pytest

from emonet.clips import Clip, Corpus
from emonet.corpora import open_corpus, open_folds
from emonet.errors import RequestError

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "emobox"


@pytest.fixture
def corpus() -> Corpus:
    """Four speakers with two clips each; the files of two folders have the same names."""
    clips = tuple(
        Clip(f"x/{speaker}-{take}", Path(f"/data/{speaker}/take-{take}.flac"), f"x/0{speaker}", "train")
        for speaker in range(1, 5)
        for take in range(2)
    )
    return Corpus("x:/data", clips)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.yaml", "x/01: one\n2: one\nx/03: 2\n'04': 2\n"),
        ("f.json", '{"x/01": "one", "02": "one", "3": 2, "04": "2"}'),
        ("f.csv", "speaker,fold\nx/01,one\n2,one\n03,2\nx/04,2\n"),
        ("f.csv", "\ufefffold,clip\none,x/1-0\none,1/take-1\none,x/2-0\none,2/take-1.wav\n"
                  "2,3/take-0.flac\n2,/data/3/take-1\n2,4\\take-0\n2,x/4-1\n"),
    ],
)  # fmt: skip
def test_files_name_speakers_or_clips(corpus: Corpus, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    folds = open_folds(str(tmp_path / name), corpus)
    assert {fold.name: fold.test.tolist() for fold in folds.folds} == {"one": [0, 1, 2, 3], "2": [4, 5, 6, 7]}
    assert folds.folds[0].train.tolist() == [4, 5, 6, 7]
    assert folds.remarks == ()


def test_clips_in_no_fold_are_left_out_and_said(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("x/01: a\nx/02: b\n")
    folds = open_folds(str(tmp_path / "f.yaml"), corpus)
    assert [fold.train.tolist() for fold in folds.folds] == [[2, 3], [0, 1]]
    assert folds.remarks == ("4 clips in no fold: neither tested nor trained on",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.yaml", "x/01: a\nx/05: b\n", "neither a speaker nor a clip of the corpus, or several of them: x/05"),
        ("f.yaml", "x/01: a\ntake-0: b\n", "or several of them: take-0"),
        ("f.yaml", "x/01: a\nx/1-0: b\n", "clip 'x/1-0' is in the folds a and b"),
        ("f.csv", "speaker,fold\nx/01,a\nx/01,b\n", "clip 'x/1-0' is in the folds a and b"),
        ("f.yaml", "x/01: a\nx/02: a\n", r"1 fold \(a\); there are two at least"),
        ("f.yaml", "x/01: [a]\n", r"'x/01': \['a'\] is no fold of a speaker or clip"),
        ("f.yaml", "x/01:\nx/02: b\n", "'x/01': None is no fold"),
        ("f.yaml", "{}", "it names nothing"),
        ("f.yaml", "- x\n", r"(?s)cannot be read.*columns `speaker` or `clip` and `fold`"),
        ("f.yaml", "a: [", "the file of folds cannot be read"),
        ("f.csv", "name;fold\nx;y\n", r"(?s)cannot be read.*the columns 'name;fold'"),
        ("f.csv", "", "the file of folds cannot be read"),
        ("f.csv", "speaker,fold\nx/01\n", "'x/01': None is no fold"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    corpus: Corpus, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(RequestError, match=message):
        open_folds(str(tmp_path / name), corpus)


def emobox(folder: Path, folds: dict[str, dict[str, list[str]]], pattern: str = "x_{role}_fold_{fold}.jsonl") -> Path:
    for fold, roles in folds.items():
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        for role, files in roles.items():
            entries = [{"key": f"x-{file}", "wav": f"downloads/x/{file}.wav", "emo": "?"} for file in files]
            path = folder / f"fold_{fold}" / pattern.format(role=role, fold=fold)
            path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


def test_emobox_folds_are_read_with_their_training_and_validation_lists(corpus: Corpus, tmp_path: Path) -> None:
    emobox(
        tmp_path,
        {
            "2": {"test": ["3/take-0", "3/take-1"], "train": ["1/take-0", "2/take-0"], "valid": ["2/take-0"]},
            "10": {"test": ["4/take-0", "4/take-1", "9/gone"], "train": ["1/take-1", "9/gone"]},
        },
    )
    emobox(tmp_path, {"2": {"test": ["1/take-0"]}}, "x_{role}_fold{fold}.jsonl")  # a stale copy
    folds = open_folds(f"emobox:{tmp_path}", corpus)
    assert [(fold.name, fold.test.tolist(), fold.train.tolist(), fold.validation.tolist()) for fold in folds.folds] == [
        ("2", [4, 5], [0], [2]),
        ("10", [6, 7], [1], []),
    ]
    assert folds.remarks == (
        "1 of the clips that the folds name are not in the corpus: downloads/x/9/gone.wav",
        "4 clips of the corpus are tested in no fold",
    )


def test_emobox_folds_without_training_lists_train_on_each_other(corpus: Corpus, tmp_path: Path) -> None:
    emobox(tmp_path, {"1": {"test": ["1/take-0"]}, "2": {"test": ["2/take-0", "2/take-1"]}})
    assert [fold.train.tolist() for fold in open_folds(f"emobox:{tmp_path}", corpus).folds] == [[2, 3], [0]]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"1": {"test": ["8/a"]}, "2": {"test": ["8/b"]}}, r"(?s)name no clip of the corpus.*x:/data, with clips such as x/1-0"),
        ({"1": {"test": ["1/take-0"]}, "2": {"test": ["8/b"]}}, "fold 2 of EmoBox's tests no clip of the corpus"),
        ({"1": {"test": ["1/take-0"]}, "2": {"test": ["1/take-0"]}}, "folds 1, 2 share test clips: x/1-0"),
        ({"1": {"test": ["1/take-0"], "train": ["1/take-0"]}}, "fold 1 trains on clips that it tests: x/1-0"),
        ({"1": {"train": ["1/take-0"]}}, "fold_1 has no list of test clips"),
        ({}, "the folder has no folds of EmoBox's"),
    ],
)  # fmt: skip
def test_emobox_folds_that_cannot_be_used_are_refused(
    corpus: Corpus, tmp_path: Path, folds: dict[str, dict[str, list[str]]], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        open_folds(f"emobox:{emobox(tmp_path, folds)}", corpus)


@pytest.mark.parametrize("text", ['{"key": 1}\n{', "[1]\n", '{"emo": 1}\n'])
def test_damaged_lists_are_told(corpus: Corpus, tmp_path: Path, text: str) -> None:
    emobox(tmp_path, {"1": {"test": []}})
    (tmp_path / "fold_1" / "x_test_fold_1.jsonl").write_text(text)
    with pytest.raises(RequestError, match=r"fold_1/x_test_fold_1.jsonl is no list of EmoBox's"):
        open_folds(f"emobox:{tmp_path}", corpus)


@pytest.mark.parametrize("wanted", ["seven", "emobox:nowhere", "1.5", ""])
def test_what_names_no_folds_is_refused(corpus: Corpus, wanted: str) -> None:
    with pytest.raises(RequestError, match=r"there (are no such folds|is no such folder)"):
        open_folds(wanted, corpus)


@pytest.mark.parametrize(("name", "sizes", "shared"), [("ravdess", [240] * 6, False), ("emodb", [107] * 5, True)])
def test_emobox_own_folds(name: str, sizes: list[int], shared: bool, tmp_path: Path, corpora: Path) -> None:
    if not REFERENCE.is_dir():
        pytest.skip(f"no folds at {REFERENCE}")
    opened = open_corpus(f"ravdess:{corpora / 'ravdess'}") if name == "ravdess" else _emodb()
    folds = open_folds(f"emobox:{REFERENCE / name}", opened)
    assert [len(fold.test) for fold in folds.folds] == sizes
    assert folds.remarks == ()
    assert [bool(fold.shared(opened.clips)) for fold in folds.folds] == [shared] * len(sizes)
    if name == "ravdess":
        first = {opened.clips[row].speaker for row in folds.folds[0].test}
        assert first == {f"ravdess/actor-{number:02d}" for number in (1, 11, 20, 21)}


def _emodb() -> Corpus:
    """Its clips without their audio, whose names say who speaks."""
    names = [json.loads(line)["wav"] for line in (REFERENCE / "emodb" / "emodb.jsonl").read_text().splitlines()]
    stems = [Path(name).stem for name in names]
    return Corpus("emodb", tuple(Clip(f"emodb/{stem}", b"", stem[:2], "train") for stem in stems))
