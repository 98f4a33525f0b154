from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from emonet.errors import RequestError
from emonet.evaluation import FAINT
from emonet.timelines import timeline_figure
from emonet.timelines.views.plots import BINS, CURVES
from tests.emonet.timelines.views.made import long, small


def pixels(path: Path, colour: str) -> np.ndarray:
    """Which columns of a picture hold a colour, as shares of its width."""
    picture = imread(path)[..., :3]
    same = np.abs(picture - np.array(to_rgb(colour))).max(-1) < 0.05
    return np.flatnonzero(same[: int(0.9 * len(same))].any(0)) / picture.shape[1]  # the legend is below


def test_curves_are_where_their_segments_are(tmp_path: Path) -> None:
    timeline_figure(small(envelope=()), tmp_path / "a.png", emotions=["anger"])
    assert imread(tmp_path / "a.png").shape[1] == 1300
    red, grey = pixels(tmp_path / "a.png", CURVES[0]), pixels(tmp_path / "a.png", FAINT)
    assert len(red) > 400
    assert red.max() - red.min() == pytest.approx((7.0 - 0.5) / 12 * 0.88, abs=0.05)
    assert grey.max() > red.max() + 0.2, "the flagged segment is grey"
    assert not len(pixels(tmp_path / "a.png", CURVES[1]))
    timeline_figure(small(envelope=()), tmp_path / "b.png")
    assert all(len(pixels(tmp_path / "b.png", colour)) for colour in (CURVES[0], CURVES[1]))


def test_many_segments_are_drawn_as_means(tmp_path: Path) -> None:
    timeline_figure(long(hours=1.0, count=BINS + 200), tmp_path / "a.png", emotions=["anger", "valence"])
    red = pixels(tmp_path / "a.png", CURVES[0])
    assert red.max() - red.min() > 0.8


def test_windows_that_overlap_missing_scores_and_nothing_at_all(tmp_path: Path) -> None:
    sliding = long(hours=0.01, count=30, overlap=2.0, speakers=0)
    missing = replace(sliding.segments[4], scores={**sliding.segments[4].scores, "anger": math.nan})
    rows = (*sliding.segments[:4], missing, *sliding.segments[5:])
    timeline_figure(replace(sliding, segments=rows), tmp_path / "a.png", emotions=["anger"])
    assert len(pixels(tmp_path / "a.png", CURVES[0])) > 300
    timeline_figure(small(segments=(), speech=None, envelope=(), seconds=math.nan), tmp_path / "b.png")
    assert imread(tmp_path / "b.png").shape[1] == 1300


def test_an_emotion_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no target called 'angst'"):
        timeline_figure(small(), tmp_path / "a.png", emotions=["angst"])
