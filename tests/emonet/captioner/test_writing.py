from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from emonet.captioner import caption_writer, save_captioner
from emonet.captioner import model as captioner
from emonet.captioner.model import Size, scratch
from emonet.errors import RequestError
from emonet.windows import Window

pytestmark = pytest.mark.numeric


def test_a_caption_for_each_sound_short_or_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    model, processor = scratch("nano", Window(1.0), ["A calm voice.", "An angry, loud voice."], seed=0)
    save_captioner(model, processor, tmp_path / "captioner")
    write = caption_writer(str(tmp_path / "captioner"), torch.device("cpu"))
    sounds = [np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32) for seed, n in enumerate((800, 40_000))]
    found = write(sounds)
    assert len(found) == 2
    assert all(found)
    assert [write([one])[0] for one in sounds] == found


def test_what_is_no_captioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="captioner"):
        caption_writer(str(tmp_path), torch.device("cpu"))
