"""A saved captioner elsewhere: whatever generates with Whisper generates with it, and documented lines run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from emonet.captioner import add_timestamps, prompt_ids, save_captioner
from emonet.captioner import model as captioners
from emonet.captioner.model import Size, load_captioner, scratch
from emonet.windows import Window

DOCUMENT = Path(__file__).parents[3] / "docs" / "captioner.md"
CAPTIONS = ["The speaker feels strong anger.", "One hears slight joy."] * 3
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own calls


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a captioner that always writes the same sentence, and the sentence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(captioners.SIZES, "nano", Size(32, 1, 1, 2, None))
        model, processor = scratch("nano", Window(1.0), CAPTIONS, seed=0)
    learn(model, processor.tokenizer, CAPTIONS[0])
    add_timestamps(model, processor.tokenizer)
    folder = tmp_path_factory.mktemp("runs") / "runs" / "sandbox" / "captioner"
    folder.parent.mkdir(parents=True)
    save_captioner(model, processor, folder)
    return folder, CAPTIONS[0]


def learn(model: Any, tokenizer: Any, caption: str) -> None:
    """Train the decoder to write a caption whatever it hears."""
    tokens = [
        *prompt_ids(tokenizer),
        *tokenizer(caption, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    inputs, labels = torch.tensor([tokens[:-1]]), torch.tensor([tokens[1:]])
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    mels = torch.zeros(1, 80, 100)
    with torch.random.fork_rng():
        for _ in range(40):
            optimiser.zero_grad()
            model(input_features=mels, decoder_input_ids=inputs, labels=labels).loss.backward()
            optimiser.step()
    model.eval()


@pytest.fixture
def tone() -> np.ndarray:
    return np.sin(np.arange(8_000) / 10).astype(np.float32)


@pytest.fixture
def captioner(talking: tuple[Path, str]) -> Any:
    return pipeline("automatic-speech-recognition", model=str(talking[0]))


def test_timestamps_change_no_caption(captioner: Any, talking: tuple[Path, str], tone: np.ndarray) -> None:
    assert captioner(tone)["text"] == talking[1]
    found = captioner(tone, return_timestamps=True)
    assert found["text"] == talking[1]
    assert found["chunks"] == [{"timestamp": (0.0, None), "text": talking[1]}]


def test_a_recording_longer_than_the_window_has_a_caption_for_each_window(
    captioner: Any, talking: tuple[Path, str], tone: np.ndarray
) -> None:
    assert captioner(np.tile(tone, 5), return_timestamps=True)["text"] == 3 * talking[1]


def test_words_have_times(captioner: Any, talking: tuple[Path, str], tone: np.ndarray) -> None:
    words = captioner(tone, return_timestamps="word")["chunks"]
    assert [word["text"].strip() for word in words] == talking[1].split()
    assert all(0 <= word["timestamp"][0] <= 1 for word in words)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_documented_lines_run(
    talking: tuple[Path, str], rate: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg
    monkeypatch.chdir(talking[0].parents[2])
    soundfile.write("a.wav", np.zeros((3 * rate, channels), np.float32), rate)
    [block] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == 3 * talking[1] + "\n"


def test_a_captioner_with_given_timestamps_can_be_trained_on(talking: tuple[Path, str]) -> None:
    model, processor = load_captioner(str(talking[0]))
    before = model.get_input_embeddings().weight.clone()
    learn(model, processor.tokenizer, CAPTIONS[1])
    assert not torch.equal(model.get_input_embeddings().weight, before)
    add_timestamps(model, processor.tokenizer)
    weights = model.get_input_embeddings().weight
    none = prompt_ids(processor.tokenizer)[-1]
    assert len(weights) == len(before) == none + 52, "0.00 to 1.00 s"
    torch.testing.assert_close(weights[none + 1 :], weights[none].expand(51, -1))


def test_what_a_model_has_learnt_of_timestamps_is_kept(talking: tuple[Path, str], tmp_path: Path) -> None:
    model, processor = load_captioner(str(talking[0]))
    none = prompt_ids(processor.tokenizer)[-1]
    with torch.no_grad():
        model.get_input_embeddings().weight[none + 1 :].normal_(generator=torch.Generator().manual_seed(0))
    model.generation_config.alignment_heads = [[0, 1]]
    model.generation_config.max_initial_timestamp_index = 7
    weights = model.get_input_embeddings().weight.clone()
    add_timestamps(model, processor.tokenizer)
    assert torch.equal(model.get_input_embeddings().weight, weights)
    save_captioner(model, processor, tmp_path / "c")
    config = load_captioner(str(tmp_path / "c"))[0].generation_config
    assert (config.alignment_heads, config.max_initial_timestamp_index) == ([[0, 1]], 7)
