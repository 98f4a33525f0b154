"""Text to tokens and back: a small vocabulary learnt from captions, and the labels that Whisper is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from emonet.errors import RequestError

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
    texts = tokenizer(list(captions), add_special_tokens=False)["input_ids"]
    sequences = [[*prompt, *text, end] for text in texts]
    for sequence, name, caption in zip(sequences, names, captions, strict=True):
        if len(sequence) - 1 > limit:
            raise RequestError(
                "a caption is too long for the captioner",
                where=f"clip {name!r}: {caption[:60]!r}...",
                expected=f"at most {limit} tokens",
                found=f"{len(sequence) - 1} tokens",
                hint="shorten the caption in the corpus",
            )
    lengths = torch.tensor([len(sequence) - 1 for sequence in sequences])
    padded = torch.full((len(sequences), int(lengths.max()) + 1), end, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.tensor(sequence)
    mask = (torch.arange(padded.shape[1] - 1) < lengths[:, None]).long()
    return CaptionTokens(padded[:, :-1], mask, padded[:, 1:].masked_fill(mask == 0, IGNORED))
