from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.errors import RequestError
from emonet.windows import SAMPLE_RATE, Window


def test_whispers_window_has_whispers_sizes() -> None:
    window = Window()
    assert (window.samples, window.mel_frames, window.frames) == (480_000, 3000, 1500)
    assert Window.of_frames(1500) == window


@pytest.mark.parametrize("seconds", [0.4, 30.02, -1, float("nan")])
def test_a_window_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(RequestError, match=rf"(?s)window is out of range.*0.5 to 30 s.*{seconds} s"):
        Window(seconds)


def test_a_window_of_half_a_state_is_refused() -> None:
    with pytest.raises(RequestError, match=r"(?s)whole number of encoder states.*multiple of 0.02 s.*1.23 s"):
        Window(1.23)


@given(st.integers(25, 1500))
def test_every_whole_number_of_states_is_a_window(frames: int) -> None:
    window = Window.of_frames(frames)
    assert window.frames == frames
    assert window.mel_frames == 2 * frames
    assert window.samples == 320 * frames
    assert Window(window.seconds) == window


@given(st.floats(0, 100))
def test_speech_frames_cover_the_clip_and_stay_in_the_window(seconds: float) -> None:
    window = Window(10)
    frames = window.speech_frames(seconds)
    assert 1 <= frames <= window.frames
    assert frames == window.frames or frames * 320 >= seconds * SAMPLE_RATE - 1e-3
    assert frames == 1 or (frames - 1) * 320 < seconds * SAMPLE_RATE


def test_a_clip_of_whole_states_gets_no_state_more() -> None:
    assert [Window(10).speech_frames(seconds) for seconds in (0.02, 0.06, 0.061, 3.0, 9.99, 10)] == [
        1, 3, 4, 150, 500, 500,
    ]  # fmt: skip
