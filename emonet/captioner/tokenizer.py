"""The tokenizer: a small vocabulary learnt from captions, and the labels that Whisper is trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from emonet.errors import RequestError, brief, raise_collected

END = "<|endoftext|>"
START = "<|startoftranscript|>"
LANGUAGE_TOKENS = tuple(f"<|{code}|>" for code in LANGUAGES)
TASKS = ("translate", "transcribe")
NO_TIMESTAMPS = "<|notimestamps|>"
# In Whisper's own order. Its 1501 timestamps are left out: captions have none, and they would be three quarters of a
# small vocabulary. <|notimestamps|> stays last, as Whisper takes every id above it for a timestamp.
SPECIAL_TOKENS = (
    END,
    START,
    *LANGUAGE_TOKENS,
    *(f"<|{task}|>" for task in TASKS),
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    NO_TIMESTAMPS,
)
IGNORED = -100  # the label that torch's cross entropy leaves out
VOCABULARY = 1024  # most text tokens of a scratch captioner; template captions need about 700


def train_tokenizer(captions: Sequence[str], vocabulary: int = VOCABULARY) -> WhisperTokenizer:
    """Learn a byte-level BPE: any text has tokens, and the words of `captions` have short ones.

    Args:
        captions: the sentences to learn from; their order does not matter.
        vocabulary: most text tokens, at least the 256 bytes (count).

    Returns:
        A tokenizer with Whisper's special tokens, whose prompt is English, transcribe, no timestamps.

    Raises:
        RequestError: if there is no caption, or `vocabulary` is below 256.
    """
    if not any(caption.strip() for caption in captions):
        raise RequestError(
            "no training clip has a caption or a score to write one from",
            expected="at least one",
            hint="emonet corpus SPEC shows what is rated",
        )
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary < len(bytes_):
        raise RequestError("the vocabulary is too small", expected=f"at least {len(bytes_)}", found=vocabulary)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, initial_alphabet=bytes_, show_progress=False)
    learner.train_from_iterator(sorted(captions), trainer)
    learnt = learner.get_vocab(with_added_tokens=False)
    return _as_whisper(learnt, _merges(learner))


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _as_whisper(vocab: dict[str, int], merges: list[tuple[str, str]]) -> WhisperTokenizer:
    first = len(vocab)
    full = vocab | {token: first + position for position, token in enumerate(SPECIAL_TOKENS)}
    return WhisperTokenizer(
        vocab=full,
        merges=merges,
        unk_token=END,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        language="english",
        task="transcribe",
    )


def prompt_ids(tokenizer: WhisperTokenizer) -> list[int]:
    """The tokens that every caption starts with: start of transcript, English, transcribe, no timestamps."""
    return [int(i) for i in tokenizer.convert_tokens_to_ids([START, "<|en|>", "<|transcribe|>", NO_TIMESTAMPS])]


@dataclass(frozen=True)
class CaptionTokens:
    """Captions as Whisper's decoder is trained on them, padded to the longest of the batch.

    Args:
        inputs: what the decoder reads: prompt and caption; padded with the end token.
        mask: 1 where `inputs` holds a token, 0 where it is padding.
        labels: what it has to say next, up to and with the end token; -100 beyond.
    """

    inputs: Int64[Tensor, "batch tokens"]
    mask: Int64[Tensor, "batch tokens"]
    labels: Int64[Tensor, "batch tokens"]

    @property
    def count(self) -> int:
        """Labels that count in the loss."""
        return int(self.mask.sum())


def text_ids(tokenizer: WhisperTokenizer, captions: Sequence[str]) -> list[list[int]]:
    """The captions' tokens as text: what looks like a special token in one is none, or it would end the caption there.

    A tokenizer's own way (`split_special_tokens`) lets Whisper's timestamps pass, so each mark is cut behind its first
    character and the pieces are encoded apart.
    """
    marks = re.compile("|".join(re.escape(mark) for mark in sorted(tokenizer.get_added_vocab(), key=len, reverse=True)))
    pieces: list[str] = []
    counts: list[int] = []
    for caption in captions:
        cuts = [0, *(match.start() + 1 for match in marks.finditer(caption)), len(caption)]
        pieces += (caption[start:end] for start, end in pairwise(cuts))
        counts.append(len(cuts) - 1)
    tokens = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"] if pieces else [])
    return [[token for _ in range(count) for token in next(tokens)] for count in counts]


def check_lengths(tokenizer: WhisperTokenizer, captions: Sequence[str], *, limit: int, names: Sequence[str]) -> None:
    """Look at all captions before the first of them is trained on.

    Args:
        tokenizer: of the model.
        captions: of some clips.
        limit: most label tokens, the model's `max_target_positions` (count).
        names: the clips' ids, for the message.

    Raises:
        RequestError: if captions have more than `limit` label tokens; names the first of them.
    """
    around = len(prompt_ids(tokenizer))  # without the first of them, and with the end
    _refuse_long([len(text) + around for text in text_ids(tokenizer, captions)], captions, limit, names)


def _refuse_long(lengths: Sequence[int], captions: Sequence[str], limit: int, names: Sequence[str]) -> None:
    long = [
        f"clip {brief(name)}: {length} tokens: {brief(caption[:60])}..."
        for length, name, caption in zip(lengths, names, captions, strict=True)
        if length > limit
    ]
    raise_collected(
        f"captions are too long for the captioner, which takes at most {limit} tokens (of them 4 that are no text)",
        long,
        hint="shorten them in the corpus",
    )


def encode(tokenizer: WhisperTokenizer, captions: Sequence[str], *, limit: int, names: Sequence[str]) -> CaptionTokens:
    """Inputs and labels of some captions.

    The label loses `decoder_start_token_id`, which the decoder is given and never says. (Cutting "bos" instead would
    cut nothing: Whisper's bos is the end token.) Padding is told by length, as the pad token is the end token too.

    Args:
        tokenizer: Whisper's, or one of `train_tokenizer`.
        captions: one sentence per clip.
        limit: most label tokens, the model's `max_target_positions` (count).
        names: the clips' ids, for the message.

    Raises:
        RequestError: if a caption has more than `limit` label tokens; it is not cut.
    """
    prompt, end = prompt_ids(tokenizer), tokenizer.eos_token_id
    sequences = [[*prompt, *text, end] for text in text_ids(tokenizer, captions)]
    _refuse_long([len(sequence) - 1 for sequence in sequences], captions, limit, names)
    lengths = torch.tensor([len(sequence) - 1 for sequence in sequences])
    padded = torch.full((len(sequences), int(lengths.max()) + 1), end, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.tensor(sequence)
    mask = (torch.arange(padded.shape[1] - 1) < lengths[:, None]).long()
    return CaptionTokens(padded[:, :-1], mask, padded[:, 1:].masked_fill(mask == 0, IGNORED))
