from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emonet.errors import RequestError
from emonet.targets import EMOTIONS
from experiments.compare.clips import ComparedClips, open_clips
from experiments.compare.scorers import open_scorers, score
from tests.installed import install

CODE = """
from emonet import EMOTIONS, Scored
class Toy:
    target_spec = EMOTIONS.subset(["anger", "fear"])
    def __init__(self, argument, *, device): self.refused = argument.split()
    def score(self, clips, *, progress):
        found = ["deaf" if clip.id[-1] in self.refused else [1.0, float(clip.id[-1])] for clip in clips]
        return Scored.of(clips, self.target_spec, found)
"""


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "toy_compared", CODE, {"emonet.scorers": {"toy": "Toy"}}))
    monkeypatch.delitem(sys.modules, "toy_compared", raising=False)


@pytest.fixture
def clips(make_wav: Callable[..., Path], tmp_path: Path) -> ComparedClips:
    """Four test clips, `0` to `3`."""
    rows = [f"{n},{make_wav(f'{n}.wav', seconds=0.5, hertz=200 + n).name},s{n},test,{n}" for n in range(4)]
    (tmp_path / "m.csv").write_text("\n".join(["id,audio,speaker,split,anger", *rows]))
    return open_clips(f"manifest:{tmp_path / 'm.csv'}", "test", tmp_path / "runs", EMOTIONS)


def test_clips_that_one_scorer_refuses_are_left_out_for_all(clips: ComparedClips) -> None:
    first, second = open_scorers(["scorer:toy:1", "scorer:toy:1 2"])
    ids = clips.table["id"].tolist()
    found = score([first, second], clips, ids, ["anger"])
    assert found.ids == [ids[0], ids[3]]
    assert list(found.predicted) == ["scorer:toy:1", "scorer:toy:1 2"]
    assert found.predicted["scorer:toy:1"].scores.tolist() == [[0.0 + int(one[-1])] for one in found.ids]
    assert found.notes == [
        f"left out for all models, since scorer:toy:1 refuses them: 1 of 4 clips; the first is {ids[1]}: deaf",
        f"left out for all models, since scorer:toy:1 2 refuses them: 2 of 4 clips; the first is {ids[1]}: deaf",
    ]
    assert first.identity != second.identity
    assert np.isfinite(found.predicted["scorer:toy:1 2"].milliseconds)


def test_no_clip_is_left(clips: ComparedClips) -> None:
    scorers = open_scorers(["scorer:toy:0 1", "scorer:toy:2 3"])
    with pytest.raises(RequestError, match=r"(?s)no clip is left that every scorer accepts.*2 of 4 clips.*deaf"):
        score(scorers, clips, clips.table["id"].tolist(), ["anger"])


def test_scorers_need_the_audio(clips: ComparedClips) -> None:
    without = replace(clips, corpus=None)
    assert score([], without, ["0"], ["anger"]).ids == ["0"]
    with pytest.raises(RequestError, match="the audio is needed"):
        score(open_scorers(["scorer:toy"]), without, ["0"], ["anger"])


def test_a_plug_in_called_like_a_baseline_is_told_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path / "other", "toy_median", CODE, {"emonet.scorers": {"median": "Toy"}})
    monkeypatch.syspath_prepend(site)
    (scorer,) = open_scorers(["scorer:median"])
    assert scorer.label == "scorer:median", "figures of a comparison are kept by label, and median is the baseline's"


def test_a_scorer_is_named_once_and_installed() -> None:
    with pytest.raises(RequestError, match=r"(?s)more than once.*scorer:toy:a"):
        open_scorers(["scorer:toy:a", "scorer:toy", "scorer:toy:a"])
    with pytest.raises(RequestError, match=r"(?s)no installed package registers the scorer 'tony'.*did you mean toy\?"):
        open_scorers(["scorer:tony"])
