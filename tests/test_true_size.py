"""Whisper small's true size, end to end, with random weights: 30 s -> 1500 states of width 768."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from cache.extraction import extract
from cache.maintenance import verify
from cache.store import FeatureStore
from datamodules.expert_inputs import read_inputs
from datamodules.experts import ExpertsDataModule
from emonet.checkpoints import ExpertsInfo
from emonet.checkpoints.files import load_bank, save_bank
from emonet.clips import SPLITS, Clip, Corpus
from emonet.configs import HIDDEN, ExtractionConfig, HeadsConfig
from emonet.encoders import FrozenEncoder
from emonet.experts import ExpertBank, InputSpec
from emonet.runtime import ignore
from emonet.targets import EMOTIONS
from emonet.windows import Window
from lightningmodules.experts.fitting import fit_bank
from tests.tiny import random_encoder

pytestmark = pytest.mark.numeric

CLIPS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Three clips of 1, 4 and 31 s through an encoder of Whisper small's dimensions (88 M parameters)."""
    folder = tmp_path_factory.mktemp("true-size")
    shape = {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072}
    encoder = FrozenEncoder(random_encoder(**shape, max_source_positions=1500))
    clips = []
    for row, seconds in enumerate((1.0, 4.0, 31.0)):
        path = folder / f"{row}.flac"
        noise = np.random.default_rng(row).normal(0, 0.05, round(seconds * 16_000))
        sf.write(path, np.sin(np.cumsum(noise)) * 0.1, 16_000)
        split = SPLITS[row]
        clips.append(Clip(f"c/{row}", path, f"c/{split}", split, scores={"anger": 4.0 - row, "fear": float(row)}))
    path = folder / "store.zarr"
    report = extract(
        Corpus("true-size", tuple(clips)), encoder, path, ExtractionConfig(batch_size=3, shard_clips=2), source="random"
    )
    assert report.shape == (CLIPS, 1500, 768)
    return FeatureStore.open(path)


@pytest.mark.slow
def test_the_store_holds_the_true_shape(store: FeatureStore) -> None:
    assert store.record.window_seconds == Window().seconds == 30.0
    states = store.read(store.rows())
    assert states.shape == (CLIPS, 1500, 768)
    assert states.dtype == np.float16
    assert states[0].nbytes == 2_304_000
    assert np.isfinite(states).all()
    assert store.speech_frames(store.rows()).tolist() == [50, 200, 1500]
    assert verify(store.path, deep=True).problems == ()


@pytest.mark.slow
def test_two_experts_are_trained_exported_and_loaded(store: FeatureStore, tmp_path: Path) -> None:
    record = store.record
    spec = InputSpec("flatten", "all", record.frames, record.width)
    assert spec.features == 1_152_000
    targets = EMOTIONS.subset(["anger", "fear"]).ids
    inputs = read_inputs(store, spec, memory_gib=4.0)
    data = ExpertsDataModule(inputs, targets, batch_size=64, seed=0)
    fitted = fit_bank(data, HeadsConfig(epochs=1), seed=0, scaling=inputs.scaling, report=ignore, progress=ignore)
    info = ExpertsInfo(
        targets=store.targets.subset(fitted.bank.targets).to_json(),
        form="flatten",
        pool_over="all",
        queries=spec.queries,
        window_seconds=record.window_seconds,
        frames=record.frames,
        width=record.width,
        hidden=HIDDEN["small"],
        encoder_digest=record.encoder_digest,
        store_fingerprint=store.fingerprint,
    )
    save_bank(fitted.bank, info, tmp_path / "heads")
    assert (tmp_path / "heads" / "anger.safetensors").stat().st_size > 294_900_000
    loaded, read = load_bank(tmp_path / "heads")
    assert read == info
    before = ExpertBank(spec, fitted.bank.targets, HIDDEN["small"], seed=0)
    for position in range(2):
        trained = dict(fitted.bank.tensors(position))
        assert trained["proj.weight"].shape == (64, 1_152_000)
        assert not torch.equal(trained["proj.weight"], dict(before.tensors(position))["proj.weight"])
        for key, tensor in loaded.tensors(position):
            assert torch.equal(tensor, trained[key])
    states, heard = (torch.from_numpy(array) for array in (store.read([2]), store.speech_frames([2])))
    with torch.inference_mode():
        scores = loaded(read.spec.prepare(states, heard)).numpy()
    np.testing.assert_array_equal(scores, fitted.predict("test"))
