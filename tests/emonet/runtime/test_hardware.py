from __future__ import annotations

import pytest
import torch

from emonet.errors import RequestError
from emonet.runtime import hardware, resolve_device, resolve_precision


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "float32")])
def test_auto_follows_the_processor(native: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_bf16", lambda device: native)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("float32", torch.device("cpu")) == "float32"
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


def test_capabilities_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert not hardware.has_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert hardware.has_bf16(torch.device("cpu"))


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        ("", {"avx2", "avx512_bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}),
        ("ALL", {"avx2", "avx512_bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}),
        ("avx512_core_fp16", {"avx2", "avx512_bw", "avx512_vnni", "avx512_bf16"}),
        ("AVX512_CORE_VNNI", {"avx2", "avx512_bw", "avx512_vnni"}),
        ("AVX2", {"avx2", "avx512_bw"}),
        ("SSE41", {"avx2", "avx512_bw"}),
    ],
)
def test_what_onednn_may_not_use_is_not_there(limit: str, left: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("avx2", "avx512_bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True) | {"l2_cache_size": 1})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert hardware.cpu_abilities() == left
    assert hardware.onednn_may_use("AVX512_CORE") == (limit not in {"AVX2", "SSE41"})


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize("found", [{"amx_bf16": True}, {"amx_bf16": False}, {"avx512_bf16": True}, {}])
def test_matrix_units_of_a_cpu(found: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    hardware.has_matrix_units.cache_clear()
    try:
        assert hardware.has_matrix_units() == found.get("amx_bf16", False)
    finally:
        hardware.has_matrix_units.cache_clear()


def test_bf16_on_a_gpu_without_it_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_bf16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    with pytest.raises(RequestError, match="does not compute in bf16"):
        resolve_precision("bf16", torch.device("cuda"))


def test_device() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:9", "cuda:-1", "foo", "meta"])
def test_a_device_that_is_not_there_is_a_wrong_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        RequestError, match=rf"(?s)no such device.*one of cpu, cuda:0, cuda:1\n.*found: +{name}\n.*--devices cuda:1"
    ):
        resolve_device(name)
    assert [str(resolve_device(there)) for there in ("cuda:1", "cuda", "cpu:0")] == ["cuda:1", "cuda", "cpu:0"]


def test_without_a_gpu_none_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RequestError, match=r"(?s)one of cpu\n.*--devices cpu"):
        resolve_device("cuda")
