from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from emonet.experts import ExpertBank, Features, InputSpec, QuantizedBank, Rounded
from emonet.experts import quantized as compact

pytestmark = pytest.mark.numeric

SPEC = InputSpec("flatten", "all", 300, 64)
TARGETS, HIDDEN = ("anger", "fear", "awe"), (64, 64, 32, 16)
BOUNDS = {"bf16": (0.06, 0.02), "int8": (0.1, 0.04)}  # largest and RMS error, in deviations of the scores
PRECISIONS: tuple[Rounded, ...] = ("bf16", "int8")


def a_bank(spec: InputSpec = SPEC) -> ExpertBank:
    bank = ExpertBank(spec, TARGETS, HIDDEN, seed=3).eval()
    with torch.no_grad():
        bank.layers[0].weight.mul_(3)  # so that scores differ between clips as trained ones do
    return bank


def rounded(bank: ExpertBank, precision: Rounded) -> QuantizedBank:
    found = QuantizedBank(bank.spec, bank.targets, bank.hidden, precision)
    for position in range(len(bank.targets)):
        found.load_expert(position, dict(bank.tensors(position)))
    return found


def clips(count: int, spec: InputSpec = SPEC) -> Features:
    """States as an encoder gives them: a mean of its own for each value, a few of them large, in float16."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(spec.width, generator=generator)
    centre[:2] = 25.0
    states = centre + torch.randn(count, spec.frames, spec.width, generator=generator)
    return spec.prepare(states.half(), torch.full((count,), spec.frames))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_scores_are_close_to_those_in_float32(precision: Rounded, batch: int) -> None:
    bank = a_bank()
    found = rounded(bank, precision)
    features = clips(33).rows(torch.arange(batch))
    scores = found(features)
    assert (scores.shape, scores.dtype) == ((batch, 3), torch.float32)
    deviation = bank(clips(33)).std(0).square().mean().sqrt()
    assert float((scores - bank(features)).detach().abs().max() / deviation.detach()) < BOUNDS[precision][0]


def test_int8_errs_more_than_bf16_and_both_little() -> None:
    bank, features = a_bank(), clips(40)
    exact, rms = bank(features).detach(), {}
    for precision in PRECISIONS:
        errors = (rounded(bank, precision)(features).detach() - exact) / float(exact.var(0).mean().sqrt())
        rms[precision] = float(errors.square().mean().sqrt())
        assert float(errors.abs().max()) < BOUNDS[precision][0]
        assert 0 < rms[precision] < BOUNDS[precision][1]
    assert rms["int8"] > rms["bf16"]


def skip_what_is_emulated(product: str) -> None:
    if product == "_int8" and torch.cpu.get_capabilities().get("avx512_vnni") and not compact._has_int8():
        pytest.skip("ONEDNN_MAX_CPU_ISA: oneDNN emulates products of int8, and wrongly")


@pytest.mark.parametrize(
    ("precision", "product", "bound"),
    [("bf16", "_exact", 1e-4), ("bf16", "_bf16", 0.02), ("int8", "_exact", 1e-4), ("int8", "_int8", 1e-3)],
)
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_every_operator_gives_the_same_product(precision: Rounded, product: str, bound: float, rows: int) -> None:
    skip_what_is_emulated(product)
    weights = rounded(a_bank(), precision).first[0]
    inputs = clips(32).values[:rows, : weights.shape[1]]
    expected = inputs.double() @ weights.double().T
    found = getattr(compact, product)(inputs, weights)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.std()) < bound


@pytest.mark.parametrize("product", ["_exact", "_int8"])
def test_sums_of_whole_blocks_do_not_overflow(product: str) -> None:
    skip_what_is_emulated(product)
    weights = torch.full((4, compact.BLOCK), 127, dtype=torch.int8)
    inputs = torch.full((2, compact.BLOCK), 60_000.0).half()
    found = getattr(compact, product)(inputs, weights)
    torch.testing.assert_close(found, inputs.float() @ weights.float().T, rtol=1e-4, atol=0)
    assert bool((getattr(compact, product)(inputs * 0, weights) == 0).all())


def test_the_operator_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities: dict[str, bool] = {}
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    half, whole = torch.empty(1, 1, dtype=torch.bfloat16), torch.empty(1, 1, dtype=torch.int8)
    assert compact._operator(half) is compact._operator(whole) is compact._exact
    capabilities |= {"avx512_bf16": True, "avx512_vnni": True}
    assert (compact._operator(half), compact._operator(whole)) == (compact._bf16, compact._int8)
    with monkeypatch.context() as limited:  # where oneDNN would emulate, and products of int8 wrongly
        limited.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert compact._operator(half) is compact._operator(whole) is compact._exact
    monkeypatch.delattr(torch, "_int_mm")
    assert compact._operator(whole) is compact._exact


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_row_of_each_block_is_rounded_by_itself(precision: Rounded) -> None:
    bank = a_bank()
    with torch.no_grad():
        bank.layers[0].weight[1, 7] *= 1e6  # one row and one block of large weights disturb no other
        bank.layers[0].weight[0, 0, :64] *= 1e6
        bank.layers[0].weight[2, 5] = 0
        bank.layers[0].weight[2, 6] = 1e-42
    found = rounded(bank, precision)
    scale = found.scale.unsqueeze(2) if precision == "int8" else 1.0
    blocks, rows, width = found.first.shape
    weights = (found.first.float() * scale).transpose(0, 1).reshape(rows, blocks * width)
    exact = bank.layers[0].weight.detach().flatten(0, 1)
    error = (weights - exact).view(rows, blocks, width).abs().amax(2)
    largest = exact.view(rows, blocks, width).abs().amax(2)
    assert torch.isfinite(weights).all()
    assert bool((error <= largest * (1 / 254 + 1e-6 if precision == "int8" else 1 / 256) + 1e-37).all())


@pytest.mark.parametrize(("precision", "share"), [("bf16", 0.5), ("int8", 0.25)])
def test_it_takes_a_half_and_a_quarter_of_the_memory(precision: Rounded, share: float) -> None:
    def size(bank: torch.nn.Module) -> int:
        return sum(tensor.nbytes for tensor in (*bank.parameters(), *bank.buffers()))

    bank = a_bank()
    assert size(rounded(bank, precision)) / size(bank) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("frames", "width", "block"), [(1500, 768, 15_360), (1500, 1280, 15_360), (37, 768, 768), (10, 4, 40), (2, 20_000, 20_000)])  # fmt: skip
def test_blocks_divide_the_frames(frames: int, width: int, block: int) -> None:
    assert QuantizedBank(InputSpec("flatten", "all", frames, width), ["anger"], (4,), "int8").first.shape[2] == block


def test_only_flattened_states_have_a_wide_layer() -> None:
    with pytest.raises(ValueError, match="form statistics have no wide layer"):
        QuantizedBank(InputSpec("statistics", "all", 10, 4), TARGETS, HIDDEN, "int8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_cannot_be_trained(precision: Rounded) -> None:
    found = rounded(a_bank(), precision)
    assert not any(tensor.requires_grad for tensor in found.parameters())
    assert not found(clips(2)).requires_grad


def test_a_gpu_takes_the_plain_way() -> None:
    weights = torch.empty(2, 2, dtype=torch.int8, device="meta")
    assert compact._operator(weights) is compact._exact


def test_two_digits_of_bf16_hold_all_of_a_float16() -> None:
    """But for the last steps of the smallest: 2**-24 is one of float16's."""
    inputs = clips(3).values.view(3, 2, -1).transpose(0, 1)
    digits = compact.bf16_digits(inputs)
    assert (digits.dtype, digits.shape[:2]) == (torch.bfloat16, (2, 6))
    assert torch.equal(digits[:, :3].float() + digits[:, 3:].float(), inputs.float())


@pytest.mark.parametrize("rows", [1, 3, 32])
@pytest.mark.parametrize("cut", [0, 4])
def test_all_blocks_in_int8_give_the_products_of_each(rows: int, cut: int) -> None:
    skip_what_is_emulated("_int8")
    weights = rounded(a_bank(), "int8").first
    blocks, _, width = weights.shape
    inputs = clips(32).values[:rows].view(rows, blocks, width).transpose(0, 1)[:, :, cut:]
    weights = weights[:, :, cut:].contiguous()
    expected = inputs.double() @ weights.double().transpose(1, 2)
    found = compact.int8_blocks(inputs, weights)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.std()) < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_all_blocks_on_a_gpu(precision: Rounded, rows: int) -> None:
    weights = rounded(a_bank(), precision).first
    blocks, _, width = weights.shape
    inputs = clips(32).values[:rows].view(rows, blocks, width).transpose(0, 1)
    multiply = compact.bf16_blocks if precision == "bf16" else compact.int8_blocks
    expected = inputs.double() @ weights.double().transpose(1, 2)
    found = multiply(inputs.cuda(), weights.cuda()).cpu()
    assert (found.dtype, found.shape) == (torch.float32, expected.shape)
    assert float((found - expected).abs().max() / expected.std()) < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_many_clips_on_a_gpu_score_as_each_alone(precision: Rounded) -> None:
    found, features = rounded(a_bank(), precision).cuda(), clips(compact.LAUNCHED + 5).to("cuda")
    together = found(features)
    for position in (0, compact.LAUNCHED, len(together) - 1):
        alone = found(features.rows(torch.tensor([position], device="cuda")))
        torch.testing.assert_close(together[position : position + 1], alone, rtol=1e-3, atol=1e-3)
    assert found(features.rows(torch.arange(0, device="cuda"))).shape == (0, len(TARGETS))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_a_gpu(precision: Rounded) -> None:
    found, features = rounded(a_bank(), precision), clips(4)
    torch.testing.assert_close(found.cuda()(features.to("cuda")).cpu(), found.cpu()(features), rtol=0.02, atol=0.02)


TRUE_SIZE = """
import re, sys
from pathlib import Path
from emonet.checkpoints.files import fill_bank
from emonet.checkpoints.published import open_published
from emonet.encoders.whisper import FrozenEncoder
import torch

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

class Encoder:
    digest, width, frames, layers, depth = "e" * 64, 768, 1500, (12,), 12
    from emonet.windows import Window
    window = Window()

folder, precision = Path(sys.argv[1]), sys.argv[2]
bank, = open_published(folder).banks(Encoder())
before = peak()
filled = fill_bank(bank.info, bank.reader(), precision)
print(peak() - before, sum(t.nbytes for t in (*filled.parameters(), *filled.buffers())) / 2**20)
assert not bank.problems
"""


@pytest.fixture(scope="module")
def true_size(tmp_path_factory: pytest.TempPathFactory, write_published: Callable[..., Path]) -> Path:
    """Four experts of 295 MB, which share a file."""
    folder = tmp_path_factory.mktemp("true-size")
    first = write_published(folder, "Anger", inputs=1500 * 768)
    for name in ("Fear", "Awe", "Doubt"):
        (folder / f"model_{name}_best.pth").hardlink_to(first)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("precision", "megabytes"), [("bf16", 563), ("int8", 282)])
def test_conversion_of_true_size_experts_streams(true_size: Path, precision: Rounded, megabytes: int) -> None:
    command = [sys.executable, "-c", TRUE_SIZE, str(true_size), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(compact.__file__).parents[2])
    grown, size = map(float, done.stdout.split())
    assert size == pytest.approx(megabytes, abs=2)
    assert grown < size + 1.3 * 281  # one file is mapped at a time; in float32 the four need 1125 MB


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_inputs_are_left_as_they_are(precision: str) -> None:
    spec = InputSpec("flatten", "all", 4, 16)
    compact = QuantizedBank(spec, ["anger"], (4,), precision)  # type: ignore[arg-type]
    values = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    before = values.clone()
    compact(Features(values, torch.full((3,), 4)))
    assert torch.equal(values, before)
