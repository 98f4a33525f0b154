from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from emonet.audio import pad
from emonet.encoders import FrozenEncoder, NarrowError, Padded, ReadyEncoder, inner_layers, locate, open_encoder
from emonet.encoders.self_supervised import SelfSupervisedEncoder
from emonet.errors import EmonetError, RequestError
from emonet.windows import SAMPLE_RATE
from tests.tiny import write_encoder

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),  # where transformers is asked itself
]

SHAPE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 8,
    "conv_dim": [8] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, {}),
    "wav2vec2-large": (Wav2Vec2Config, Wav2Vec2Model, {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "hubert": (HubertConfig, HubertModel, {}),
    "hubert-large": (HubertConfig, HubertModel, {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "wavlm": (WavLMConfig, WavLMModel, {"num_buckets": 32, "max_bucket_distance": 80}),
    "wavlm-large": (WavLMConfig, WavLMModel, {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "data2vec": (Data2VecAudioConfig, Data2VecAudioModel, {"conv_pos_kernel_size": 3}),
}


def write(folder: Path, kind: str = "wav2vec2", *, mask: bool = True, normalise: bool = True, **shape: Any) -> Path:
    """Save a tiny model with random weights, as transformers does, with its feature extractor."""
    config, model, more = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(config(**{**SHAPE, **more, **shape})).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=mask, do_normalize=normalise).save_pretrained(folder)
    return folder


def clips() -> list[np.ndarray]:
    """Of a whole window of 1 s, of two thirds of it, and one shorter than what a state hears."""
    rng = np.random.default_rng(1)
    return [rng.normal(0.1, 0.3, length).astype(np.float32) for length in (SAMPLE_RATE, 11_000, 300)]


def heard(sounds: list[np.ndarray], encoder: ReadyEncoder) -> Padded:
    return Padded(pad(sounds, encoder.window), [len(one) for one in sounds])


def opened(folder: Path, **options: Any) -> ReadyEncoder:
    return open_encoder(str(folder), **{"device": "cpu", "precision": "float32", "window_seconds": 1.0} | options)


def by_transformers(folder: Path, sounds: list[np.ndarray]) -> Any:
    extractor, model = Wav2Vec2FeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    given = extractor(
        sounds, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.no_grad():
        return model(**given, output_hidden_states=True)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_model_of_transformers(kind: str, mask: bool, tmp_path: Path) -> None:
    folder = write(tmp_path, kind, mask=mask)
    expected = by_transformers(folder, clips()[:2])
    last = opened(folder)
    states = last.states(heard(clips()[:2], last))
    assert states.dtype == torch.float16
    assert states.shape == (2, 49, 16)
    torch.testing.assert_close(states.float(), expected.last_hidden_state, atol=2e-3, rtol=2e-3)
    several = opened(folder, layers="all")
    every = several.states(heard(clips()[:2], several)).float().split(16, 2)
    for layer in (1, 2):
        torch.testing.assert_close(every[layer - 1], expected.hidden_states[layer], atol=2e-3, rtol=2e-3)
    assert torch.equal(every[2], states.float())  # the last one stands behind the final norm
    cut = opened(folder, layers=(1, 2))
    assert torch.equal(cut.states(heard(clips()[:2], cut)).float(), torch.cat(every[:2], 2))


def test_sound_is_normalised_as_the_feature_extractor_says(tmp_path: Path) -> None:
    sounds = [10 * clips()[0]]
    with_, without = (write(tmp_path / str(one), "hubert-large", normalise=one) for one in (True, False))
    one, other = (opened(folder) for folder in (with_, without))
    a, b = (encoder.states(heard(sounds, encoder)).float() for encoder in (one, other))
    assert one.digest != other.digest
    assert (a - b).abs().max() > 0.01
    torch.testing.assert_close(b, by_transformers(without, sounds).last_hidden_state, atol=2e-3, rtol=2e-3)


def test_padding_changes_no_state_where_it_is_masked(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path, "wavlm-large"), window_seconds=2.0)
    sound = clips()[1]
    loud = np.concatenate([sound, 0.5 * np.ones(4000, np.float32)])
    real = (len(sound) - 400) // 320 + 1
    silent = encoder.states(heard([sound], encoder))[0, :real]
    padded = encoder.states(Padded(pad([loud], encoder.window), [len(sound)]))[0, :real]
    assert torch.equal(silent, padded)
    assert not torch.equal(silent, encoder.states(pad([sound], encoder.window))[0, :real])  # nothing is masked there


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm-large"])
def test_the_other_clips_of_a_batch_do_not_matter(kind: str, tmp_path: Path) -> None:
    encoder = opened(write(tmp_path, kind))
    sounds = [*clips(), *clips(), np.zeros(0, np.float32)]  # more than a pass; the last one could not be read
    together = encoder.states(heard(sounds, encoder))
    alone = torch.cat([encoder.states(heard([one], encoder)) for one in sounds])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=2e-3)
    assert torch.equal(torch.cat(list(encoder.stream([heard(sounds, encoder)]))), together)


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "data2vec"])
def test_what_is_saved_is_the_same_encoder(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "whole", kind)
    encoder = opened(tmp_path / "whole", layers=(1, 2))
    encoder.save(tmp_path / "saved")
    again = open_encoder(str(tmp_path / "saved"), device="cpu", precision="float32")
    assert isinstance(again, SelfSupervisedEncoder)
    facts = ("window", "frames", "width", "layers", "depth", "digest", "parameters")
    assert [getattr(again, name) for name in facts] == [getattr(encoder, name) for name in facts]
    assert (again.window.seconds, again.frames, again.width, again.layers) == (1.0, 49, 32, (1, 2))
    assert inner_layers(again) == (1, 2)
    assert inner_layers(opened(tmp_path / "whole")) is None
    sounds = heard(clips(), encoder)
    assert torch.equal(again.states(sounds), encoder.states(sounds))
    with pytest.raises(NarrowError, match=r"1 to 2 \(of 3; the others were not kept\)"):
        opened(tmp_path / "saved", layers="last")


def test_what_changes_states_changes_the_digest(tmp_path: Path) -> None:
    write(tmp_path)
    one = opened(tmp_path).digest
    others = {opened(tmp_path, layers=(2,)).digest, opened(tmp_path, window_seconds=2.0).digest}
    others.add(opened(write(tmp_path / "unmasked", mask=False)).digest)
    others.add(opened(write(tmp_path / "heads", num_attention_heads=4)).digest)
    assert len(others | {one}) == 5
    assert opened(tmp_path, precision="bf16").digest == one


def test_bf16_is_near_float32(tmp_path: Path) -> None:
    # 32 channels in a group of the positions' convolution, as large as real ones: with less than 16, oneDNN 3.12 computes
    # something else in bf16 on processors with AMX.
    write(tmp_path, "wavlm-large", hidden_size=64)
    exact, rounded = opened(tmp_path), opened(tmp_path, precision="bf16")
    one, other = (encoder.states(heard(clips(), encoder)).float() for encoder in (exact, rounded))
    assert not torch.equal(one, other)
    assert (one - other).abs().mean() < 0.05 * one.abs().mean()


def test_states_out_of_range_are_told(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path))
    loud: Any = encoder
    with torch.no_grad():
        loud._model.encoder.layers[-1].final_layer_norm.weight.fill_(1e6)
    with pytest.raises(EmonetError, match="do not fit into float16"):
        encoder.states(heard(clips(), encoder))
    with pytest.raises(EmonetError, match="not padded to the encoder's window"):
        encoder.states(torch.zeros(1, 100))


def test_a_model_with_a_head_is_opened_without_it(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HubertForCTC(HubertConfig(**SHAPE))
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path)
    encoder = opened(tmp_path)
    expected = by_transformers(tmp_path, clips()[:1]).last_hidden_state
    states = encoder.states(heard(clips()[:1], encoder)).float()
    torch.testing.assert_close(states, expected, atol=2e-3, rtol=2e-3)
    assert encoder.flops_per_clip > 1e6


def test_what_is_not_supported_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, add_adapter=True, output_hidden_size=16)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"(?s)not supported.*adapter behind the layers.*audio of 8000 Hz"):
        opened(tmp_path)
    with pytest.raises(RequestError, match=r"compile is for a Whisper"):
        opened(write(tmp_path / "plain"), compile=True)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(RequestError, match=r"(?s)nor of another encoder.*wav2vec2, hubert, wavlm.*bert.*plugins"):
        opened(tmp_path / "bert")
    with pytest.raises(RequestError, match="not a captioner"):  # captions are written by Whisper alone
        locate(str(tmp_path / "plain"))


@pytest.mark.parametrize("lost", ["preprocessor_config.json", "model.safetensors", "weights"])
def test_what_is_missing_is_told(lost: str, tmp_path: Path) -> None:
    write(tmp_path)
    if lost == "weights":
        write(tmp_path / "fewer", num_hidden_layers=2)
        (tmp_path / "fewer" / "model.safetensors").replace(tmp_path / "model.safetensors")
    else:
        (tmp_path / lost).unlink()
    found = "weights of the encoder are missing" if lost == "weights" else "the encoder cannot be loaded"
    with pytest.raises(RequestError, match=found):
        opened(tmp_path)


def test_whisper_is_opened_as_before(tmp_path: Path) -> None:
    encoder = open_encoder(str(write_encoder(tmp_path)), device="cpu", precision="float32")
    assert isinstance(encoder, FrozenEncoder)
    waveforms = pad(clips(), encoder.window)
    assert torch.equal(encoder.states(Padded(waveforms, [1, 2, 3])), encoder.states(waveforms))
