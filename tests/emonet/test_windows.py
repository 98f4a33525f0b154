from __future__ import annotations

import math

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


@given(st.lists(st.floats(0.01, 60) | st.just(float("nan")), max_size=300))
def test_the_window_that_holds_nearly_all_clips(lengths: list[float]) -> None:
    window = Window.holding(lengths)
    known = [length for length in lengths if not math.isnan(length)]
    assert window.seconds == int(window.seconds)
    if not known:
        assert window == Window()
        return
    held = sum(length <= window.seconds + 1e-6 for length in known)
    assert held >= 0.99 * len(known) - 1e-9 or window == Window()
    shorter = sum(length <= window.seconds - 1 for length in known)
    assert window.seconds == 1 or shorter < 0.99 * len(known)


def test_one_long_clip_of_a_hundred_is_cut() -> None:
    assert Window.holding([3.2] * 99 + [25.0]) == Window(4)
    assert Window.holding([3.2] * 98 + [25.0] * 2) == Window(25)
    assert Window.holding([3.0, float("nan")]) == Window(3)
