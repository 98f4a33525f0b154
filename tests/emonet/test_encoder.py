from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from emonet.encoder import FrozenEncoder, weights_digest
from emonet.errors import EmonetError, RequestError
from emonet.logmel import pad
from emonet.windows import SAMPLE_RATE, Window


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    build(seed=0).save_pretrained(folder)
    return folder


def build(seed: int) -> WhisperForConditionalGeneration:
    torch.manual_seed(seed)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
            max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip


def clips(count: int, seconds: float = 0.8) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 10.0**-k, round(seconds * SAMPLE_RATE)).astype(np.float32) for k in range(count)]


def test_states_of_a_captioner(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    assert (encoder.window, encoder.width, encoder.mels, encoder.precision) == (Window(1.0), 32, 80, "float32")
    waveforms = pad(clips(2), encoder.window)
    states = encoder(waveforms)
    assert states.shape == (2, 50, 32)
    assert states.dtype == torch.float16
    assert not states.requires_grad
    assert torch.equal(states, encoder(waveforms))


def test_equals_the_encoder_of_transformers(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    model = WhisperForConditionalGeneration.from_pretrained(captioner).eval()
    waveforms = pad(clips(2), encoder.window)
    with torch.no_grad():
        expected = model.model.encoder(encoder._logmel(waveforms)).last_hidden_state
    torch.testing.assert_close(encoder(waveforms), expected.half())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_other_clips_of_a_batch_do_not_matter(captioner: Path, precision: str) -> None:
    encoder = FrozenEncoder.load(str(captioner), precision=precision, device="cpu")  # type: ignore[arg-type]
    waveforms = pad(clips(4), encoder.window)
    together, alone = encoder(waveforms), torch.cat([encoder(row[None]) for row in waveforms])
    assert (together - alone).abs().max() < (2e-3 if precision == "float32" else 5e-2)


def test_bf16_is_close_to_float32(captioner: Path) -> None:
    exact = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    fast = FrozenEncoder.load(str(captioner), precision="bf16", device="cpu")
    waveforms = pad(clips(2), exact.window)
    error = (fast(waveforms).float() - exact(waveforms).float()).square().mean().sqrt()
    assert error < 0.02 * exact(waveforms).float().std()
    assert fast.digest == exact.digest


def test_saved_alone_it_is_the_same(captioner: Path, tmp_path: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), device="cpu")
    encoder.save(tmp_path / "encoder")
    again = FrozenEncoder.load(str(tmp_path / "encoder"), device="cpu")
    waveforms = pad(clips(2), encoder.window)
    assert again.digest == encoder.digest
    assert torch.equal(again(waveforms), encoder(waveforms))


def test_the_digest_sees_every_weight() -> None:
    module = build(seed=0).model.encoder
    before = weights_digest(module)
    assert before == weights_digest(build(seed=0).model.encoder)
    with torch.no_grad():
        module.layers[1].fc2.bias[-1] += 1e-6
    assert weights_digest(module) != before


def test_audio_that_is_not_padded_is_refused(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), device="cpu")
    with pytest.raises(EmonetError, match=r"(?s)not padded.*16,000 samples.*100 samples"):
        encoder(torch.zeros(1, 100))


@pytest.mark.parametrize(("scale", "found"), [(1e6, r"\de\+"), (float("nan"), "NaN")])
def test_states_beyond_float16_raise(captioner: Path, scale: float, found: str) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(captioner).model.encoder
    with torch.no_grad():
        model.layer_norm.weight.mul_(scale)
    encoder = FrozenEncoder(model, precision="float32", device="cpu")
    with pytest.raises(EmonetError, match=rf"(?s)do not fit into float16.*65504.*{found}"):
        encoder(pad(clips(1), encoder.window))


def test_what_is_no_captioner_is_named(captioner: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such captioner.*nowhere/captioner/here"):
        FrozenEncoder.load("nowhere/captioner/here")
    with pytest.raises(EmonetError, match=r"openai/whisper-nonesuch.*cannot be fetched"):
        FrozenEncoder.load("openai/whisper-nonesuch")
    (tmp_path / "config.json").write_bytes((captioner / "config.json").read_bytes())
    with pytest.raises(RequestError, match=r"(?s)cannot be loaded.*model\.safetensors"):
        FrozenEncoder.load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((captioner / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(RequestError, match="cannot be loaded"):
        FrozenEncoder.load(str(tmp_path))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_states(captioner: Path) -> None:
    on_cpu = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    on_gpu = FrozenEncoder.load(str(captioner), precision="float32", device="cuda")
    waveforms = pad(clips(4), on_cpu.window)
    assert on_gpu.digest == on_cpu.digest
    torch.testing.assert_close(on_gpu(waveforms), on_cpu(waveforms), rtol=1e-2, atol=1e-2)
    half = FrozenEncoder.load(str(captioner), precision="bf16", device="cuda")
    torch.testing.assert_close(half(waveforms), on_cpu(waveforms), rtol=5e-2, atol=5e-2)
