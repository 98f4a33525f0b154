"""Experts that are calibrated say so wherever they are used; and every voice model has its card."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient

from cache.store import FeatureStore
from emonet import EmotionPipeline
from emonet.checkpoints import calibration, read_calibration
from emonet.checkpoints.files import load_bank
from emonet.tracking import default_uri
from experiments import extract
from experiments.core import Experiment
from experiments.heads import verb as heads

pytestmark = pytest.mark.numeric


@pytest.mark.slow
def test_calibrated_experts_end_to_end(
    mini_experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(calibration.FEWEST, "affine", 3)  # type: ignore[arg-type]  # there are four validation clips
    settings = {"inputs": ["statistics"], "epochs": 30, "calibration": "affine", "learning_rate": 1e-2}
    experiment = Experiment.model_validate({**mini_experiment.model_dump(), "heads": settings})
    extract.run(experiment)
    result = heads.run(experiment)
    said = capsys.readouterr().err
    assert result.calibration == "affine"
    assert "fear is not calibrated: 2 rated validation clips, fewer than 3" in said

    folder = experiment.folder
    curves = read_calibration(folder / "heads")
    assert curves is not None
    assert curves == read_calibration(folder / "voice" / "experts")
    assert set(curves.notes) == {"fear"}
    bank, info = load_bank(folder / "heads")
    store = FeatureStore.open(folder / "store.zarr")
    rows = store.rows("test")
    with torch.inference_mode():
        features = info.spec.prepare(torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows)))
        raw = bank(features).numpy()
    frame = pd.read_parquet(folder / "heads" / "predictions.parquet")
    kept = frame[[f"prediction.{target}" for target in bank.targets]].to_numpy()
    np.testing.assert_allclose(kept, curves.apply(raw, bank.targets), atol=1e-3)
    assert info.population is not None, "of scores as they are served"
    rows = store.rows("train")
    with torch.inference_mode():
        features = info.spec.prepare(torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows)))
        served = curves.apply(bank(features).numpy(), bank.targets)
    assert list(info.population.medians.values()) == pytest.approx(np.median(served, axis=0), abs=1e-3)
    column = bank.targets.index("anger")
    assert np.abs(kept - raw)[:, column].max() > 1e-2
    error = np.abs(frame["prediction.anger"] - frame["truth.anger"]).mean()
    assert error == pytest.approx(result.test.mae.per_target["anger"].value, abs=1e-6)
    assert EmotionPipeline.from_folder(folder / "voice").calibrated

    card = (folder / "voice" / "README.md").read_text()
    (named,) = yaml.safe_load(card.split("---\n")[1])["model-index"]
    assert named["results"][0]["dataset"]["name"] == experiment.corpus
    for told in (
        "a line per target",
        "Not calibrated: fear",
        "| experts |",
        "| mel_ridge |",
        "| train | 12 | 3 |",
        "not stated 36",
        "| hidden | not set |",
    ):
        assert told in card, told
    version = MlflowClient(default_uri(experiment.runs)).get_model_version("emonet-voice", "1")
    assert "Scores are calibrated (affine)." in version.description
