"""Whisper at work on a device: extraction with its frozen encoder, and training steps of a captioner."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperForConditionalGeneration

from benchmarks.extract import repeated, save_captioner
from benchmarks.gpu_limits import timed
from benchmarks.gpu_setting import Setting, synthetic_corpus
from benchmarks.rows import Row
from cache.extraction import extract
from datamodules.caption_batches import CaptionBatch
from emonet.captioner import CaptionTokens
from emonet.configs import CaptionerConfig, ExtractionConfig
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError
from emonet.runtime import ignore
from emonet.windows import Window
from lightningmodules.captioner import CaptionerModule

TOKENS = 48  # of a caption
VOCABULARY = 51_865  # of the published Whispers


def extract_with_base(setting: Setting) -> list[Row]:
    """All clips through Whisper base."""
    return _extract(setting, "base", setting.base)


def extract_with_small(setting: Setting) -> list[Row]:
    """All clips through an encoder of Whisper small's shape."""
    return _extract(setting, "small", None)


def _extract(setting: Setting, name: str, captioner: Path | None) -> list[Row]:
    width, layers = setting.scale.encoders[name]
    if captioner is None:
        captioner = save_captioner(setting.folder / name, width=width, layers=layers)
    encoder = FrozenEncoder.load(str(captioner), device=str(setting.device))
    encoder(torch.zeros(1, encoder.window.samples))
    corpus = repeated(synthetic_corpus(setting.folder / "audio"), setting.scale.clips)
    report = extract(corpus, encoder, setting.store(name), ExtractionConfig(), source=str(captioner))
    if report.failed:
        raise EmonetError("clips could not be extracted", found=report.failures[0].reason)
    best = setting.limits.products.get(setting.arithmetic)
    peer = f"{setting.arithmetic} matmul rate" if best else ""
    rate, title = report.clips_per_second, f"extraction, {name}"
    return [
        Row(title, rate, "clips/s", peer, rate * encoder.flops_per_clip / best if best else None),
        Row(f"{title}: encoder at work", report.encoder_tflops, "TFLOP/s", peer,
            1e12 * report.encoder_tflops / best if best else None),
        Row(f"{title}: encoder at work", 100 * report.encoder_share, "% of the time"),
        Row(f"{title}: written", report.megabytes_per_second, "MB/s"),
        Row(f"{title}: clips per pass", report.batch_size, "clips"),
    ]  # fmt: skip


def train_captioner(setting: Setting) -> list[Row]:
    """Steps of a captioner of the last encoder's shape: log-mels, loss, gradients, clipping, AdamW."""
    width, layers = list(setting.scale.encoders.values())[-1]
    config = CaptionerConfig(batch_size=setting.scale.captions)
    heads = max(1, width // 64)
    with torch.device(setting.device):
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=VOCABULARY, d_model=width, encoder_layers=layers, decoder_layers=layers,
                encoder_attention_heads=heads, decoder_attention_heads=heads,
                encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
            )
        )  # fmt: skip
    module = CaptionerModule(model, config, steps_per_epoch=1000, prompt_tokens=3, seed=0).to(setting.device)
    module.log = ignore  # there is no trainer that would take it
    optimiser = module.configure_optimizers()["optimizer"]
    batch = _captions(setting).to(setting.device)

    def step() -> None:
        with torch.autocast(setting.device.type, torch.bfloat16, enabled=setting.arithmetic == "bf16"):
            loss = module.training_step(batch, 0)
        loss.backward()
        module.configure_gradient_clipping(optimiser, config.gradient_clip)
        optimiser.step()
        optimiser.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    name = f"captioner of {layers} layers, width {width}: a step of {len(batch.clips)} clips"
    seconds = timed(step, setting.device, setting.scale.steps)
    return [*setting.limits.against(name, seconds, flops=counter.get_total_flops(), arithmetic=setting.arithmetic),
            Row("captioner", len(batch.clips) / seconds, "clips/s")]  # fmt: skip


def _captions(setting: Setting) -> CaptionBatch:
    clips = repeated(synthetic_corpus(setting.folder / "audio"), setting.scale.captions).clips
    tokens = torch.randint(0, VOCABULARY, (len(clips), TOKENS + 1))
    captions = CaptionTokens(tokens[:, :-1], torch.ones(len(clips), TOKENS, dtype=torch.int64), tokens[:, 1:])
    waveforms: Tensor = 0.1 * torch.randn(len(clips), Window().samples)
    return CaptionBatch(tuple(clips), waveforms, captions, captions.count)
