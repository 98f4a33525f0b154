"""What is saved of the training clips: no test clip has a part in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from cache.store import FeatureStore
from emonet.clips import SPLITS
from emonet.experts import InputSpec
from emonet.tracking import Run
from experiments.core import Experiment, StageContext
from experiments.heads import reference
from experiments.heads.reference import familiarity_of
from tests.experiments.heads.test_baselines import FRAMES, WIDTH, filled

pytestmark = pytest.mark.numeric

SPEC = InputSpec("statistics", "speech", FRAMES, WIDTH)


@pytest.fixture
def job(tmp_path: Path) -> StageContext:
    experiment = Experiment.model_validate({"runs": tmp_path})
    return StageContext(experiment, cast("Run", None), tmp_path / "heads.json", lambda fields: fields)


def test_a_pooled_store_gives_the_same(job: StageContext, tmp_path: Path, fill_store: Callable[..., str]) -> None:
    full, pooled = (
        familiarity_of(job, filled(tmp_path / f"{pool}.zarr", fill_store, pool), SPEC)  # type: ignore[arg-type]
        for pool in ("none", "statistics")
    )
    assert full is not None
    assert pooled is not None
    clips = np.random.default_rng(3).normal(0, 1, (20, WIDTH))
    np.testing.assert_allclose(pooled.of_means(clips), full.of_means(clips), rtol=0.02)  # means are kept in float16


def test_it_is_measured_on_training_and_calibrated_on_validation_clips_alone(
    job: StageContext, tmp_path: Path, fill_store: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = filled(tmp_path / "s.zarr", fill_store, "none")
    rows = {split: data.store.rows(split) for split in SPLITS}
    read, seen = FeatureStore.read, list[int]()

    def watched(self: FeatureStore, some: np.ndarray) -> np.ndarray:
        seen.extend(some.tolist())
        return read(self, some)

    monkeypatch.setattr(FeatureStore, "read", watched)
    known = familiarity_of(job, data, SPEC)
    assert known is not None
    assert (known.clips, known.validation_clips) == (len(rows["train"]), len(rows["validation"]))
    assert sorted(seen) == sorted([*rows["train"], *rows["validation"]])
    states = data.store.read(rows["validation"]).astype(np.float64)
    lengths = data.store.speech_frames(rows["validation"])
    means = np.stack([one[:heard].mean(0) for one, heard in zip(states, lengths, strict=True)])
    assert np.quantile(known.of_means(means), 0.99) == pytest.approx(1, rel=1e-3)

    monkeypatch.setattr(reference, "MOST_BYTES", 4 * WIDTH * 22)
    bounded = familiarity_of(job, data, SPEC)
    assert bounded is not None
    assert (bounded.clips, bounded.validation_clips) == (22, 22)


def test_too_few_clips_are_told(
    job: StageContext,
    tmp_path: Path,
    fill_store: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(reference, "MOST_BYTES", 4 * WIDTH * 9)
    assert familiarity_of(job, filled(tmp_path / "s.zarr", fill_store, "none"), SPEC) is None
    assert "unfamiliar recordings will not be told" in capsys.readouterr().err
