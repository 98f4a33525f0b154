"""The captioner: a Whisper that writes how the speaker feels, from scratch, from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.utils.logging import disable_progress_bar

from emonet.captioner.timestamps import timestamp_settings
from emonet.captioner.tokenizer import LANGUAGE_TOKENS, NO_TIMESTAMPS, TASKS, prompt_ids, text_ids, train_tokenizer
from emonet.configs import CaptionerConfig
from emonet.encoders import locate, too_long
from emonet.errors import RequestError
from emonet.runtime import replacing
from emonet.windows import Window

disable_progress_bar()  # one bar per file of a few megabytes; what takes long shows ours

SCRATCH = "scratch:"
MELS = 80  # mel bands of every published size below large-v3
LONGEST = 448  # decoder positions of the published sizes (tokens)
SHORTEST = 64  # decoder positions that nano has at least (tokens)
Pair = tuple[WhisperForConditionalGeneration, WhisperProcessor]


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a Whisper; the feed-forward layers are four times as wide as the model.

    Args:
        width: of the states.
        encoder_layers: count.
        decoder_layers: count.
        heads: attention heads in each layer.
        target_positions: decoder positions (tokens); None fits them to the captions.
    """

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    target_positions: int | None = LONGEST


# Nano is ours; the others have the published dimensions (arXiv 2212.04356, table 1).
SIZES = {
    "nano": Size(width=128, encoder_layers=4, decoder_layers=2, heads=2, target_positions=None),
    "tiny": Size(width=384, encoder_layers=4, decoder_layers=4, heads=6),
    "base": Size(width=512, encoder_layers=6, decoder_layers=6, heads=8),
    "small": Size(width=768, encoder_layers=12, decoder_layers=12, heads=12),
    "medium": Size(width=1024, encoder_layers=24, decoder_layers=24, heads=16),
}


def is_scratch(source: str) -> bool:
    """Whether `source` is `scratch:SIZE` rather than weights that exist."""
    return source.startswith(SCRATCH)


def open_captioner(
    config: CaptionerConfig, captions: Callable[[], Sequence[str]], seed: int, source: str | None = None
) -> Pair:
    """The model and processor that training starts from.

    Args:
        config: says which model, window and dropout.
        captions: gives sentences that a scratch model's tokenizer learns from; not asked by a model that has its own.
        seed: fixes a scratch model's weights.
        source: what `config.model` resolves to, where it is a registry URI.

    Raises:
        RequestError: if there is no such model, or it hears less than `config.window_seconds`.
        EmonetError: if the hub cannot be reached.
    """
    source = source or config.model
    if config.window_seconds == "auto":
        raise RequestError("the window is not known yet", expected="seconds", found="auto")
    window = Window(config.window_seconds)
    _check_whole(window)
    if is_scratch(source):
        return scratch(source.removeprefix(SCRATCH), window, captions(), seed, dropout=config.dropout)
    model, processor = load_captioner(source, dropout=config.dropout)
    heard = window_of(model)
    if window.frames > heard.frames:
        raise too_long(source, heard.seconds, window.seconds, "--captioner.window-seconds")
    if window.frames < heard.frames:
        _cut(model, processor, window)
    return model, processor


def _check_whole(window: Window) -> None:
    if window.seconds != int(window.seconds):
        raise RequestError(
            "the window of a captioner is whole seconds, as its saved feature extractor counts in them",
            expected=f"{int(window.seconds)} or {int(window.seconds) + 1} s",
            found=f"{window.seconds:g} s",
        )


def _cut(model: WhisperForConditionalGeneration, processor: WhisperProcessor, window: Window) -> None:
    """Let a pretrained Whisper hear a shorter window: its first positions, and log-mels of that length."""
    encoder = model.model.encoder
    positions = torch.nn.Embedding(window.frames, model.config.d_model).requires_grad_(False)
    positions.weight.data = encoder.embed_positions.weight.detach()[: window.frames].clone()
    encoder.embed_positions = positions
    model.config.max_source_positions = encoder.max_source_positions = window.frames
    given = processor.feature_extractor.to_dict() | {"chunk_length": int(window.seconds)}
    processor.feature_extractor = WhisperFeatureExtractor.from_dict(given)


def scratch(size: str, window: Window, captions: Sequence[str], seed: int, *, dropout: float = 0.0) -> Pair:
    """A Whisper with random weights, and a tokenizer that learns its words from the captions.

    Args:
        size: nano, tiny, base, small or medium.
        window: the audio it hears; whole seconds.
        captions: sentences like those it shall write.
        seed: fixes the weights.
        dropout: after each layer's parts (0 to 1).

    Raises:
        RequestError: if there is no such size, or no caption.
    """
    if size not in SIZES:
        raise RequestError(
            f"there is no captioner size {size!r}",
            expected=f"one of {', '.join(SIZES)}",
            found=size,
            hint="scratch:nano",
        )
    shape, tokenizer = SIZES[size], train_tokenizer(captions)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MELS,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        max_source_positions=window.frames,
        max_target_positions=shape.target_positions or _positions(tokenizer, captions),
        dropout=dropout,
        # 1 / sqrt(width) keeps the size of what a layer hands on. Whisper's 0.02 suits a width of 1000 and more; in a
        # narrow model it would leave the sound a twentieth as large as the positions that are added to it.
        init_std=shape.width**-0.5,
        decoder_start_token_id=prompt_ids(tokenizer)[0],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        begin_suppress_tokens=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=MELS, chunk_length=int(window.seconds))
    return _ready(model, WhisperProcessor(extractor, tokenizer))


def _positions(tokenizer: Any, captions: Sequence[str]) -> int:
    """Twice the longest caption, rounded up to a multiple of 32: other seeds write other captions (tokens)."""
    longest = max(len(prompt_ids(tokenizer)) + 1 + len(tokens) for tokens in text_ids(tokenizer, captions))
    return min(LONGEST, max(SHORTEST, -(-2 * longest // 32) * 32))


def load_captioner(source: str, *, dropout: float = 0.0) -> Pair:
    """A Whisper out of a folder or from the hub, in float32, set to write English captions.

    Args:
        source: a Hugging Face folder, or a hub id.
        dropout: after each layer's parts, in training (0 to 1).

    Raises:
        RequestError: if there is no such model, or the folder holds none.
        EmonetError: if the hub cannot be reached; it names the id.
    """
    place = locate(source)
    try:
        model, report = WhisperForConditionalGeneration.from_pretrained(
            place, dropout=dropout, dtype=torch.float32, output_loading_info=True
        )
        processor = WhisperProcessor.from_pretrained(place)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise RequestError(
            "the captioner cannot be opened", where=source, found=str(error).strip().splitlines()[0]
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise RequestError(
            "the captioner is not complete",
            where=source,
            expected="the weights of an encoder and a decoder",
            found=f"{len(missing)} weights missing, such as {missing[0]}",
        )
    return _ready(model, processor)


def _ready(model: WhisperForConditionalGeneration, processor: WhisperProcessor) -> Pair:
    """Complete the generation config, so that `model.generate(input_features)` writes a caption."""
    tokenizer = processor.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.set_prefix_tokens(language="english", task="transcribe", predict_timestamps=False)
    start = prompt_ids(tokenizer)[0]
    known = tokenizer.get_vocab()
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        prev_sot_token_id=known["<|startofprev|>"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_length=model.config.max_target_positions,
        is_multilingual=True,
        lang_to_id={token: known[token] for token in LANGUAGE_TOKENS if token in known},
        task_to_id={task: known[f"<|{task}|>"] for task in TASKS},
        no_timestamps_token_id=known[NO_TIMESTAMPS],
        **timestamp_settings(model),
        language="en",
        task="transcribe",
        return_timestamps=False,
        begin_suppress_tokens=[
            tokenizer.eos_token_id
        ],  # a caption is not empty; Whisper's longer list bans punctuation
    )
    model.config.use_cache = True
    return model.eval(), processor


def window_of(model: WhisperForConditionalGeneration) -> Window:
    """The audio that a captioner hears, from its `max_source_positions`."""
    return Window.of_frames(model.config.max_source_positions)


def save_captioner(model: WhisperForConditionalGeneration, processor: WhisperProcessor, folder: Path) -> None:
    """Save an ordinary Hugging Face folder, whole or not at all; an older one is replaced.

    Raises:
        RequestError: if `folder` cannot be written.
    """
    try:
        with replacing(folder) as partial:
            model.save_pretrained(partial)
            processor.save_pretrained(partial)
    except OSError as error:
        raise RequestError("the captioner cannot be written", where=folder, found=error.strerror or error) from error
