from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emonet.captioner import freeze, open_captioner, parameter_groups, prompt_ids, save_captioner, window_of
from emonet.captioner import model as captioner
from emonet.captioner.model import Pair, Size, load_captioner, scratch
from emonet.configs import CaptionerConfig
from emonet.errors import RequestError
from emonet.windows import Window

pytestmark = pytest.mark.numeric

CAPTIONS = ["The speaker feels strong anger.", "One hears slight joy."] * 3


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    monkeypatch.setitem(captioner.SIZES, "two", Size(32, 2, 1, 2, None))


@pytest.fixture
def pair() -> Pair:
    return scratch("nano", Window(1.0), CAPTIONS, seed=0)


def test_sizes_are_the_published_ones() -> None:
    published = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12), "medium": (1024, 24, 16)}
    for name, (width, layers, heads) in published.items():
        size = captioner.SIZES[name]
        assert (size.width, size.encoder_layers, size.decoder_layers, size.heads) == (width, layers, layers, heads)
        assert size.target_positions == 448


def test_dimensions_follow_from_window_and_captions(pair: Pair) -> None:
    model, processor = pair
    assert model.config.max_source_positions == 50
    assert window_of(model) == Window(1.0)
    assert model.config.max_target_positions == 64
    assert processor.feature_extractor.n_samples == 16_000
    assert len(processor.tokenizer) == model.config.vocab_size
    longer = scratch("nano", Window(1.0), [" ".join(f"word{i}" for i in range(40))], seed=0)[0]
    assert longer.config.max_target_positions > 64


def test_seed_fixes_weights_and_leaves_torch_alone(pair: Pair) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    same, other = (scratch("nano", Window(1.0), CAPTIONS, seed=seed)[0] for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weight = "model.encoder.layers.0.fc1.weight"
    assert torch.equal(same.state_dict()[weight], pair[0].state_dict()[weight])
    assert not torch.equal(other.state_dict()[weight], pair[0].state_dict()[weight])


def test_generation_starts_with_the_prompt_and_is_greedy(pair: Pair) -> None:
    model, processor = pair
    mels = torch.randn(2, 80, 100, generator=torch.Generator().manual_seed(0))
    written = model.generate(mels, attention_mask=torch.ones(2, 100, dtype=torch.long), max_new_tokens=8)
    tokens = torch.tensor([prompt_ids(processor.tokenizer)] * 2)
    with torch.no_grad():
        for _ in range(8):
            logits = model(input_features=mels, decoder_input_ids=tokens).logits[:, -1]
            if tokens.shape[1] == 4:
                logits[:, processor.tokenizer.eos_token_id] = -torch.inf  # a caption is not empty
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(written[:, : tokens.shape[1] - 4], tokens[:, 4:])


def test_saved_folder_opens_with_from_pretrained(pair: Pair, tmp_path: Path) -> None:
    model, processor = pair
    folder = tmp_path / "captioner"
    save_captioner(model, processor, folder)
    save_captioner(model, processor, folder)  # replaces the older one
    assert [path.name for path in tmp_path.iterdir()] == ["captioner"]
    opened = WhisperForConditionalGeneration.from_pretrained(folder)
    features = WhisperProcessor.from_pretrained(folder)(
        np.zeros(8000, np.float32), sampling_rate=16_000, return_tensors="pt"
    ).input_features
    assert features.shape == (1, 80, 100)
    assert torch.equal(opened.generate(features, max_new_tokens=5), model.generate(features, max_new_tokens=5))
    again, again_processor = load_captioner(str(folder))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again_processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert again.generation_config.language == "en"


def test_a_failed_save_leaves_the_older_folder(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    folder = tmp_path / "captioner"
    save_captioner(model, processor, folder)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(processor, "save_pretrained", full)
    with pytest.raises(RequestError, match="cannot be written"):
        save_captioner(model, processor, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["captioner"]
    load_captioner(str(folder))


def test_folders_that_are_no_captioner(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a captioner") as caught:
        load_captioner(str(tmp_path))
    assert "no config.json" in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(RequestError, match="found:    bert"):
        load_captioner(str(tmp_path))
    save_captioner(*pair, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "encoder")
    WhisperEncoder(pair[0].config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(RequestError, match="the captioner is not complete"):
        load_captioner(str(tmp_path / "encoder"))
    (tmp_path / "whole" / "model.safetensors").unlink()
    with pytest.raises(RequestError, match="cannot be opened"):
        load_captioner(str(tmp_path / "whole"))


def test_a_pretrained_model_takes_a_shorter_window(tmp_path: Path) -> None:
    save_captioner(*scratch("nano", Window(3.0), CAPTIONS, 0), tmp_path / "mine")
    mine = str(tmp_path / "mine")
    model, processor = open_captioner(CaptionerConfig(model=mine, window_seconds=2.0), lambda: CAPTIONS, 0)
    whole, _ = load_captioner(mine)
    assert window_of(model) == Window(2.0)
    kept = model.model.encoder.embed_positions.weight
    assert torch.equal(kept, whole.model.encoder.embed_positions.weight[:100])
    assert not kept.requires_grad
    save_captioner(model, processor, tmp_path / "cut")
    opened = WhisperForConditionalGeneration.from_pretrained(tmp_path / "cut")
    sound = np.zeros(16_000, np.float32)
    heard = WhisperProcessor.from_pretrained(tmp_path / "cut")(sound, sampling_rate=16_000, return_tensors="pt")
    assert heard.input_features.shape == (1, 80, 200)
    assert opened.generate(heard.input_features, max_new_tokens=3).shape[0] == 1
    with pytest.raises(RequestError, match=r"(?s)longer than this Whisper hears.*up to 2 s.*found:\s+30 s"):
        open_captioner(CaptionerConfig(model=str(tmp_path / "cut")), lambda: CAPTIONS, 0)
    with pytest.raises(RequestError, match="whole seconds"):
        open_captioner(CaptionerConfig(model=mine, window_seconds=1.5), lambda: CAPTIONS, 0)


def test_a_model_with_a_vocabulary_asks_for_no_captions(pair: Pair, tmp_path: Path) -> None:
    save_captioner(*pair, tmp_path / "mine")
    mine = str(tmp_path / "mine")
    unasked = partial(pytest.fail, "a model with a vocabulary of its own asked for captions")
    model, _ = open_captioner(CaptionerConfig(model=mine, window_seconds=1.0, dropout=0.25), unasked, 0)
    assert model.model.encoder.layers[0].dropout == 0.25


@pytest.mark.parametrize(
    ("size", "seconds", "message"), [("huge", 1.0, "no captioner size 'huge'"), ("nano", 1.5, "whole seconds")]
)
def test_impossible_scratch_models(size: str, seconds: float, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_captioner(CaptionerConfig(model=f"scratch:{size}", window_seconds=seconds), lambda: CAPTIONS, 0)


def test_frozen_parts(pair: Pair) -> None:
    model = pair[0]
    freeze(model, ["encoder_conv", "embeddings"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {"model.encoder.conv1.weight", "model.decoder.embed_tokens.weight"} <= frozen
    assert not any(".layers." in name for name in frozen)
    freeze(model, ["decoder"])
    assert model.model.encoder.layers[0].fc1.weight.requires_grad
    with pytest.raises(RequestError, match="every part"):
        freeze(model, ["encoder", "decoder", "embeddings"])


def test_frozen_layers_of_the_encoder() -> None:
    model, _ = scratch("two", Window(1.0), CAPTIONS, 0)
    freeze(model, [], encoder_layers=1)
    frozen = {name.split(".")[2] for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {"conv1", "conv2", "embed_positions", "layers"}
    assert all(weight.requires_grad for weight in model.model.encoder.layers[1].parameters())
    assert all(weight.requires_grad for weight in model.model.decoder.parameters())
    with pytest.raises(RequestError, match=r"(?s)fewer layers.*frozen-layers 0 to 2.*found:\s+3"):
        freeze(model, [], encoder_layers=3)


def test_only_matrices_decay(pair: Pair) -> None:
    model = pair[0]
    groups = parameter_groups(model, learning_rate=1e-3, encoder_rate=0.1, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted((group["lr"], group["weight_decay"]) for group in groups) == [
        (1e-4, 0.0),
        (1e-4, 0.1),
        (1e-3, 0.0),
        (1e-3, 0.1),
    ]
    for group in groups:
        for name in (names[id(parameter)] for parameter in group["params"]):
            assert name.startswith("model.encoder.") == (group["lr"] == 1e-4)
            assert group["weight_decay"] == 0 or (
                name.endswith("weight") and "embed" not in name and "norm" not in name
            )
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
