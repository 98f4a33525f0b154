from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from emonet.checkpoints.state_dicts import UnusableError, hidden_widths, not_finite, read_tensors

SHAPES = {
    "proj.weight": [64, 300], "proj.bias": [64], "mlp.2.weight": [64, 64], "mlp.2.bias": [64],
    "mlp.5.weight": [32, 64], "mlp.5.bias": [32], "mlp.8.weight": [16, 32], "mlp.8.bias": [16],
    "mlp.11.weight": [1, 16], "mlp.11.bias": [1],
}  # fmt: skip


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def refusal(path: Path) -> str:
    with pytest.raises(UnusableError) as caught:
        read_tensors(path)
    return "; ".join(caught.value.problems)


def test_the_prefix_of_compiled_modules_is_dropped(tmp_path: Path, write_published: Callable[..., Path]) -> None:
    plain = read_tensors(write_published(tmp_path, "Anger"))
    compiled = read_tensors(write_published(tmp_path / "compiled", "Anger", compiled=True))
    assert {key: list(tensor.shape) for key, tensor in plain.items()} == SHAPES | {"proj.weight": [64, 24_000]}
    assert all(torch.equal(compiled[key], tensor) for key, tensor in plain.items())
    both = write_published(tmp_path / "both", "Anger", **{"_orig_mod.proj.bias": torch.zeros(64)})
    assert refusal(both) == "a tensor is there with and without the prefix _orig_mod."


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, victim = tmp_path / "a.pth", tmp_path / "made"
    torch.save({"proj.weight": Attack(victim)}, path)
    assert "it holds other things than weights, perhaps code, and was not opened" in refusal(path)
    path.write_bytes(pickle.dumps(Attack(victim)))
    assert refusal(path)
    torch.save(torch.nn.Linear(2, 2), path)
    assert "perhaps code" in refusal(path)
    assert not victim.exists()


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_file(tmp_path: Path, write_published: Callable[..., Path], share: float) -> None:
    path = write_published(tmp_path, "Anger")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "it cannot be read, and may have been cut short (" in refusal(path)


def rewritten(path: Path, content: bytes) -> Path:
    """The same archive with another pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in entries.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else held)
    return path


def pickled_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


@pytest.mark.parametrize(
    "damaged",
    [
        b"\x80\x02h\x63.",  # KeyError: nothing was kept under that number
        b"\x80\x02R.",  # IndexError: no arguments
        b"\x80\x02}]K\x01s.",  # TypeError: a list as a key
        b"\x80\x02(X\x07\x00\x00\x00storageK\x00X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",  # AttributeError
        b"\x80\x02J\x01",  # struct.error: half a number
        b"\x80\x02K\x01Q.",  # AssertionError: a number as a tensor's place
        b"\x80\x02",  # EOFError
    ],
)
def test_a_damaged_pickle_cannot_be_read(tmp_path: Path, write_published: Callable[..., Path], damaged: bytes) -> None:
    path = rewritten(write_published(tmp_path, "Anger", inputs=1500), damaged)
    assert "it cannot be read, and may have been cut short (" in refusal(path)


def test_a_flipped_byte_of_a_pickle_is_never_a_crash(tmp_path: Path, write_published: Callable[..., Path]) -> None:
    path = write_published(tmp_path, "Anger", inputs=1500)
    whole, random = pickled_of(path), Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[random.randrange(2, len(whole))] = random.randrange(256)  # of another protocol torch only warns
        try:
            read_tensors(rewritten(path, bytes(damaged)))
        except UnusableError:
            refused += 1
    assert refused > 100


def test_what_is_no_file_or_no_state_dict(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.pth")
    path = tmp_path / "a.pth"
    for content in ([torch.zeros(2)], {"state_dict": {"proj.weight": torch.zeros(2)}}, torch.zeros(2)):
        torch.save(content, path)
        assert refusal(path) == "it holds other things than tensors by name: no bare state dict"
    torch.save({"proj.weight": torch.zeros(2).half(), "proj.bias": torch.zeros(2)}, path)
    assert refusal(path) == "proj.weight is torch.float16, expected torch.float32"


def test_widths_follow_from_shapes_whatever_the_depth() -> None:
    assert hidden_widths(SHAPES) == (64, 64, 32, 16)
    shallow = {"proj.weight": [8, 30], "proj.bias": [8], "mlp.2.weight": [1, 8], "mlp.2.bias": [1]}
    assert hidden_widths(shallow) == (8,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp.5.weight": [32, 63]}, ["mlp.5.weight is [32, 63], expected [32, 64]"]),
        ({"mlp.5.bias": [31]}, ["mlp.5.bias is [31], expected [32]"]),
        ({"mlp.11.weight": [2, 16], "mlp.11.bias": [2]},
         ["mlp.11.bias is [2], expected [1]", "mlp.11.weight is [2, 16], expected [1, 16]"]),
        ({"proj.weight": [64]}, ["proj.weight is [64], expected OUTPUTS x INPUTS"]),
        ({"proj.weight": [64, 0]}, ["proj.weight is [64, 0], expected OUTPUTS x INPUTS"]),
        ({"proj.bias": []}, ["proj.bias is [], expected [64]"]),
        ({"mlp.8.weight": None}, ["mlp.8.weight is missing"]),
        ({"mlp.8.weight": None, "mlp.8.bias": None}, ["mlp.8.bias is missing", "mlp.8.weight is missing"]),
        ({"norm.weight": [4]}, ["norm.weight is no tensor of an expert"]),
        ({"mlp.0.weight": [4]}, ["mlp.0.weight is no tensor of an expert"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_the_tensor_and_both_shapes(
    change: dict[str, list[int] | None], message: list[str]
) -> None:
    shapes = {key: shape for key, shape in {**SHAPES, **change}.items() if shape is not None}
    with pytest.raises(UnusableError) as caught:
        hidden_widths(shapes)
    assert list(caught.value.problems) == message


def test_an_absurd_depth_costs_nothing() -> None:
    with pytest.raises(UnusableError, match=r"mlp\.99999999999\.weight is no tensor of an expert"):
        hidden_widths({**SHAPES, "mlp.99999999999.weight": [1, 1]})


def test_nothing_but_other_tensors_lists_what_an_expert_has() -> None:
    with pytest.raises(UnusableError, match=r"mlp\.11\.bias is missing"):
        hidden_widths({"encoder.weight": [3, 3]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    broken = torch.zeros(3, 4)
    broken[1, 2] = value
    assert list(not_finite({"a": torch.ones(2), "b": broken})) == ["b"]
