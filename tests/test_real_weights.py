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
from emonet.inference import EmotionPipeline
from emonet.windows import Window
from experiments import extract, heads
from experiments.core import Experiment, load

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


@pytest.fixture
def some_of_ravdess(corpora: Path, tmp_path: Path) -> str:
    """Twelve actors, anger and sadness of each."""
    lines = ["audio,speaker,split,anger,sadness"]
    splits = {"train": range(1, 9), "validation": (16, 17), "test": (23, 24)}
    for actor, split in ((actor, split) for split, actors in splits.items() for actor in actors):
        for file in sorted((corpora / "ravdess" / f"Actor_{actor:02d}").iterdir()):
            emotion, strength = file.name.split("-")[2:4]
            if emotion in {"04", "05"} and strength == "02":
                scores = "4,0" if emotion == "05" else "0,4"
                lines.append(f"{file},actor-{actor},{split},{scores}")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    return f"manifest:{manifest}"


def test_quick_experts_tell_anger_from_sadness_in_unheard_voices(
    whisper_base: Path, some_of_ravdess: str, runs: Path, corpora: Path
) -> None:
    settings = {**load("quick").model_dump(), "runs": runs, "corpus": some_of_ravdess}
    settings["extraction"] = {**settings["extraction"], "captioner": str(whisper_base)}
    experiment = Experiment.model_validate(settings)
    extracted = extract.run(experiment)
    assert (extracted.shape[1:], extracted.pool) == ((4, 2048), "statistics")
    assert extracted.bytes_stored / extracted.clips < 30_000
    result = heads.run(experiment)
    assert result.test.of("pearson").mean.value > 0.6
    pipeline = EmotionPipeline.from_folder(result.experts.parent / "voice")
    assert pipeline.encoder.layers == (2, 3, 4, 5)
    angry = pipeline(next((corpora / "ravdess" / "Actor_24").glob("03-01-05-02-01-01-24.*")))
    assert angry["anger"] > 2 > angry["sadness"]
