from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from emonet.captioner import MOST, count_tokens, special_tokens
from emonet.captioner.token_counts import _vocabulary

SHARED = Path(__file__).parents[4] / "shared"


def test_the_vocabulary_is_whispers() -> None:
    published = SHARED / "reference/whisper/multilingual.tiktoken"
    if not published.is_file():
        pytest.skip(f"no {published}")
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, published.read_text().splitlines())}
    byte_of = {token: bytes([byte]) for byte, token in enumerate(_byte_tokens())}
    ours = {b"".join(byte_of[c] for c in token): i for token, i in _vocabulary().get_vocab().items()}
    assert set(ours) - set(ranks) == set()
    assert [token for token, _ in sorted(ours.items(), key=lambda item: item[1])][256:] == [
        token for token, rank in sorted(ranks.items(), key=lambda item: item[1]) if token in ours and rank >= 256
    ]


def _byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins of the bytes 0 to 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


@given(st.text(max_size=60))
def test_counts_are_those_of_a_published_tokenizer(text: str) -> None:
    published = SHARED / "models/whisper-base/tokenizer.json"
    if not published.is_file():
        pytest.skip(f"no {published}")
    if special_tokens(text):
        return
    assert count_tokens(text) == len(_published(str(published)).encode(text, add_special_tokens=False).ids)


_OPENED: dict[str, Tokenizer] = {}


def _published(path: str) -> Tokenizer:
    if path not in _OPENED:
        _OPENED[path] = Tokenizer.from_file(path)
    return _OPENED[path]


def test_words_and_marks() -> None:
    assert count_tokens("She sounds very angry indeed.") == 6
    assert count_tokens("joy " * MOST) > MOST
    assert special_tokens("A calm<|endoftext|> voice <|0.00|> <|endoftext|> a <| b |>") == ["<|endoftext|>", "<|0.00|>"]


def test_counting_loads_no_heavy_library() -> None:
    code = (
        "import sys; from emonet.captioner.token_counts import count_tokens; count_tokens('joy');"
        "heavy = {'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
