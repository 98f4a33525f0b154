from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emonet.configs import HIDDEN
from emonet.errors import RequestError
from emonet.experts import InputSpec
from emonet.runtime import memory, resident_bytes
from emonet.training import GIB, TrainingPlan, free_bytes, plan_training
from emonet.training import memory_plan as planning

FULL = InputSpec("flatten", "all", 1500, 768)


def plan(
    gib: float = 24.0, *, experts: int = 40, clips: int = 1000, spec: InputSpec = FULL, **options: object
) -> TrainingPlan:
    known = {"batch_size": 64, "clips": clips, "states_bytes": 4 * GIB, "memory_bytes": int(gib * GIB), **options}
    return plan_training(spec, HIDDEN["small"], experts, **known)  # type: ignore[arg-type]


def test_forty_full_size_experts_fit_into_24_gib_in_groups() -> None:
    made = plan(0.9 * 24)
    assert sum(made.groups) == 40
    assert 2 <= len(made.groups) <= 4
    assert made.peak_bytes <= made.budget
    assert not made.streamed
    assert made.passes == 0


def test_several_devices_have_as_many_groups_each_and_share_the_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "resident_bytes", lambda: 1 << 29)  # of a process that has run other tests: more
    alone = plan(0.9 * 24, clips=10_000)
    four = plan(0.9 * 24, clips=10_000, devices=4)
    assert (len(alone.groups), alone.passes) == (3, 3)
    assert (four.groups, four.passes) == ((10, 10, 10, 10), 1)
    assert "40 experts in 4 groups of up to 10, 4 at a time" in str(four)
    assert str(four).endswith("of memory each")
    two = plan(0.9 * 24, clips=10_000, devices=2)
    assert (len(two.groups), two.passes) == (4, 2), "three would leave a device idle"
    assert two.halved(30).groups == (5, 5, 5, 5, 5, 5)
    few = plan(100.0, experts=3, devices=8)
    assert few.groups == (1, 1, 1)
    together = plan(100.0, experts=15, ensemble=5, devices=2)
    assert together.groups == (10, 5), "members of a target stay together"


def test_bf16_takes_fewer_groups() -> None:
    assert len(plan(precision="bf16").groups) < len(plan().groups)


def test_states_beyond_their_memory_are_read_by_every_group() -> None:
    made = plan(clips=10_000)
    assert made.streamed
    assert made.passes == len(made.groups)
    assert f"reads the store {made.passes} times" in str(made) or "twice" in str(made)


def test_small_experts_are_trained_at_once() -> None:
    made = plan(4.0, spec=InputSpec("statistics", "all", 1500, 768))
    assert made.groups == (40,)
    assert "40 experts at once, float32, states in memory" in str(made)


def test_mixed_layers_count_as_they_are_folded_in_the_end() -> None:
    spec = InputSpec("statistics", "all", 1500, 6 * 768, layers=6)
    single = plan(spec=InputSpec("statistics", "all", 1500, 768)).bytes_per_expert
    mixed = plan(spec=spec, mixed=True).bytes_per_expert
    assert single + 4 * 64 * spec.features <= mixed < plan(spec=spec).bytes_per_expert


def test_members_of_an_ensemble_count_and_stay_together_where_they_fit() -> None:
    single = plan(0.9 * 24)
    several = plan(0.9 * 24, experts=200, ensemble=5)
    assert sum(several.groups) == 200
    assert several.peak_bytes <= several.budget
    assert 4 * len(single.groups) <= len(several.groups) <= 6 * len(single.groups)
    assert all(group % 5 == 0 for group in several.groups)
    for gib in (6, 8):  # too little for five of a target
        few = plan(gib, experts=200, ensemble=5)
        assert sum(few.groups) == 200
        assert max(few.groups) < 5


def test_what_does_not_fit_is_refused_with_advice() -> None:
    with pytest.raises(
        RequestError, match=r"(?s)not enough memory to train even one expert.*GiB.*--heads\.features principal"
    ):
        plan(0.5)


def test_halving_ends_at_single_experts() -> None:
    made = plan(0.9 * 24)
    largest = max(made.groups)
    halved = made.halved(40)
    assert sum(halved.groups) == 40
    assert max(halved.groups) == (largest + 1) // 2
    while max(halved.groups) > 1:
        halved = halved.halved(40)
    with pytest.raises(ValueError, match="cannot be halved"):
        halved.halved(40)


@given(st.integers(1, 200), st.floats(6, 200))
def test_groups_are_even_and_as_few_as_fit(experts: int, gib: float) -> None:
    made = plan(gib, experts=experts, clips=10)
    assert sum(made.groups) == experts
    assert max(made.groups) - min(made.groups) <= 1
    assert made.peak_bytes <= made.budget
    fewer = len(made.groups) - 1
    if fewer:
        assert made.fixed_bytes + -(-experts // fewer) * made.bytes_per_expert > made.budget


def test_what_is_left_is_halved() -> None:
    assert replace(plan(), groups=(14, 13, 13)).halved(26).groups == (7, 7, 6, 6)


def test_a_containers_cached_files_make_way(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text(f"{60 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {5 * GIB}\ninactive_file {40 * GIB}\nactive_file {10 * GIB}\n")
    (tmp_path / "memory.max").write_text(f"{64 * GIB}\n")
    assert memory.container_limits(tmp_path) == [54 * GIB]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.container_limits(tmp_path) == []
    assert memory.container_limits(tmp_path / "none") == []


def test_memory_of_this_machine() -> None:
    free = free_bytes(torch.device("cpu"))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < resident_bytes() < total
    assert resident_bytes() * planning.SHARE < free <= total
