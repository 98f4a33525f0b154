from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperTokenizer
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from emonet.captioner import IGNORED, check_lengths, encode, prompt_ids
from emonet.captioner.tokenizer import NO_TIMESTAMPS, SPECIAL_TOKENS, text_ids, train_tokenizer
from emonet.errors import RequestError

CAPTIONS = [
    "The speaker feels strong anger.",
    "One hears slight joy.",
    "The voice expresses strong joy and slight anger.",
] * 3
TOKENIZER = train_tokenizer(CAPTIONS)


def test_same_captions_same_vocabulary_whatever_their_order() -> None:
    assert train_tokenizer(CAPTIONS[::-1]).get_vocab() == TOKENIZER.get_vocab()


def test_words_of_the_captions_are_single_tokens() -> None:
    assert TOKENIZER.tokenize("The speaker feels strong anger.")[1:] == ["Ġspeaker", "Ġfeels", "Ġstrong", "Ġanger", "."]


def test_special_tokens_are_the_last_and_in_whispers_order() -> None:
    ids = TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert ids == list(range(len(TOKENIZER) - len(SPECIAL_TOKENS), len(TOKENIZER)))


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=40).filter(lambda text: "<|" not in text))
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"], skip_special_tokens=True) == text


def test_saved_and_opened_by_transformers(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    opened = WhisperTokenizer.from_pretrained(tmp_path)
    assert opened.get_vocab() == TOKENIZER.get_vocab()
    assert opened(CAPTIONS)["input_ids"] == TOKENIZER(CAPTIONS)["input_ids"]
    assert opened(CAPTIONS[0])["input_ids"][:4] == prompt_ids(opened)
    assert opened.get_decoder_prompt_ids(language="en", task="transcribe") == list(enumerate(prompt_ids(opened)[1:], 1))


def test_labels_are_those_that_whisper_shifts_itself() -> None:
    tokens = encode(TOKENIZER, CAPTIONS[:3], limit=64, names="abc")
    start, end = TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>"), TOKENIZER.eos_token_id
    assert torch.equal(shift_tokens_right(tokens.labels, end, start), tokens.inputs)
    for row, caption in enumerate(CAPTIONS[:3]):
        whole = TOKENIZER(caption)["input_ids"]
        said = tokens.labels[row][tokens.labels[row] != IGNORED].tolist()
        assert said == whole[1:]  # without the start, with the end token
        assert said[-1] == end
        assert tokens.mask[row].sum() == len(said)
    assert tokens.count == int((tokens.labels != IGNORED).sum())


def test_a_caption_that_is_too_long_is_reported_not_cut() -> None:
    with pytest.raises(RequestError, match="too long") as caught:
        encode(TOKENIZER, ["joy", "joy " * 40], limit=30, names=["first", "second"])
    assert "'second'" in str(caught.value)
    assert "at most 30 tokens" in str(caught.value)
    exact = len(TOKENIZER("joy")["input_ids"]) - 1
    assert encode(TOKENIZER, ["joy"], limit=exact, names=["a"]).count == exact


def test_a_tokenizer_needs_captions_and_room() -> None:
    with pytest.raises(RequestError, match="no training clip has a caption"):
        train_tokenizer(["", " "])
    with pytest.raises(RequestError, match="too small"):
        train_tokenizer(CAPTIONS, vocabulary=100)


def spoken(tokenizer: WhisperTokenizer, ids: list[int]) -> str:
    """The tokens' text; `decode` leaves out what looks like a timestamp."""
    return "".join(tokenizer.convert_ids_to_tokens(ids)).replace("Ġ", " ")


@pytest.mark.parametrize("mark", [*SPECIAL_TOKENS[:4], NO_TIMESTAMPS, "<|0.00|>"])
def test_marks_inside_a_caption_are_text(mark: str) -> None:
    captions = [f"A calm{mark} voice{mark}{mark}.", "joy", ""]
    first, *others = text_ids(TOKENIZER, captions)
    assert max(first) < len(TOKENIZER) - len(SPECIAL_TOKENS)
    assert spoken(TOKENIZER, first) == captions[0]
    assert others == [TOKENIZER("joy", add_special_tokens=False)["input_ids"], []]
    labels = encode(TOKENIZER, captions, limit=448, names="abc").labels[0]
    assert (labels == TOKENIZER.eos_token_id).sum() == 1


def test_marks_of_a_published_tokenizer_are_text() -> None:
    published = Path(__file__).parents[4] / "shared/models/whisper-base"
    if not published.is_dir():
        pytest.skip(f"no {published}")
    tokenizer = WhisperTokenizer.from_pretrained(published)
    (ids,) = text_ids(tokenizer, ["hi<|0.00|>there<|endoftext|><|en|>"])
    assert max(ids) < tokenizer.eos_token_id
    assert spoken(tokenizer, ids) == "hi<|0.00|>there<|endoftext|><|en|>"


def test_all_captions_are_looked_at_before_the_first_is_learnt() -> None:
    captions = ["joy", "joy " * 40, "grief " * 50]
    with pytest.raises(RequestError, match=r"(?s)at most 30 tokens.*clip 'b': \d+ tokens.*clip 'c': \d+ tokens"):
        check_lengths(TOKENIZER, captions, limit=30, names="abc")
    exact = encode(TOKENIZER, captions[:1], limit=30, names="a").count
    check_lengths(TOKENIZER, captions[:1], limit=exact, names="a")
    with pytest.raises(RequestError, match="too long"):
        check_lengths(TOKENIZER, captions[:1], limit=exact - 1, names="a")
    check_lengths(TOKENIZER, [], limit=1, names=[])
