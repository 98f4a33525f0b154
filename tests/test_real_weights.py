"""What only real weights show: Whisper base beside the checkout, on real speech."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperModel, WhisperProcessor

from emonet.audio import decode, pad
from emonet.captioner import open_captioner, save_captioner
from emonet.configs import CaptionerConfig
from emonet.encoders import FrozenEncoder
from emonet.windows import Window

pytestmark = [pytest.mark.pretrained, pytest.mark.slow, pytest.mark.numeric]


def test_layers_and_a_short_window_are_those_of_transformers(whisper_base: Path, corpora: Path) -> None:
    encoder = FrozenEncoder.load(
        str(whisper_base), layers="middle", window_seconds=11.0, precision="float32", device="cpu"
    )
    assert (encoder.layers, encoder.depth, encoder.frames) == ((2, 3, 4, 5), 6, 550)
    waveforms = pad([decode(corpora / "speech" / "jfk.flac", seconds=11.0).samples], encoder.window)
    theirs = WhisperModel.from_pretrained(whisper_base, dtype=torch.float32).encoder.eval()
    positions = torch.nn.Embedding(550, 512)
    positions.weight.data = theirs.embed_positions.weight.data[:550].clone()
    theirs.embed_positions, theirs.max_source_positions, theirs.config.max_source_positions = positions, 550, 550
    processor = WhisperProcessor.from_pretrained(whisper_base)
    extractor = type(processor.feature_extractor)(feature_size=80, chunk_length=11)
    mel = extractor(waveforms[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        hidden = theirs(mel, output_hidden_states=True).hidden_states
    expected = torch.cat([hidden[layer] for layer in encoder.layers], 2)
    found = encoder(waveforms).float()
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 1e-3


def test_a_captioner_of_a_short_window_still_writes_what_is_said(
    whisper_base: Path, corpora: Path, tmp_path: Path
) -> None:
    config = CaptionerConfig(model=str(whisper_base), window_seconds=12.0)
    save_captioner(*open_captioner(config, list, 0), tmp_path / "captioner")
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "captioner")
    processor = WhisperProcessor.from_pretrained(tmp_path / "captioner")
    sound = decode(corpora / "speech" / "jfk.flac", seconds=Window(12.0).seconds).samples
    heard = processor(sound, sampling_rate=16_000, return_tensors="pt")
    assert heard.input_features.shape == (1, 80, 1200)
    with torch.no_grad():
        written = model.generate(heard.input_features, max_new_tokens=40)
    said = processor.batch_decode(written, skip_special_tokens=True)[0].lower()
    assert "ask not what your country can do for you" in said.replace(",", "")
