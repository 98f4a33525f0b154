from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.covariance import LedoitWolf

from emonet.checkpoints import Familiarity, fit_familiarity, read_familiarity, read_info
from emonet.checkpoints.familiarity import FEWEST, FILE, LEVEL
from emonet.errors import RequestError
from emonet.experts import InputSpec, LayerPick

pytestmark = pytest.mark.numeric

SPEC = InputSpec("flatten", "all", 10, 6)


def clips(count: int, seed: int, width: int = 6, shift: float = 0.0) -> np.ndarray:
    """Means of clips that vary along some directions more than along others."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0]
    varied = rng.normal(0, 1, (count, width)) * np.geomspace(3, 0.3, width)
    means: np.ndarray = (5 + shift + varied @ turned).astype(np.float32)
    return means


def fitted(train: np.ndarray, validation: np.ndarray, spec: InputSpec = SPEC) -> Familiarity:
    found = fit_familiarity(train, validation, spec)
    assert found is not None
    return found


def test_the_distance_is_mahalanobis_with_a_shrunk_covariance() -> None:
    train, validation, other = clips(200, 1), clips(100, 2), clips(50, 3, shift=1.0)
    known = fitted(train, validation)
    reference = LedoitWolf().fit(train.astype(np.float64))
    unit = np.quantile(np.sqrt(reference.mahalanobis(validation)), LEVEL)
    np.testing.assert_allclose(known.of_means(other), np.sqrt(reference.mahalanobis(other)) / unit, rtol=2e-3)
    assert (known.clips, known.validation_clips) == (200, 100)
    assert (known.of_means(validation) > 1).mean() == pytest.approx(1 - LEVEL, abs=0.001)
    assert (known.of_means(clips(300, 4)) > 1).mean() < 0.05
    assert (known.of_means(clips(300, 4, shift=20.0)) > 1).all()


def test_saved_and_loaded_it_is_the_same(voice: Path, tmp_path: Path) -> None:
    experts = shutil.copytree(voice / "experts", tmp_path / "experts")
    assert read_familiarity(experts) == (), "of an older version"
    spec = read_info(experts).spec
    known = fitted(clips(40, 1, spec.width), clips(30, 2, spec.width), spec)
    known.write(experts)
    (loaded,) = read_familiarity(experts)
    other = clips(9, 3, spec.width, 0.3)
    np.testing.assert_array_equal(loaded.of_means(other), known.of_means(other))
    assert (loaded.spec, loaded.clips, loaded.validation_clips) == (spec, 40, 30)


def test_many_layers_make_no_large_file(tmp_path: Path) -> None:
    """64 components of them would take 1.5 MB."""
    spec = InputSpec("statistics", "speech", 10, 12_000, layers=24)
    rng = np.random.default_rng(0)
    train, validation = (rng.normal(0, 1, (count, 12_000)).astype(np.float32) for count in (260, 20))
    known = fitted(train, validation, spec)
    known.write(tmp_path)
    assert len(known.scales) == 40
    assert (tmp_path / FILE).stat().st_size < 1_100_000


@pytest.mark.parametrize("counts", [(FEWEST - 1, 100), (100, FEWEST - 1), (0, 0)])
def test_few_clips_say_nothing(counts: tuple[int, int]) -> None:
    assert fit_familiarity(clips(counts[0], 1), clips(counts[1], 2), SPEC) is None


def test_clips_that_are_all_the_same_say_nothing() -> None:
    same = np.full((40, 6), 2.0, np.float32)
    assert fit_familiarity(same, clips(40, 1), SPEC) is None
    train = clips(40, 1)
    assert fit_familiarity(train, np.tile(train.mean(0, dtype=np.float64).astype(np.float32), (40, 1)), SPEC) is None


def test_states_are_those_that_hear_the_clip_of_the_layers_that_are_heard() -> None:
    """Full states and their statistics give the same."""
    spec = InputSpec("attention", "all", 10, 4, layers=2, picked=LayerPick(3, (0, 2)))
    states = torch.randn(5, 10, 6)
    kept, lengths = states.clone(), torch.tensor([1, 3, 10, 7, 2])
    wanted = torch.stack([one[:n, [0, 1, 4, 5]].mean(0) for one, n in zip(states, lengths, strict=True)])
    torch.testing.assert_close(spec.means(states, lengths), wanted)
    assert torch.equal(states, kept), "what is handed over is not written to"
    pooled = torch.stack([torch.stack([one[:n].mean(0)] * 4) for one, n in zip(states, lengths, strict=True)])
    torch.testing.assert_close(spec.means(pooled, lengths, pooled=True), wanted)
    known = fitted(clips(40, 1, 4), clips(30, 2, 4), spec)
    np.testing.assert_allclose(known.unfamiliarity(states, lengths), known.of_means(wanted.numpy()), rtol=1e-5)


def test_what_cannot_be_read_is_named(voice: Path, tmp_path: Path) -> None:
    experts = shutil.copytree(voice / "experts", tmp_path / "experts")
    (experts / FILE).write_bytes(b"half")
    with pytest.raises(RequestError, match=rf"(?s)training clips cannot be read.*{FILE}"):
        read_familiarity(experts)
    fitted(clips(40, 1), clips(30, 2)).write(experts)  # of 6 values, the experts hear 32
    with pytest.raises(RequestError, match=r"(?s)does not fit the experts.*\(32,\).*\(6,\)"):
        read_familiarity(experts)
    width = read_info(experts).spec.width
    fitted(clips(40, 1, width), clips(30, 2, width)).write(experts)
    save_file(load_file(experts / FILE), experts / FILE, {"format_version": "2", "clips": "1", "validation_clips": "1"})
    with pytest.raises(RequestError, match=r"(?s)expected:? *format 1.*found:? *format 2"):
        read_familiarity(experts)
