"""Mappings of emotions to classes: the published ones, files of one's own, and what is wrong in them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.protocols import SHIPPED, open_mapping
from emonet.targets import EMOTIONS

GOOD = "good: [elation, Pride]\nbad: [anger, Sadness, fear]\n"


def write(tmp_path: Path, text: str, name: str = "mine.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return str(path)


@pytest.mark.parametrize(("corpus", "emotions", "classes"), [("emodb", 37, 7), ("ravdess", 39, 8)])
def test_published_mappings_come_along(corpus: str, emotions: int, classes: int) -> None:
    mapping = open_mapping(corpus)
    assert (len(mapping.emotions), len(mapping.classes)) == (emotions, classes)
    assert set(mapping.emotions) <= set(EMOTIONS.ids)


@pytest.mark.parametrize("corpus", list(SHIPPED))
def test_published_mappings_are_table_11(corpus: str, corpora: Path) -> None:
    file = corpora.parent / "reference/paper_table11_coarse_mapping.csv"
    if not file.is_file():
        pytest.skip("../shared/reference is not here")
    with file.open(encoding="utf-8") as lines:
        published = {(row["emotion"], row[corpus]) for row in csv.DictReader(lines) if row[corpus]}
    mapping = open_mapping(corpus)
    assert {(one, name) for name, emotions in mapping.classes.items() for one in emotions} == published


def test_files_of_ones_own(tmp_path: Path) -> None:
    mapping = open_mapping(write(tmp_path, GOOD))
    table = "Class,emotion,remark\ngood,elation,x\ngood,Pride\nbad,anger\nbad,sadness\n,awe\nbad,Fear,\n"
    same = open_mapping(write(tmp_path, table, "mine.csv"))
    assert mapping.classes == same.classes == {"good": ("elation", "pride"), "bad": ("anger", "sadness", "fear")}
    assert (mapping.name, mapping.owner.tolist()) == ("mine", [0, 0, 1, 1, 1])
    assert mapping.given(["good", "GOOD ", "neutral", None, "bad"]).tolist() == [0, 0, -1, -1, 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("good: [elation]\nbad: [angst]\n", "bad, emotion 1: there is no target called 'angst'"),
        ("good: [elation]\nbad: [anger, Elation]\n", "elation already stands for 'good'"),
        ("good: [elation]\nbad: [anger, Anger]\n", "anger is at bad, emotion 1, too"),
        ("good: [elation]\nGood: [anger]\n", "'good' and 'Good' differ in their spelling only"),
        ("good: [elation]\n'?': [anger]\n", "'\\?' is no name of a class"),
        ("good: [elation]\n", "1 class with an emotion; there are two at least"),
        ("good: [elation]\nbad: []\n", "class 'bad' without an emotion"),
        ("good: [elation]\nbad: 3\n", "holds no mapping"),
        ("- elation\n", "holds no mapping"),
        ("", "found: +nothing"),
        ("good: [elation\n", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as error:
        open_mapping(write(tmp_path, text))
    assert "mine.yaml" in str(error.value)


def test_all_that_is_wrong_comes_at_once(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)angst.*elation already stands"):
        open_mapping(write(tmp_path, "good: [elation]\nbad: [angst, Elation]\n"))


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="add the column class"):
        open_mapping(write(tmp_path, "emotion,klass\nanger,angry\n", "mine.csv"))
    with pytest.raises(RequestError, match=r"found: +nothing"):
        open_mapping(write(tmp_path, "", "mine.csv"))
    with pytest.raises(RequestError, match="line 3: there is no target called ''"):
        open_mapping(write(tmp_path, "emotion,class\nanger,a\n,a\nfear,b\n", "mine.csv"))
    with pytest.raises(RequestError, match="cannot be read"):
        open_mapping(write(tmp_path, f"emotion,class\n{'x' * 200_000},a\n", "mine.csv"))


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean emodb"):
        open_mapping("emobd")
    with pytest.raises(RequestError, match="a folder"):
        open_mapping(str(tmp_path))
