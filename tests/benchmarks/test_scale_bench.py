from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scale, scale_extraction, scale_store
from benchmarks.rows import Row
from cache.store import FeatureStore


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that works, and one that does not; the others are not there."""

    def works(out: Path, *, quick: bool) -> list[Row]:
        (out / "large").write_text("x")
        size = 2 if quick else 3
        return [Row(f"some cost: {10**power:,} clips", 2.0, "ms/clip") for power in range(2, 2 + size)]

    def fails(out: Path, *, quick: bool) -> list[Row]:
        assert not list(out.iterdir()), "the part before has left something"
        raise OSError(f"no such bucket, {quick}")

    for name, measure in (("corpus", fails), ("store", works), ("ray", fails)):
        module = types.ModuleType(f"benchmarks.scale_{name}")
        module.measure = measure  # type: ignore[attr-defined]
        module.__spec__ = types.SimpleNamespace(name=module.__name__)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(scale, "PARTS", ("corpus", "store", "ray", "nowhere"))


@pytest.mark.usefixtures("two_parts")
def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "cost.png"
    assert scale.main(["--quick", "--out", str(tmp_path / "scale.json"), "--image", str(image)]) == 1
    written = json.loads((tmp_path / "scale.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["some cost: 100 clips", "some cost: 1,000 clips"]
    assert written["about"]["failed"] == dict.fromkeys(("corpus", "ray"), "OSError: no such bucket, True")
    said = capsys.readouterr().err
    assert "failed: ray: OSError: no such bucket" in said
    assert "left out: nowhere" in said
    assert image.stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cost.png", "scale.json"]


@pytest.mark.usefixtures("two_parts")
def test_one_part_alone(tmp_path: Path) -> None:
    assert scale.main(["--only", "store", "--out", str(tmp_path / "scale.json")]) == 0
    assert len(json.loads((tmp_path / "scale.json").read_text())["rows"]) == 3


def test_every_part_is_measured() -> None:
    assert sorted(scale.PARTS) == sorted(path.stem[6:] for path in Path(scale.__file__).parent.glob("scale_*.py"))


def test_costs_are_of_rows_that_name_clips() -> None:
    rows = [Row("a: 1,000 clips", 3.0, "ms/clip"), Row("a: 100 clips", 2.0, "ms/clip"), Row("memory", 1.0, "MiB")]
    assert scale.costs([*rows, Row("alone: 10 clips", 1.0, "ms/clip")]) == {"a": [(100, 0.2), (1000, 3.0)]}


@pytest.mark.parametrize("slope", [0.9, 1.0, 2.0])
def test_an_exponent_is_found(slope: float) -> None:
    clips = [92.0, 1_000.0, 100_000.0]
    assert scale_extraction.exponent(clips, [0.01 * some**slope for some in clips]) == pytest.approx(slope)


def test_what_is_done_with_a_store_of_a_million_clips_works_on_a_few(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    scale_store.write(store, 200)
    assert len(list((store / "shards").iterdir())) == 4
    assert np.isfinite(FeatureStore.open(store).scores(range(200))).all()
    acts = (scale_store.first_batch, scale_store.info, scale_store.verified_deep, scale_store.exported)
    for act in (scale_store.opened, scale_store.rows_of_train, scale_store.scores_of_train, scale_store.whole_table):
        assert act(store) is not None
    for act in acts:
        assert act(store) is not None
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["store.zarr"]


@pytest.mark.slow
def test_extractions_of_a_few_clips_are_measured(tmp_path: Path) -> None:
    scale_extraction.prepare(tmp_path)
    few, more = (scale_extraction.cost(tmp_path, clips) for clips in (8, 40))
    assert (few.clips, more.clips) == (8, 40)
    assert 0 < few.processor < more.processor
    assert few.wall < more.wall
    assert more.peak > 0
