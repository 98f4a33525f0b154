from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from emonet.corpora import unspelled
from emonet.corpora.manifest.finding import Finder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        b"Audio/\xc3\x84rger 1.wav",
        b"Audio/b.WAV",
        b"latin/\xe4rger.wav",
        b"twins/x.wav",
        b"twins/X.wav",
        b"100%.wav",
    ):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Audio/Ärger 1.wav", "Audio/Ärger 1.wav"),
        (unicodedata.normalize("NFD", "Audio/Ärger 1.wav"), "Audio/Ärger 1.wav"),
        ("Audio/%C3%84rger%201.wav", "Audio/Ärger 1.wav"),
        ("Audio\\Ärger 1.wav", "Audio/Ärger 1.wav"),
        (".\\audio\\%C3%A4rger%201.wav", "Audio/Ärger 1.wav"),
        ("audio/B.wav", "Audio/b.WAV"),
        ("twins/../AUDIO/b.wav", "twins/../Audio/b.WAV"),
        (" Audio/b.WAV ", "Audio/b.WAV"),
        ("latin/ärger.wav", "latin/\udce4rger.wav"),
        (r"latin/\xe4rger.wav", "latin/\udce4rger.wav"),
        ("latin/%E4rger.wav", "latin/\udce4rger.wav"),
        ("100%.wav", "100%.wav"),
        ("twins/x.wav", "twins/x.wav"),
        ("Audio/c.wav", None),
        ("b.WAV", None),
        ("x" * 5000, None),
        ("a\0b", None),
    ],
)
def test_names_that_nearly_fit(name: str, found: str | None, folder: Path) -> None:
    assert Finder(folder).find(name) == ([] if found is None else [folder / found])


def test_whole_paths_and_addresses_of_files(folder: Path) -> None:
    wanted = [folder / "Audio/Ärger 1.wav"]
    assert Finder(Path("elsewhere")).find(str(folder / "audio/ärger 1.WAV")) == wanted
    assert Finder(Path("elsewhere")).find(f"file://{folder}/Audio/%C3%84rger%201.wav") == wanted


def test_several_that_nearly_fit_are_all_told(folder: Path) -> None:
    (folder / "twins/x.wav").rename(folder / "twins/x.Wav")
    assert [path.name for path in Finder(folder).find("TWINS/x.wav")] == ["X.wav", "x.Wav"]


def test_a_spelled_path_is_found_again(folder: Path) -> None:
    assert unspelled(folder / r"latin/\xe4rger.wav") == folder / "latin/\udce4rger.wav"
    assert unspelled(folder / "latin/none.wav") == folder / "latin/none.wav"
    assert unspelled(folder / r"AUDIO\b.wav") == folder / r"AUDIO\b.wav"  # only bytes are made good here
