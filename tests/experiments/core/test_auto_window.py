from __future__ import annotations

import math

import pytest

from emonet.clips import Clip, Corpus
from experiments.core import Experiment, with_window

AUTO = Experiment.model_validate({"extraction": {"window_seconds": "auto"}})


def corpus(*seconds: float) -> Corpus:
    return Corpus("made", tuple(Clip(f"c{row}", b"x", "s", "train", seconds=one) for row, one in enumerate(seconds)))


@pytest.mark.parametrize(
    ("seconds", "window", "said"),
    [
        ([2.5] * 10, 3.0, "window: 3 s, from the lengths of 10 clips"),
        ([2.5] * 199 + [7.25], 3.0, "from the lengths of 200 clips; 1 is longer and cut: c199 of 7.2 s"),
        ([2.5, math.nan], 3.0, "from the lengths of 1 clip (1 of unknown length)"),
        ([math.nan] * 3, 30.0, "window: 30 s, since no clip says how long it is"),
    ],
)
def test_the_window_holds_nearly_all_clips_and_says_what_it_cuts(
    seconds: list[float], window: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = with_window(AUTO, "extraction", corpus(*seconds))
    assert found.extraction.window_seconds == window
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_window_in_seconds_stays(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Experiment()
    assert with_window(plain, "captioner", corpus(1.0)) is plain
    assert capsys.readouterr().err == ""
