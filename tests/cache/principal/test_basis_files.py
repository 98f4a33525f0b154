from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from cache.maintenance import Sources, describe, export, repair, verify
from cache.principal import forget_divisions, listed
from cache.principal.basis_files import CHUNK
from cache.store import ExtractionRecord, FeatureStore
from emonet.errors import EmonetError
from emonet.runtime import ignore
from tests.cache.flat_stores import (
    FEATURES,
    SPLITS,
    Fill,
    check_gram,
    compute,
    fill,
    made_states,
    nothing_shown,
    record_reads,
)

pytestmark = pytest.mark.numeric

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(fill_store: Fill, tmp_path: Path) -> FeatureStore:
    return fill(fill_store, tmp_path / "s.zarr", made_states(len(SPLITS)))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    return record_reads(monkeypatch)


def test_what_is_kept_is_used_again(store: FeatureStore, reads: list[list[int]]) -> None:
    first = compute(store)
    reads.clear()
    again = compute(FeatureStore.open(store.path))
    assert reads == []
    assert again.folder == first.folder
    np.testing.assert_array_equal(again.coordinates, first.coordinates)
    assert torch.equal(again.basis.coefficients, first.basis.coefficients)
    assert compute(store, standardise=False).folder != first.folder
    assert pickle.loads(pickle.dumps(again)).fingerprint == first.fingerprint


def test_the_files_are_an_ordinary_zarr_group(store: FeatureStore) -> None:
    states = compute(store)
    group: Any = zarr.open_group(states.folder, mode="r")
    assert group.attrs["fingerprint"] == states.fingerprint
    assert group.attrs["store"] == store.fingerprint
    assert group.attrs["unit"] == pytest.approx(states.basis.unit)
    found = {name: (array.shape, str(array.dtype)) for name, array in group.arrays()}
    rank, basis = states.basis.rank, len(states.rows)
    assert found == {
        "coordinates": ((len(store), rank), "float32"), "coefficients": ((basis, rank), "float32"),
        "energies": ((rank,), "float32"), "shift": ((FEATURES,), "float32"), "scale": ((FEATURES,), "float32"),
        "rows": ((basis,), "int64"),
    }  # fmt: skip
    assert "crc32c" in (states.folder / "coordinates" / "zarr.json").read_text()


def test_the_store_stays_whole(store: FeatureStore) -> None:
    before = {file: file.stat().st_mtime_ns for file in store.path.rglob("*") if file.is_file()}
    folder = compute(store).folder
    assert verify(store.path, deep=True).problems == ()
    assert describe(store.path).fingerprint == store.fingerprint
    added = {file for file in store.path.rglob("*") if file.is_file()} - set(before)
    assert added == {file for file in folder.rglob("*") if file.is_file()}
    assert all(file.stat().st_mtime_ns == then for file, then in before.items())
    beside = {path.name for path in store.path.parent.iterdir()}
    assert beside <= {"s.zarr", ".s.zarr.lock", ".s.zarr.principal.lock"}


def refuse(record: ExtractionRecord) -> Any:
    raise AssertionError("not needed")


def test_repair_and_export_pass_it_by(store: FeatureStore, tmp_path: Path) -> None:
    folder = compute(store).folder
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    (store.path / "states" / "zarr.json").write_text("{")
    assert repair(store.path, Sources(refuse, refuse), nothing_shown).exit_code == 0
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    report = export(store, tmp_path / "out", "npy", split=None, force=False, progress=ignore)
    assert report.clips == len(store.rows())
    check_gram(compute(FeatureStore.open(store.path)), standardise=True)


def test_those_of_other_splits_are_forgotten_and_the_stores_own_stay(store: FeatureStore) -> None:
    before = {path.name for path in store.path.parent.iterdir()}
    own = compute(store)
    same = compute(store.with_splits(store.clips["split"].tolist()))  # the same training clips
    other = compute(store.with_splits(store.clips["split"].tolist()[::-1]))
    assert len({own.folder, same.folder, other.folder}) == 3
    damaged = own.folder.with_name("damaged")
    shutil.copytree(other.folder, damaged)
    (damaged / "zarr.json").write_text("{")
    forget_divisions(store)
    assert set(own.folder.parent.iterdir()) == {own.folder, damaged}
    np.testing.assert_array_equal(compute(store).coordinates, own.coordinates)
    assert {path.name for path in store.path.parent.iterdir()} - before <= {".s.zarr.principal.lock"}
    forget_divisions(store)  # nothing is left to do


def test_a_line_for_each_basis(store: FeatureStore) -> None:
    assert listed(store.path, store.fingerprint) == []
    first, other = compute(store), compute(store, standardise=False)
    rank = first.basis.rank
    assert sorted(listed(store.path, store.fingerprint)) == [
        f"{rank} coordinates of standardised states, 100.0% of the energy, 0.0 MB",
        f"{rank} coordinates, 100.0% of the energy, 0.0 MB",
    ]
    assert all(f"out of date, {store.path}" in line for line in listed(store.path, "another"))
    cut(other.folder / "zarr.json")
    assert f"damaged: delete {other.folder}" in listed(store.path, store.fingerprint)


def first_chunk(folder: Path, name: str) -> Path:
    return next(file for file in sorted((folder / name / "c").rglob("*")) if file.is_file())


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("name", ["coordinates", "coefficients", "energies", "shift", "scale", "rows"])
def test_damage_is_told_with_the_folder(store: FeatureStore, name: str, damage: Callable[[Path], Any]) -> None:
    states = compute(store)
    damage(first_chunk(states.folder, name))
    with pytest.raises(EmonetError, match=rf"(?s)cannot be read.*{re.escape(str(states.folder))}.*delete this folder"):
        _ = compute(store).coordinates
    shutil.rmtree(states.folder)
    check_gram(compute(store), standardise=True)


@pytest.mark.parametrize("part", ["zarr.json", "coordinates/zarr.json", "shift/zarr.json"])
def test_damaged_metadata_is_told(store: FeatureStore, part: str) -> None:
    file = compute(store).folder / part
    file.write_text(file.read_text().replace('"shape"', '"shap"').replace('"total_energy": ', '"total_energy": 9'))
    with pytest.raises(EmonetError, match=r"(?s)cannot be read.*delete this folder"):
        _ = compute(store).coordinates


def test_an_array_of_another_shape_is_told(store: FeatureStore) -> None:
    folder = compute(store).folder
    for name, text in (("shift", r"shift of shape \(799,\), expected \(800,\)"), ("coordinates", r"of shape \(39, ")):
        file = folder / name / "zarr.json"
        whole = file.read_text()
        file.write_text(whole.replace("800", "799", 1) if name == "shift" else whole.replace("40", "39", 1))
        with pytest.raises(EmonetError, match=text):
            _ = compute(store).coordinates
        file.write_text(whole)


def test_the_coordinates_of_another_basis_are_refused(store: FeatureStore) -> None:
    first, other = compute(store), compute(store, standardise=False)
    shutil.rmtree(first.folder)
    shutil.copytree(other.folder, first.folder)
    with pytest.raises(EmonetError, match=rf"(?s)fingerprint {other.fingerprint}, expected {first.fingerprint}"):
        compute(store)


OTHER = """
import sys
from contextlib import contextmanager
from cache.principal import principal
from cache.store.metadata import ExtractionRecord
from cache.maintenance.repairing import Sources, repair
from cache.store import FeatureStore
from emonet.runtime.progress import ignore

@contextmanager
def show(label, unit):
    print(label, flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.readline()
    yield ignore

if sys.argv[2] == "go":
    print("begins", flush=True)
states = principal(FeatureStore.open(sys.argv[1]), standardise=True, memory_gib=1, seed=0, show=show)
print(states.fingerprint, flush=True)
"""


def other_process(store: FeatureStore, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store.path), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_compute_them_once(store: FeatureStore) -> None:
    first = other_process(store, "wait")
    assert first.stdout is not None
    assert first.stdout.readline() == "reading states\n"
    second = other_process(store, "go")
    assert second.stdout is not None
    assert second.stdout.readline() == "begins\n"
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=0.7)  # it waits
    first_said, _ = first.communicate("\n" * 9)
    second_said, _ = second.communicate()
    fingerprint = compute(store).fingerprint
    assert first_said.splitlines()[-1] == fingerprint
    assert second_said.splitlines() == [fingerprint]  # and computes nothing


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_counts(store: FeatureStore) -> None:
    other = other_process(store, "wait")
    assert other.stdout is not None
    assert other.stdout.readline() == "reading states\n"
    other.kill()
    other.communicate()
    assert list(store.path.parent.glob("*unfinished"))
    assert not (store.path / "principal").exists()
    assert verify(store.path).problems == ()
    check_gram(compute(store), standardise=True)
    assert not list(store.path.parent.glob("*unfinished"))


def test_chunks_are_of_a_few_megabytes() -> None:
    assert 4 * CHUNK[0] * CHUNK[1] == 4 << 20
