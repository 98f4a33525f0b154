"""Our encoder is transformers', to the bit, and reads whatever transformers writes; it starts without importing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel
from transformers.models.whisper import modeling_whisper

from emonet.encoders.whisper import weights_digest
from emonet.encoders.whisper_network import WhisperEncoder
from tests.tiny import random_encoder

ROOT = Path(__file__).parents[3]
SHAPE = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "max_source_positions": 50,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "vocab_size": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip


def model(kind: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(WhisperConfig(**SHAPE)).eval()


def mel(bands: int = 80, frames: int = 100) -> torch.Tensor:
    return torch.randn(3, bands, frames, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [{}, {"num_mel_bins": 128, "encoder_layers": 3}, {"activation_function": "relu"}])
def test_states_are_those_of_transformers_to_the_bit(shape: dict[str, Any]) -> None:
    theirs = random_encoder(max_source_positions=50, **shape)
    ours = WhisperEncoder.of(theirs.config.to_dict(), theirs.state_dict())
    heard = mel(theirs.config.num_mel_bins)
    with torch.inference_mode():
        assert torch.equal(ours(heard), theirs.eval()(heard).last_hidden_state)
    assert weights_digest(ours) == weights_digest(theirs)


@pytest.mark.parametrize("kind", [WhisperForConditionalGeneration, WhisperModel, modeling_whisper.WhisperEncoder])
@pytest.mark.parametrize("form", ["one file", "several files", "half", "pickle"])
def test_whatever_transformers_writes_is_read(kind: Any, form: str, tmp_path: Path) -> None:
    theirs = model(kind)
    if form == "half":
        theirs = theirs.half()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB" if form == "several files" else "1GB")
    if form == "pickle":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (form == "several files")
    encoder = theirs.float().get_encoder() if hasattr(theirs, "get_encoder") else theirs.float()
    ours = WhisperEncoder.read(tmp_path)
    assert weights_digest(ours) == weights_digest(getattr(encoder, "encoder", encoder))
    assert not ours.training
    assert all(weights.dtype == torch.float32 for weights in ours.parameters())


def test_what_is_saved_is_read_by_both(tmp_path: Path) -> None:
    model(WhisperForConditionalGeneration).save_pretrained(tmp_path / "whole")
    ours = WhisperEncoder.read(tmp_path / "whole")
    ours.save(tmp_path / "alone")
    theirs = modeling_whisper.WhisperEncoder.from_pretrained(tmp_path / "alone").eval()
    with torch.inference_mode():
        expected = ours(mel())
        assert torch.equal(theirs(mel()).last_hidden_state, expected)
        assert torch.equal(WhisperEncoder.read(tmp_path / "alone")(mel()), expected)


def remove(weights: dict[str, torch.Tensor]) -> None:
    del weights["layers.1.fc2.bias"]


def reshape(weights: dict[str, torch.Tensor]) -> None:
    weights["conv1.weight"] = weights["conv1.weight"][:-1].clone()


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["layers.2.fc2.bias"] = weights["layers.1.fc2.bias"].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, r"weights are missing: layers\.1\.fc2\.bias"),
        (reshape, r"size mismatch for conv1\.weight"),
        (add, r"Unexpected key.*layers\.2\.fc2\.bias"),
    ],
)
def test_weights_that_do_not_fit(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, tmp_path: Path
) -> None:
    model(modeling_whisper.WhisperEncoder).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=message):
        WhisperEncoder.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        '"whisper"',
        "{}",
        '{"d_model": "wide", "activation_function": "gelu"}',
        '{"d_model": 32, "activation_function": "gelu"}',
    ],
)
def test_a_configuration_that_is_none(content: str, tmp_path: Path) -> None:
    model(modeling_whisper.WhisperEncoder).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings|shape|invalid literal|weights are missing"):
        WhisperEncoder.read(tmp_path)


@pytest.mark.slow
def test_a_prediction_imports_no_more_than_it_needs(voice: Path, make_wav: Callable[..., Path]) -> None:
    """Seconds of starting: transformers alone takes three."""
    heavy = ["transformers", "sympy", "pandas", "scipy.optimize", "torch._dynamo", "mlflow", "sklearn", "matplotlib"]
    code = (
        "import sys, json; from pathlib import Path; from emonet.inference.pipeline import EmotionPipeline\n"
        "assert EmotionPipeline.from_folder(Path(sys.argv[1]))(Path(sys.argv[2]))\n"
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(voice), str(make_wav())],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert json.loads(done.stdout) == []
