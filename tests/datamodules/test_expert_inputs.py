from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache.store import ExtractionRecord, FeatureStore
from datamodules.expert_inputs import Inputs, read_inputs, spec_of
from emonet.clips import SPLITS, Clip, Corpus
from emonet.configs import HeadsConfig
from emonet.errors import RequestError
from emonet.experts import LayerPick, statistics

CLIPS, FRAMES, WIDTH, LAYERS = 6, 25, 4, (2, 3, 5)
SPEECH = HeadsConfig(inputs=("statistics",), frames="speech")


@pytest.fixture
def store(fill_store: Callable[..., str], tmp_path: Path) -> Callable[..., FeatureStore]:
    """Stores of the same states of three layers, whole or pooled."""

    def make(**options: Any) -> FeatureStore:
        clips = tuple(Clip(f"c/{row}", b"x", f"{SPLITS[row % 3]}/0", SPLITS[row % 3]) for row in range(CLIPS))
        record = ExtractionRecord(
            corpus="made", corpus_fingerprint="f", clips=CLIPS, encoder="none", encoder_digest="d", window_seconds=0.5,
            frames=FRAMES, width=len(LAYERS) * WIDTH, mels=80, precision="float32", batch_size=1, shard_clips=8,
            **{"layers": LAYERS, **options},
        )  # fmt: skip
        states = np.random.default_rng(0).normal(0, 1, (CLIPS, FRAMES, record.width)).astype(np.float16)
        if record.pool == "statistics":
            lengths = torch.tensor([record.speech_frames(seconds(row)) for row in range(CLIPS)])
            states = statistics(torch.from_numpy(states), lengths).view(CLIPS, 4, -1).half().numpy()
        path = tmp_path / f"{record.pool}-{bool(record.layers)}.zarr"
        fill_store(path, record, Corpus("made", clips), states, seconds=seconds)
        return FeatureStore.open(path)

    return make


def seconds(row: int) -> float:
    return 0.2 + 0.05 * row


def train(inputs: Inputs) -> torch.Tensor:
    return torch.cat([features.values for features in inputs.in_order("train")])


@pytest.mark.parametrize("layers", ["all", (3,), (2, 5), (5, 2)])
def test_experts_see_the_same_of_a_pooled_store(
    store: Callable[..., FeatureStore], layers: str | tuple[int, ...]
) -> None:
    config = SPEECH.model_copy(update={"layers": layers})
    whole, pooled = (store(pool=pool) for pool in ("none", "statistics"))
    wanted = spec_of(whole, "statistics", config)
    assert spec_of(pooled, "statistics", config) == wanted
    found, expected = (train(read_inputs(one, wanted, memory_gib=1.0)) for one in (pooled, whole))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    heard = LAYERS if layers == "all" else sorted(map(int, layers))
    states = torch.from_numpy(whole.read(whole.rows("train")))
    columns = torch.cat([torch.arange(WIDTH) + WIDTH * LAYERS.index(layer) for layer in heard])
    lengths = torch.from_numpy(whole.speech_frames(whole.rows("train")))
    torch.testing.assert_close(expected, statistics(states[:, :, columns], lengths))


def test_every_form_hears_the_layers_that_are_picked(store: Callable[..., FeatureStore]) -> None:
    whole = store()
    for form in ("flatten", "attention"):
        spec = spec_of(whole, form, HeadsConfig(layers=(3,)))  # type: ignore[arg-type]
        assert (spec.width, spec.given_width, spec.layers, spec.picked) == (WIDTH, 12, 1, LayerPick(3, (1,)))
        states = whole.read(whole.rows("train"))[:, :, WIDTH : 2 * WIDTH]
        np.testing.assert_array_equal(train(read_inputs(whole, spec, memory_gib=1.0)).reshape(states.shape), states)


@pytest.mark.parametrize(
    ("form", "config", "message"),
    [
        ("flatten", SPEECH, "--heads.inputs flatten"),
        ("attention", SPEECH, "--heads.inputs attention"),
        ("statistics", HeadsConfig(), "--heads.frames all"),
    ],
)
def test_what_a_pooled_store_lacks_is_said(
    store: Callable[..., FeatureStore], form: str, config: HeadsConfig, message: str
) -> None:
    with pytest.raises(RequestError, match=r"(?s)keeps statistics.*extraction.pool none --force") as caught:
        spec_of(store(pool="statistics"), form, config)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_layers_that_the_store_does_not_have(store: Callable[..., FeatureStore]) -> None:
    with pytest.raises(RequestError, match=r"(?s)does not have.*some of 2 3 5.*--heads.layers 3 4"):
        spec_of(store(), "statistics", HeadsConfig(layers=(3, 4)))
    with pytest.raises(RequestError, match=r"(?s)does not have.*its encoder's last"):
        spec_of(store(layers=None), "statistics", HeadsConfig(layers=(6,)))


def test_coordinates_are_of_all_layers(store: Callable[..., FeatureStore]) -> None:
    with pytest.raises(RequestError, match=r"(?s)of all layers.*found:\s+--heads.layers 3 --heads.features principal"):
        spec_of(store(), "flatten", HeadsConfig(layers=(3,), features="principal"))
    assert spec_of(store(), "flatten", HeadsConfig(layers=(2, 3, 5), features="principal")).picked is None


@pytest.mark.parametrize(
    ("pool", "layers", "message"),
    [
        (
            "statistics",
            "all",
            r"statistics --heads\.frames speech, without --heads\.compare-inputs\n +found: .*speech ",
        ),
        ("none", "mix", r"can be mixed\n.*statistics, without --heads\.compare-inputs\n +found: +--heads\.layers mix "),
    ],
)
def test_a_form_that_is_compared_alone_is_not_said_to_be_asked_for(
    store: Callable[..., FeatureStore], pool: str, layers: str, message: str
) -> None:
    config = SPEECH.model_copy(update={"layers": layers, "compare_inputs": True})
    spec_of(store(pool=pool), "statistics", config)
    for asked in (config, config.model_copy(update={"inputs": ("statistics", "flatten"), "compare_inputs": False})):
        with pytest.raises(RequestError) as caught:
            spec_of(store(pool=pool), "flatten", asked)
        assert ("--heads.inputs flatten" in str(caught.value)) is not asked.compare_inputs
        if asked.compare_inputs:
            assert re.search(rf"(?s){message}--heads\.compare-inputs, which also trains flatten", str(caught.value))
