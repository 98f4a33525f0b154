from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale_captioner import against_trainer, devices

pytestmark = [pytest.mark.slow, pytest.mark.numeric, pytest.mark.timeout(900)]


def test_both_trainers_take_the_same_steps(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    *rates, loss = against_trainer(tmp_path, quick=True)
    assert all(row.figure > 0 and row.ratio is not None for row in rates)
    assert loss.verdict == "met", loss


def test_two_processes_are_measured_against_one(tmp_path: Path) -> None:
    one, two = devices(tmp_path, quick=True)
    assert one.figure > 0
    assert two.ratio == pytest.approx(two.figure / one.figure)
