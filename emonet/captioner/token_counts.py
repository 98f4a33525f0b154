"""Tokens of a caption by Whisper's own vocabulary, counted without torch or transformers."""

from __future__ import annotations

import gzip
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

POSITIONS = 448  # of the decoder of every published Whisper (tokens)
MOST = POSITIONS - 4  # without language, task and timestamp mark before it and the end after it (tokens)
MERGES = "whisper_merges.txt.gz"  # of the multilingual vocabulary, which openai/whisper publishes under the MIT licence
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,30}\|>")


def count_tokens(caption: str) -> int:
    """Tokens of a caption as text, special ones inside taken as text, too.

    A captioner from scratch learns a smaller vocabulary, in which most captions have more; `emonet pretrain` counts
    again, by its own.
    """
    return len(_vocabulary().encode(caption).ids)


def special_tokens(caption: str) -> list[str]:
    """What in a caption looks like one of Whisper's special tokens, each once."""
    return list(dict.fromkeys(_SPECIAL.findall(caption)))


@cache
def _vocabulary() -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers

    text = gzip.decompress(resources.files("emonet.captioner").joinpath(MERGES).read_bytes()).decode()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in text.splitlines())]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    vocabulary = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    vocabulary.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return vocabulary
