from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import scale_objects


@pytest.mark.slow  # stores of 64 clips, written and read several times
def test_figures_of_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_objects, "FRAMES", 50)
    monkeypatch.setattr(scale_objects, "WIDTH", 32)
    before = dict(os.environ)
    rows = scale_objects.measure(tmp_path / "out", quick=True)
    assert [row.ratio is not None for row in rows] == [True, True, False, False, False, False]
    assert all(row.figure > 0 for row in rows)
    assert dict(os.environ) == before
    assert list((tmp_path / "out").iterdir()) == []
