from __future__ import annotations

from pathlib import Path

import pytest

from emonet.corpora import open_corpus
from emonet.corpora.manifest.reader import open_manifest
from emonet.errors import RequestError
from tests.emonet.corpora.manifest.manifests import problem, rows, write


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_column_of_labels(suffix: str, folder: Path) -> None:
    table = rows(label="sad")
    table[0] |= {"label": "Sehr müde"}
    clips = open_manifest(write(folder / f"m{suffix}", table)).clips
    assert [clip.label for clip in clips] == ["Sehr müde", "sad", None]


@pytest.mark.parametrize(("cell", "label"), [(3, "3"), (3.0, "3"), ("3.0", "3"), ("N/A", None), ("", None)])
def test_labels_that_are_numbers_or_missing(cell: object, label: str | None, folder: Path) -> None:
    assert open_manifest(write(folder / "m.jsonl", rows(label=cell))).clips[1].label == label


def test_a_column_of_labels_with_another_name(folder: Path) -> None:
    table = rows(Category="sad")
    file = write(folder / "m.csv", table)
    corpus = open_corpus(f"manifest:{file}#Category")
    assert [clip.label for clip in corpus.clips] == [None, "sad", None]
    assert open_corpus(corpus.name).fingerprint == corpus.fingerprint
    with pytest.raises(RequestError, match="no column `Klasse`; found: audio, speaker, split, anger, Category"):
        open_corpus(f"manifest:{file}#Klasse")
    with pytest.raises(RequestError, match="'Category' is neither a field nor a target"):
        open_corpus(f"manifest:{file}")


def test_a_file_with_a_number_sign_in_its_name(folder: Path) -> None:
    file = write(folder / "m#label.csv", rows(label="sad"))
    assert open_corpus(f"manifest:{file}").clips[1].label == "sad"
    assert open_corpus(f"manifest:{file}#label").clips[1].label == "sad"


def test_two_columns_of_labels_are_a_problem(folder: Path) -> None:
    file = write(folder / "m.jsonl", rows(label="sad", mood="blue"))
    with pytest.raises(RequestError, match="is a second column for label"):
        open_corpus(f"manifest:{file}#mood")


def test_labels_that_only_their_spelling_tells_apart_are_a_problem(folder: Path) -> None:
    table = rows(label="Very sad")
    table[0] |= {"label": "very_sad"}
    table[2] |= {"label": "!"}
    told = problem(folder, table)
    assert "the labels 'very_sad' and 'Very sad' differ in their spelling alone: write one of them" in told
    assert "the label '!' holds no letter or digit" in told
    assert "label is [1], which is not text" in problem(folder, rows(label=[1]))
