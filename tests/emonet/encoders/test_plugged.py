from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emonet.audio import pad
from emonet.encoders import Encoder, FrozenEncoder, ReadyEncoder, inner_layers, open_encoder, read_note
from emonet.encoders.plugged import NOTE, PluggedEncoder
from emonet.errors import EmonetError, RequestError
from emonet.inference import EmotionPipeline, assemble
from emonet.windows import Window
from tests.installed import install

CODE = """
import torch
from emonet import Window
class Toy:
    window, frames, width, layers, precision = Window(1.0), 10, 4, (1,), "float32"
    def __init__(self, argument, *, precision, device):
        self.digest = f"toy {argument}"
        self.device = device
    def states(self, waveforms):
        return waveforms.reshape(-1, self.frames, 1600)[:, :, :self.width]
"""
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Install the encoder `toy`; another call replaces it."""

    def put(code: str = CODE, name: str = "toy", version: str = "0.1") -> None:
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
        install(tmp_path / "site", "toy_encoder", code, {"emonet.encoders": {name: "Toy"}}, version=version)
        if str(tmp_path / "site") not in sys.path:
            monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("toy_encoder", None)

    return put


def test_whispers_encoder_and_a_plug_ins_keep_the_protocol(put: Put, voice_parts: tuple[Path, Path]) -> None:
    put()
    whisper, toy = open_encoder(str(voice_parts[0]), device="cpu"), open_encoder("plugin:toy:x", device="cpu")
    assert isinstance(whisper, FrozenEncoder)
    assert isinstance(toy, PluggedEncoder)
    for encoder in (whisper, toy):
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder, ReadyEncoder)
        states = encoder.states(torch.zeros(3, encoder.window.samples))
        assert states.shape == (3, encoder.frames, encoder.width)
        assert states.dtype == torch.float16
    assert (whisper.frames, whisper.layers) == (50, (1,))


def test_states_are_the_plug_ins_however_many_clips_there_are(put: Put) -> None:
    put()
    encoder = PluggedEncoder.load("toy")
    waveforms = torch.rand(19, 16_000)
    expected = waveforms.reshape(19, 10, 1600)[:, :, :4].half()
    assert torch.equal(encoder.states(waveforms), expected)
    assert [len(states) for states in encoder.stream([waveforms[:2], waveforms[2:]])] == [2, 17]


def test_the_digest_is_of_name_and_argument_and_not_of_how_it_computes(put: Put) -> None:
    put()
    digests = {PluggedEncoder.load(name).digest for name in ("toy", "toy:a", "toy:b")}
    assert len(digests) == 3
    assert PluggedEncoder.load("toy:a", precision="bf16", device="cpu").digest in digests
    put(name="other")
    assert PluggedEncoder.load("other:a").digest not in digests


@pytest.mark.parametrize("member", ["window", "frames", "width", "layers", "precision", "digest", "states"])
def test_a_missing_member_is_named(put: Put, member: str) -> None:
    put(CODE + f"    {member}_is_gone = True\n    def __getattribute__(self, name):\n"
        f"        if name == {member!r}: raise AttributeError(name)\n        return super().__getattribute__(name)\n")  # fmt: skip
    message = rf"(?s)the encoder plug-in 'toy' \(toy-encoder 0\.1\) is no Encoder.*Toy without {member}\n"
    with pytest.raises(RequestError, match=message):
        open_encoder("plugin:toy")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("window = 1.0", r"window: an emonet\.windows\.Window.*window 1\.0"),
        ("frames = 0", r"frames: an integer above 0.*frames 0"),
        ("width = True", r"width: an integer.*width True"),
        ("layers = ()", r"layers: a tuple.*layers \(\)"),
        ("layers = [1]", r"layers: a tuple.*layers \[1\]"),
        ("layers = (1, 2, 3)", r"width: the same for each of its layers.*width 4"),
        ("digest = property(lambda self: b'x', lambda self, value: None)", r"digest: text.*digest b'x'"),
        ("precision = 'fp8'", r"precision: float32, bf16, float16, int8.*precision 'fp8'"),
    ],
)
def test_facts_that_cannot_be_are_refused(put: Put, facts: str, message: str) -> None:
    put(CODE + f"    {facts}\n")
    with pytest.raises(RequestError, match=rf"(?s)'toy'.*says something of itself that cannot be.*{message}"):
        open_encoder("plugin:toy")


@pytest.mark.parametrize(
    ("states", "error", "message"),
    [
        ("waveforms[:, :4]", RequestError, r"other states than it says.*shape \(2, 10, 4\).*shape \(2, 4\)"),
        ("waveforms.reshape(-1, 10, 1600)[:, :, :4].int()", RequestError, r"found: +Tensor of torch\.int32"),
        ("waveforms.numpy()", RequestError, r"found: +ndarray"),
        ("None", RequestError, r"found: +NoneType"),
        ("torch.full((len(waveforms), 10, 4), float('nan'))", EmonetError, r"do not fit into float16.*nan"),
        ("torch.full((len(waveforms), 10, 4), 1e5)", EmonetError, r"do not fit into float16.*1e\+05"),
        ("waveforms.reshape(3, 3)", EmonetError, r"failed.*RuntimeError"),
    ],
)
def test_states_are_checked(put: Put, states: str, error: type[EmonetError], message: str) -> None:
    put(CODE + f"    def states(self, waveforms): return {states}\n")
    encoder = open_encoder("plugin:toy")
    with pytest.raises(error, match=rf"(?s)encoder plug-in 'toy' \(toy-encoder 0\.1\).*{message}"):
        encoder.states(torch.zeros(2, 16_000))


@pytest.fixture
def saved(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the encoder `toy:weights` was saved in, where `weights` is a file of the working folder."""
    put()
    monkeypatch.chdir(tmp_path)
    Path("weights").touch()
    open_encoder("plugin:toy:weights").save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_encoder_is_found_again_from_any_folder(put: Put, tmp_path: Path) -> None:
    put(CODE.replace("{argument}", "{argument[-7:]}"))
    (tmp_path / "weights").touch()
    encoder = open_encoder(f"plugin:toy:{tmp_path}/weights")
    encoder.save(tmp_path / "saved")
    assert open_encoder(str(tmp_path / "saved")).digest == encoder.digest


def test_a_size_stays_a_size_where_a_file_has_its_name(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(CODE.replace('f"toy {argument}"', 'f"toy {int(argument)}"'))
    monkeypatch.chdir(tmp_path)
    Path("8").mkdir()
    open_encoder("plugin:toy:8").save(tmp_path / "saved")
    assert open_encoder(str(tmp_path / "saved")).digest == open_encoder("plugin:toy:8").digest
    long = "8".rjust(300, "0")
    open_encoder(f"plugin:toy:{long}").save(tmp_path / "long")
    note = read_note(tmp_path / "long")
    assert note is not None
    assert note.encoder == f"toy:{long}"


def test_a_saved_encoder_says_which_package_it_needs(saved: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "site")
    message = r"(?s)the plug-in is not installed here.*'toy' of toy-encoder 0\.1.*pip install toy-encoder==0\.1"
    with pytest.raises(RequestError, match=message):
        open_encoder(str(saved))


def test_another_encoder_under_the_same_name_is_refused(saved: Path, put: Put) -> None:
    put(CODE.replace('"toy {', '"toy, version 2 {'), version="0.2")
    message = r"(?s)gives another encoder.*toy-encoder 0\.1, digest.*toy-encoder 0\.2, digest.*toy-encoder==0\.1"
    with pytest.raises(RequestError, match=message):
        open_encoder(str(saved))


def test_a_damaged_note_is_told(saved: Path) -> None:
    (saved / NOTE).write_text("{}")
    with pytest.raises(RequestError, match=r"(?s)cannot be read.*plugin\.json"):
        open_encoder(str(saved))


def test_experts_of_another_encoder_are_refused(put: Put, voice_parts: tuple[Path, Path], tmp_path: Path) -> None:
    put()
    with pytest.raises(RequestError, match="trained on the states of another encoder"):
        assemble("plugin:toy", voice_parts[1], tmp_path / "voice")
    with pytest.raises(RequestError, match="no installed package registers the encoder 'tony'"):
        EmotionPipeline.from_experts(voice_parts[1], "plugin:tony")


def test_heard_frames_follow_the_encoders_own_rate() -> None:
    window = Window(2.0)
    assert [window.speech_frames(seconds) for seconds in (0.0, 0.5, 0.501, 3.0)] == [1, 25, 26, 100]
    assert [window.speech_frames(seconds, 20) for seconds in (0.0, 0.5, 0.501, 3.0)] == [1, 5, 6, 20]


def test_padding_is_cut_to_the_plug_ins_window(put: Put) -> None:
    put()
    encoder: Any = open_encoder("plugin:toy")
    assert encoder.states(pad([np.zeros(40_000, np.float32)], encoder.window)).shape == (1, 10, 4)


@pytest.mark.parametrize(("layers", "inner"), [((1,), None), ((7,), None), ((1, 2), (1, 2))])
def test_a_single_layer_of_a_plug_in_counts_as_the_last(
    put: Put, layers: tuple[int, ...], inner: tuple[int, ...] | None
) -> None:
    put(CODE + f"    layers = {layers}\n")
    assert inner_layers(open_encoder("plugin:toy")) == inner
