from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale_ray
from tests.tiny import write_encoder


def test_without_whisper_base_there_are_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale_ray, "whisper_base", lambda: None)
    assert scale_ray.measure(tmp_path, quick=True) == []
    assert "left out: Whisper base is not at hand" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_ways_are_timed_between_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    encoder = write_encoder(tmp_path / "encoder")
    monkeypatch.setattr(scale_ray, "whisper_base", lambda: encoder)
    monkeypatch.setattr(scale_ray, "CLIPS", 4)
    on_ray, plain, busy = scale_ray.measure(tmp_path / "out", quick=True)
    assert (on_ray.unit, plain.unit, busy.unit) == ("s/shard", "s/shard", "s/shard")
    assert on_ray.ratio == pytest.approx(plain.figure / on_ray.figure)
    assert on_ray.reach == pytest.approx(0.971, abs=1e-3)
    assert busy.figure >= 0
    assert not list((tmp_path / "out").iterdir())
