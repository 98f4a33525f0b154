from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emonet.audio import decode
from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.peers import open_peer

# As FunASR 1.4 answers: emotion2vec's labels with its probabilities, SenseVoice's text with its tags.
FUNASR = """
import numpy as np
class AutoModel:
    def __init__(self, *, model, device, **more):
        print("funasr version: 1.4.16.")
        if model == "nowhere": raise RuntimeError("not registered")
        self.model, self.device = model, device
    def generate(self, *, input, **how):
        print("rtf_avg: 0.1")
        assert input.dtype == np.float32 and input.ndim == 1
        if "emotion2vec" in self.model:
            assert how == {"granularity": "utterance", "extract_embedding": False}
            labels = ["生气/angry", "厌恶/disgusted", "恐惧/fearful", "开心/happy", "中立/neutral", "其他/other", "难过/sad",
                      "吃惊/surprised", "<unk>"]
            return [{"key": "k", "labels": labels, "scores": [.5, 0, .25, 0, .1, 0, .15, 0, 0]}]
        tag = "EMO_UNKNOWN" if len(input) < 9000 else "SAD"
        return [{"key": "k", "text": f"<|en|><|{tag}|><|Speech|><|woitn|>i see"}]
"""


@pytest.fixture
def clips(make_wav: Callable[..., Path], tmp_path: Path) -> list[Clip]:
    (tmp_path / "broken.wav").write_bytes(b"no")
    return [
        Clip("short", make_wav("a.wav", seconds=0.5), "s", "test"),
        Clip("long", make_wav("b.wav", seconds=1.5), "s", "test"),
        Clip("broken", tmp_path / "broken.wav", "s", "test"),
    ]


@pytest.fixture
def funasr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "funasr.py").write_text(FUNASR)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "funasr", raising=False)
    yield
    sys.modules.pop("funasr", None)


@pytest.mark.usefixtures("funasr")
def test_emotion2vec(clips: list[Clip]) -> None:
    peer = open_peer("emotion2vec", device="cpu")
    scored = peer.score(clips)
    row = scored.scores.loc["short"]
    assert dict(row) == {"elation": 0, "astonishment": 0, "fear": 1, "sadness": 0.6, "disgust": 0, "anger": 2}
    assert list(scored.refusals) == ["broken"]


@pytest.mark.usefixtures("funasr")
def test_sensevoice(clips: list[Clip], capsys: pytest.CaptureFixture[str]) -> None:
    scored = open_peer("sensevoice", device="cpu").score(clips)
    assert capsys.readouterr().out == "", "stdout is for results"
    assert scored.scores.loc["long"].to_dict() == {
        **dict.fromkeys(scored.scores.columns, 0.0),
        "sadness": 4.0,
    }
    assert scored.refusals["short"] == "it names no emotion (EMO_UNKNOWN)"


@pytest.mark.usefixtures("funasr")
def test_weights_that_funasr_cannot_load() -> None:
    with pytest.raises(RequestError, match=r"(?s)weights of emotion2vec cannot be loaded.*not registered.*modelscope"):
        open_peer("emotion2vec:nowhere", device="cpu")


@pytest.mark.parametrize("name", ["emotion2vec", "sensevoice"])
def test_without_funasr_one_is_told_what_to_install(name: str) -> None:
    if importlib.util.find_spec("funasr") is not None:
        pytest.skip("FunASR is installed")
    with pytest.raises(RequestError, match=rf"(?s){name} needs FunASR.*iic/.*pip install funasr modelscope"):
        open_peer(name, device="cpu")


POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"


def tiny(folder: Path, **names: str) -> Path:
    """A checkpoint of the form of audEERING's, with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    labels = names or {"0": "arousal", "1": "dominance", "2": "valence"}
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        id2label={int(n): name for n, name in labels.items()},
    )
    torch.manual_seed(0)
    encoder = Wav2Vec2Model(config)
    state = {f"wav2vec2.{name}": value.contiguous() for name, value in encoder.state_dict().items()}
    for new, old in (("0", "g"), ("1", "v")):  # as checkpoints of 2022 call them
        value = state.pop(f"{POSITIONS}.parametrizations.weight.original{new}")
        state[f"{POSITIONS}.weight_{old}"] = value
    for name, shape in (("dense", (32, 32)), ("out_proj", (len(labels), 32))):
        state[f"classifier.{name}.weight"] = torch.randn(shape) / 20
        state[f"classifier.{name}.bias"] = torch.full(shape[:1], 0.3 if name == "out_proj" else 0.0)
    folder.mkdir()
    config.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_audeering_has_the_documented_arithmetic_and_our_scales(clips: list[Clip], tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tiny(tmp_path / "model")
    peer = open_peer(f"audeering:{folder}", device="cpu")
    scored = peer.score(clips)
    assert set(peer.target_spec.ids) == {"valence", "submissive_dominant", "arousal"}
    assert list(scored.refusals) == ["broken"]
    state = load_file(folder / "model.safetensors")
    encoder = Wav2Vec2Model(Wav2Vec2Config.from_pretrained(folder)).eval()
    old = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    renamed = {
        name.replace("weight_g", old["weight_g"]).replace("weight_v", old["weight_v"]): value
        for name, value in state.items()
    }
    encoder.load_state_dict({k.removeprefix("wav2vec2."): v for k, v in renamed.items() if k.startswith("wav2vec2.")})
    samples = decode(clips[1].audio).samples
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        pooled = encoder(inputs.input_values).last_hidden_state.mean(1)
        hidden = torch.tanh(pooled @ state["classifier.dense.weight"].T + state["classifier.dense.bias"])
        arousal, dominance, valence = (
            (hidden @ state["classifier.out_proj.weight"].T + state["classifier.out_proj.bias"])[0].clamp(0, 1).tolist()
        )
    row = scored.scores.loc["long"]
    np.testing.assert_allclose(row["arousal"], 4 * arousal, atol=1e-5)
    np.testing.assert_allclose(row["submissive_dominant"], 6 * dominance - 3, atol=1e-5)
    np.testing.assert_allclose(row["valence"], 6 * valence - 3, atol=1e-5)
    assert len({round(one, 3) for one in (arousal, dominance, valence)} - {0.0, 1.0}) > 1, "nothing was cut"


def test_another_folder_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model")
    before = open_peer(f"audeering:{folder}", device="cpu").identity
    moved = folder.rename(tmp_path / "moved")
    assert open_peer(f"audeering:{moved}", device="cpu").identity == before
    config = json.loads((moved / "config.json").read_text())
    config["id2label"] = {"0": "dominance", "1": "arousal", "2": "valence"}
    (moved / "config.json").write_text(json.dumps(config))
    relabelled = open_peer(f"audeering:{moved}", device="cpu").identity
    assert relabelled != before, "scores are kept by it"
    state = load_file(moved / "model.safetensors")
    save_file(state | {"classifier.out_proj.bias": torch.ones(3)}, moved / "model.safetensors", {"format": "pt"})
    assert open_peer(f"audeering:{moved}", device="cpu").identity not in {before, relabelled}


@pytest.mark.usefixtures("funasr")
@pytest.mark.parametrize("kind", ["emotion2vec", "sensevoice"])
def test_weights_of_funasr_in_a_folder_are_told_apart(kind: str, tmp_path: Path) -> None:
    def identity(weights: bytes) -> str:
        (tmp_path / "emotion2vec").mkdir(exist_ok=True)
        (tmp_path / "emotion2vec" / "model.pt").write_bytes(weights)
        return open_peer(f"{kind}:{tmp_path / 'emotion2vec'}", device="cpu").identity

    assert identity(b"one") != identity(b"other, longer")


def test_other_weights_are_not_taken_for_audeerings(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)not the weights of audEERING's model.*outputs a, b, c"):
        open_peer(f"audeering:{tiny(tmp_path / 'other', **{'0': 'a', '1': 'b', '2': 'c'})}", device="cpu")
    with pytest.raises(RequestError, match=r"(?s)weights of audeering cannot be loaded.*huggingface.co/audeering"):
        open_peer(f"audeering:{tmp_path / 'none'}", device="cpu")
