from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile as sf

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.protocols import Interval, diarisation_error, emotion_intervals, joined_clips
from tests.emonet.timelines.timelines import scored, timeline

LABELS = {"anger": "angry", "sadness": "sad"}


def clips(make_wav: Callable[..., Path], count: int = 5) -> list[Clip]:
    paths = {f"{who}{n}": make_wav(f"{who}{n}.wav", seconds=0.5 + 0.1 * n) for who in "ab" for n in range(count)}
    return [Clip(name, path, name[0], "test", label=name.upper()) for name, path in paths.items()]


def test_clips_of_a_speaker_make_recordings_with_known_emotions(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    several = clips(make_wav)
    found = joined_clips(several, each=2)
    assert [one.id for one in found] == ["a 1", "a 2", "b 1", "b 2"]
    assert found == joined_clips(several[::-1], each=2)
    assert found != joined_clips(several, each=2, seed=1)
    assert all(clip.speaker == one.speaker for one in found for clip in one.clips)
    given = found[0].write(tmp_path / "a.flac")
    assert [one.emotion for one in given] == [clip.label for clip in found[0].clips]
    assert (
        sf.info(tmp_path / "a.flac").duration
        == given[-1].end
        == pytest.approx(sum(sf.info(clip.audio).duration for clip in found[0].clips))
    )
    with pytest.raises(RequestError, match="no speaker with so many labelled clips"):
        joined_clips(several, each=6)


def test_segments_name_emotions_up_to_the_middle_of_a_pause() -> None:
    heard = timeline(scored(1, 2, anger=3), scored(4, 5, anger=0.1), scored(6, 9, anger=1.0), seconds=10)
    assert emotion_intervals(heard, LABELS, least=0.4) == (
        Interval(0, 3, "angry"),
        Interval(3, 5.5, "sad"),
        Interval(5.5, 10, "neutral"),
    )
    assert emotion_intervals(timeline(seconds=3), LABELS, least=0.4) == ()
    with pytest.raises(RequestError, match="no target with a label"):
        emotion_intervals(heard, {"joy": "happy"}, least=0.4)


def test_sliding_windows_name_the_time_around_their_middle() -> None:
    heard = timeline(scored(0, 3, anger=3), scored(1, 4, anger=3), scored(2, 5, anger=0), seconds=5)
    found = emotion_intervals(heard, LABELS, least=0.1)
    assert found == (Interval(0, 2, "angry"), Interval(2, 3, "angry"), Interval(3, 5, "sad"))
    error = diarisation_error([Interval(0, 3, "Angry"), Interval(3, 5, "Sad")], found, seconds=5)
    assert error.rate == 0
