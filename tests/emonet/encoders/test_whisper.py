from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emonet.audio import pad
from emonet.encoders import FrozenEncoder
from emonet.encoders.attention import SHORTEST, per_head
from emonet.encoders.packed_linear import PackedLinear, packable
from emonet.encoders.whisper import weights_digest
from emonet.errors import EmonetError, RequestError
from emonet.windows import SAMPLE_RATE, Window
from tests.tiny import random_encoder, write_encoder

pytestmark = pytest.mark.numeric


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


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("deep"), encoder_layers=4, max_source_positions=100)


@pytest.mark.parametrize("layers", [(2,), (1, 3), (4,), (2, 4)])
def test_layers_are_the_hidden_states_of_transformers(deep: Path, layers: tuple[int, ...]) -> None:
    encoder = FrozenEncoder.load(str(deep), layers=layers, precision="float32", device="cpu")
    assert (encoder.layers, encoder.depth, encoder.width) == (layers, 4, 32 * len(layers))
    waveforms = pad(clips(2), encoder.window)
    with torch.no_grad():
        every = WhisperEncoder.from_pretrained(deep).eval()(encoder._logmel(waveforms), output_hidden_states=True)
    expected = torch.cat([every.hidden_states[layer] for layer in layers], 2)
    torch.testing.assert_close(encoder(waveforms), expected.half())


def test_layers_above_the_highest_are_neither_computed_nor_kept(deep: Path, tmp_path: Path) -> None:
    whole, low = (
        FrozenEncoder.load(str(deep), layers=layers, precision="float32", device="cpu") for layers in (None, (1, 2))
    )
    assert low.parameters < whole.parameters
    assert low.flops_per_clip < 0.7 * whole.flops_per_clip
    low.save(tmp_path / "low")
    again = FrozenEncoder.load(str(tmp_path / "low"), precision="float32", device="cpu")
    waveforms = pad(clips(2), low.window)
    assert (again.layers, again.depth, again.digest) == ((1, 2), 4, low.digest)
    assert torch.equal(again(waveforms), low(waveforms))
    assert (
        FrozenEncoder.load(str(tmp_path / "low"), layers=(2,)).digest
        == FrozenEncoder.load(str(deep), layers=(2,)).digest
    )
    with pytest.raises(RequestError, match=r"(?s)no such layer.*1 to 2 \(of 4; the others were not kept\)"):
        FrozenEncoder.load(str(tmp_path / "low"), layers="last")
    WhisperEncoder.from_pretrained(tmp_path / "low")  # an ordinary folder of an encoder


def test_a_shorter_window_is_the_first_positions(deep: Path) -> None:
    encoder = FrozenEncoder.load(str(deep), window_seconds=0.8, precision="float32", device="cpu")
    assert (encoder.window, encoder.frames) == (Window(0.8), 40)
    cut = WhisperEncoder.from_pretrained(deep).eval()
    positions = torch.nn.Embedding(40, 32)
    positions.weight.data = cut.embed_positions.weight.data[:40].clone()
    cut.embed_positions, cut.config.max_source_positions, cut.max_source_positions = positions, 40, 40
    waveforms = pad(clips(2), encoder.window)
    with torch.no_grad():
        expected = cut(encoder._logmel(waveforms)).last_hidden_state
    torch.testing.assert_close(encoder(waveforms), expected.half())
    with pytest.raises(RequestError, match=r"(?s)longer than this Whisper hears.*up to 2 s.*found:\s+3 s"):
        FrozenEncoder.load(str(deep), window_seconds=3.0)


def test_other_states_have_another_digest(deep: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"layers": (3,)}, {"layers": "middle"}, {"layers": "all"}]
    settings += [{**one, "window_seconds": 1.0} for one in settings]
    digests = [FrozenEncoder.load(str(deep), **one).digest for one in settings]
    assert len(set(digests)) == len(digests)
    assert FrozenEncoder.load(str(deep), layers=(4,), window_seconds=2.0).digest == digests[0]


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


def whisper(**shape: int) -> WhisperEncoder:
    """A random encoder; by default a window of 3 s, long enough for attention one head at a time."""
    sizes = {"d_model": 64, "encoder_layers": 2, "encoder_ffn_dim": 128, "max_source_positions": 150}
    return random_encoder(**sizes | shape)


def test_bf16_rounds_a_copy_and_shares_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emonet.encoders.whisper.packable", lambda: False)
    handed = whisper()
    encoder = FrozenEncoder(handed, precision="bf16", device="cpu")
    kept, rounded = dict(handed.named_parameters()), dict(encoder._encoder.named_parameters())
    assert list(kept) == list(rounded)
    for name, weights in rounded.items():
        if "norm" in name or "embed" in name:
            assert weights.data_ptr() == kept[name].data_ptr()
        else:
            assert torch.equal(weights, kept[name].bfloat16())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_was_handed_over_stays_as_it_is(precision: str) -> None:
    handed = whisper().train()
    before, config = weights_digest(handed), handed.config.to_dict()
    encoder = FrozenEncoder(handed, precision=precision, device="cpu")  # type: ignore[arg-type]
    encoder(pad(clips(1), encoder.window))
    assert weights_digest(handed) == before == encoder.digest
    assert all(weights.requires_grad and weights.dtype == torch.float32 for weights in handed.layers.parameters())
    assert handed.training
    assert handed.config.to_dict() == config
    assert not any(weights.requires_grad for weights in encoder._encoder.parameters())
    assert not encoder._encoder.training


def test_packed_weights_change_nothing_but_the_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = FrozenEncoder(whisper(), precision="bf16", device="cpu")
    exact = FrozenEncoder(whisper(), precision="float32", device="cpu")
    monkeypatch.setattr("emonet.encoders.whisper.packable", lambda: False)
    plain = FrozenEncoder(whisper(), precision="bf16", device="cpu")
    waveforms = pad(clips(2, seconds=2.5), exact.window)
    expected = exact(waveforms).float()
    errors = [float((encoder(waveforms).float() - expected).square().mean().sqrt()) for encoder in (fast, plain)]
    assert errors[0] < 1.1 * errors[1]
    assert sum(isinstance(module, PackedLinear) for module in exact._encoder.modules()) == 0
    assert sum(isinstance(module, PackedLinear) for module in fast._encoder.modules()) == (12 if packable() else 0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_states_lie_in_order_between_the_layers(precision: str) -> None:
    encoder = FrozenEncoder(whisper(), precision=precision, device="cpu")  # type: ignore[arg-type]
    seen: list[Tensor] = []
    for layer in encoder._encoder.layers:
        layer.register_forward_hook(lambda layer, arguments, states: seen.extend([arguments[0], states]))
    encoder(pad(clips(2), encoder.window))
    assert len(seen) == 4
    assert all(states.is_contiguous() and states.dtype == torch.float32 for states in seen)


def test_bf16_attention_over_a_long_window_is_close_to_float32() -> None:
    handed = whisper()
    exact = FrozenEncoder(handed, precision="float32", device="cpu")
    fast = FrozenEncoder(handed, precision="bf16", device="cpu")
    assert fast.window.frames >= SHORTEST
    waveforms = pad(clips(3, seconds=2.5), exact.window)
    expected = exact(waveforms).float()
    assert (fast(waveforms).float() - expected).square().mean().sqrt() < 0.02 * expected.std()


@pytest.mark.parametrize("shape", [{}, {"encoder_layers": 3, "encoder_ffn_dim": 100, "num_mel_bins": 128}])
def test_operations_are_those_that_torch_counts(shape: dict[str, int]) -> None:
    encoder = FrozenEncoder(whisper(**shape), precision="float32", device="cpu")
    for layer in encoder._encoder.layers:
        layer.self_attn.attend = per_head  # fused products are not counted
    mel = torch.zeros(1, encoder.mels, encoder.window.mel_frames)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder._encoder(mel)
    assert encoder.flops_per_clip == counter.get_total_flops()


@pytest.mark.parametrize(
    ("frames", "hidden", "matrix_units", "clips_per_pass"),
    [
        (1500, 3072, False, 1),
        (1500, 3072, True, 2),
        (250, 512, False, 16),
        (250, 512, True, 16),
        (50, 64, False, 64),
        (500, 1024, False, 4),
        (150, 640, False, 16),
    ],
)
def test_the_pass_on_a_processor_follows_from_its_kind_and_the_shape(
    frames: int, hidden: int, matrix_units: bool, clips_per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emonet.encoders.whisper.has_matrix_units", lambda: matrix_units)
    shape = {"max_source_positions": frames, "encoder_ffn_dim": hidden, "encoder_layers": 1}
    for precision in ("float32", "bf16"):
        encoder = FrozenEncoder(whisper(**shape), precision=precision, device="cpu")  # type: ignore[arg-type]
        assert encoder.batch_size() == clips_per_pass


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_clip_has_the_same_bytes_whatever_shares_its_pass(precision: str) -> None:
    encoder = FrozenEncoder(whisper(), precision=precision, device="cpu")  # type: ignore[arg-type]
    waveforms = pad(clips(5, seconds=2.5), encoder.window)
    states = encoder(waveforms)
    for position in range(5):
        others = torch.zeros_like(waveforms)
        others[position] = waveforms[position]
        assert torch.equal(encoder(others)[position], states[position])


def test_a_stream_gives_what_calls_give(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), device="cpu")
    waveforms = pad(clips(5), encoder.window)
    batches = [waveforms[:2], waveforms[2:4], waveforms[4:]]
    taken: list[int] = []

    def source() -> Iterator[Tensor]:
        for position, batch in enumerate(batches):
            taken.append(position)
            yield batch

    streamed = encoder.stream(source())
    assert torch.equal(next(streamed), encoder(batches[0]))
    assert taken == [0]
    for states, batch in zip(streamed, batches[1:], strict=True):
        assert torch.equal(states, encoder(batch))
    assert list(encoder.stream([])) == []


@contextmanager
def memory_for(encoder: FrozenEncoder, most: int) -> Iterator[list[int]]:
    """As on a GPU whose memory holds `most` clips; gives the sizes of the passes that were tried."""
    tried: list[int] = []

    def refuse(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        tried.append(len(arguments[0]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    handle = encoder._encoder.layers[1].register_forward_pre_hook(refuse)
    try:
        yield tried
    finally:
        handle.remove()


def test_out_of_memory_halves_the_pass_and_goes_on(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    waveforms = pad(clips(7), encoder.window)
    expected = encoder(waveforms)
    with memory_for(encoder, 2) as tried:
        torch.testing.assert_close(encoder(waveforms), expected)
        assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
        tried.clear()
        first, second = encoder.stream([waveforms[:4], waveforms[4:]])
        assert tried == [1] * 7  # it remembers
    torch.testing.assert_close(torch.cat([first, second]), expected)
    assert encoder.batch_size() == 1


def test_no_memory_for_one_clip_is_said(captioner: Path) -> None:
    encoder = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    message = r"(?s)no memory for a pass of one clip.*cpu.*Tried to allocate 20\.00 GiB.*another device"
    with memory_for(encoder, 0) as tried, pytest.raises(EmonetError, match=message):
        encoder(pad(clips(4), encoder.window))
    assert tried == [4, 2, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inside torch 2.13
def test_compiled_it_gives_the_same() -> None:
    plain, compiled = (FrozenEncoder(whisper(encoder_layers=1), device="cpu", compile=c) for c in (False, True))
    waveforms = pad(clips(2, seconds=2.5), plain.window)
    with fresh_cache():  # the usual one lies in /tmp, and may hold code for what another run took this processor for
        states, expected = compiled(waveforms).float(), plain(waveforms).float()
    # Where bf16 is computed, fused steps round elsewhere: 2^-9 each, over some ten steps; single states differ by more.
    assert (states - expected).norm() / expected.norm() < 1e-2
    assert compiled.digest == plain.digest


@pytest.mark.gpu
def test_a_gpu_gives_the_same_states(captioner: Path) -> None:
    on_cpu = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    on_gpu = FrozenEncoder.load(str(captioner), precision="float32", device="cuda")
    waveforms = pad(clips(4), on_cpu.window)
    assert on_gpu.digest == on_cpu.digest
    torch.testing.assert_close(on_gpu(waveforms), on_cpu(waveforms), rtol=1e-2, atol=1e-2)
    half = FrozenEncoder.load(str(captioner), precision="bf16", device="cuda")
    torch.testing.assert_close(half(waveforms), on_cpu(waveforms), rtol=5e-2, atol=5e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_gpu_streams_what_it_computes(precision: str) -> None:
    encoder = FrozenEncoder(whisper(), precision=precision, device="cuda")  # type: ignore[arg-type]
    waveforms = pad(clips(6, seconds=2.5) * 4, encoder.window)
    batches = list(waveforms.split(8))
    for states, batch in zip(encoder.stream(iter(batches)), batches, strict=True):
        assert states.device.type == "cpu"
        assert torch.equal(states, encoder(batch))


@pytest.mark.gpu
def test_a_gpu_tells_how_long_it_computed_of_pinned_audio() -> None:
    encoder = FrozenEncoder(whisper(), device="cuda")
    waveforms = pad(clips(6, seconds=2.5), encoder.window, pinned=True)
    assert waveforms.is_pinned()
    assert torch.equal(waveforms, pad(clips(6, seconds=2.5), encoder.window))
    assert encoder.computed_seconds == 0
    began = time.monotonic()
    for states in encoder.stream([waveforms] * 3):
        assert torch.equal(states, encoder(waveforms))
    assert 0 < encoder.computed_seconds < time.monotonic() - began


@pytest.mark.gpu
def test_a_gpu_probes_and_halves_in_the_memory_that_there_is() -> None:
    encoder = FrozenEncoder(whisper(max_source_positions=1500, d_model=512, encoder_ffn_dim=2048), device="cuda")
    waveforms = pad(clips(64), encoder.window)
    expected = encoder(waveforms)
    assert encoder.batch_size() == 64
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(encoder.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 500e6) / total)
    try:
        torch.testing.assert_close(encoder(waveforms), expected, rtol=2e-2, atol=2e-2)
        assert 1 <= encoder.batch_size() < 64
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
