from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emonet.audio import decode, pad
from emonet.baselines.features import feature_set, require_whisper
from emonet.encoders import FrozenEncoder, open_encoder
from emonet.errors import RequestError
from emonet.windows import Window
from tests.tiny import write_encoder

pytestmark = pytest.mark.numeric


@pytest.fixture
def waves(make_wav: Callable[..., Path]) -> list[np.ndarray]:
    return [decode(make_wav(f"{n}.wav", seconds=s)).samples for n, s in (("a", 0.6), ("b", 1.0))]


def test_mel_statistics_do_not_see_the_padding(waves: list[np.ndarray]) -> None:
    short, long = (feature_set("mel_ridge", Window(seconds)).measure(waves) for seconds in (1.0, 4.0))
    assert short.shape == (2, 160)
    assert short.dtype == np.float32
    np.testing.assert_allclose(short, long, atol=0.02)  # only the frame at the very end differs


def test_what_most_take_of_whisper_is_the_mean_over_30_seconds(waves: list[np.ndarray], tmp_path: Path) -> None:
    source = str(write_encoder(tmp_path / "whisper", max_source_positions=1500))
    require_whisper(["whisper_last_mean"], source)
    found = feature_set("whisper_last_mean", Window(1.0), source)
    encoder = open_encoder(source)
    states = encoder.states(pad(waves, Window(30.0)))
    assert found.window == Window(30.0)
    np.testing.assert_allclose(found.measure(waves), states.float().mean(1).numpy(), atol=1e-5)
    assert states.shape[1] == 1500
    other = str(write_encoder(tmp_path / "other", max_source_positions=1500, seed=1))
    assert feature_set("whisper_last_mean", Window(1.0), other).version != found.version


@pytest.mark.parametrize("source", ["short", "plugin:bands:8"])
def test_what_hears_less_than_30_seconds_is_refused(tmp_path: Path, source: str) -> None:
    if source == "short":
        source = str(write_encoder(tmp_path / "short", max_source_positions=100))
    require_whisper(["median", "mel_ridge"], source)
    with pytest.raises(RequestError, match=r"(?s)whisper_last_mean needs a Whisper that hears 30 s.*leave .* out of"):
        require_whisper(["whisper_last_mean"], source)


def test_a_whisper_whose_last_layer_was_not_kept_is_refused(tmp_path: Path) -> None:
    source = write_encoder(tmp_path / "whole", encoder_layers=3, max_source_positions=1500)
    for layers in ((1, 2), (1, 3)):
        FrozenEncoder.load(str(source), layers=layers).save(tmp_path / f"kept-{layers[-1]}")
    require_whisper(["whisper_last_mean"], str(tmp_path / "kept-3"))
    message = (
        r"(?s)whisper_last_mean needs a Whisper.*found: .*hears 30 s and keeps the first 2 of 3 layers.*leave .* out"
    )
    with pytest.raises(RequestError, match=message):
        require_whisper(["whisper_last_mean"], str(tmp_path / "kept-2"))
