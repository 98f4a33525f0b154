"""The frozen encoder of a captioner: audio of one window in, states of 20 ms out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float16, Float32
from safetensors import SafetensorError
from torch import Tensor
from transformers import WhisperConfig, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.logging import disable_progress_bar

from emonet.configs import Precision
from emonet.errors import EmonetError, RequestError
from emonet.hardware import Arithmetic, resolve_device, resolve_precision
from emonet.hub import locate
from emonet.logmel import LogMel
from emonet.windows import Window

disable_progress_bar()  # one bar per file of a few megabytes; what takes long shows ours


class FrozenEncoder:
    """A Whisper encoder whose weights stay as they are, with the log-mel in front of it.

    Args:
        encoder: float32 weights.
        precision: arithmetic of the layers; `auto` is bf16 where the processor or GPU computes it.
        device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
    """

    def __init__(self, encoder: WhisperEncoder, *, precision: Precision = "auto", device: str | None = None) -> None:
        self.device = resolve_device(device)
        self.precision: Arithmetic = resolve_precision(precision, self.device)
        self.digest: str = weights_digest(encoder)
        self.width: int = encoder.config.d_model
        self.mels: int = encoder.config.num_mel_bins
        self.window: Window = Window.of_frames(encoder.config.max_source_positions)
        self._logmel = LogMel(self.mels).to(self.device)
        self._encoder = encoder.to(self.device).eval().requires_grad_(False)

    @classmethod
    def load(cls, source: str, *, precision: Precision = "auto", device: str | None = None) -> FrozenEncoder:
        """Load the encoder of a Whisper, or one that `save` wrote.

        Args:
            source: a folder in Hugging Face's form, or a hub id such as `openai/whisper-small`.
            precision: `float32`, `bf16` or `auto`.
            device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.

        Raises:
            RequestError: if there is no such folder or hub model, it is no Whisper, or the GPU has no bf16.
            EmonetError: if the hub cannot be reached.
        """
        return cls(_load(source), precision=precision, device=device)

    def save(self, folder: Path) -> None:
        """Write the encoder alone, in float32, so that `load(str(folder))` gives the same digest."""
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder.save_pretrained(folder)

    def __call__(self, waveforms: Float32[Tensor, "batch samples"]) -> Float16[Tensor, "batch frames width"]:
        """The encoder's last hidden states.

        Args:
            waveforms: 16 kHz audio, padded to the window, shape (batch, window.samples).

        Returns:
            Shape (batch, window.frames, width), on the processor.

        Raises:
            EmonetError: if a state is not finite or does not fit into float16.
        """
        if waveforms.shape[-1] != self.window.samples:
            raise EmonetError(
                "the audio is not padded to the encoder's window",
                expected=f"{self.window.samples:,} samples",
                found=f"{waveforms.shape[-1]:,} samples",
                hint="emonet.logmel.pad(waveforms, encoder.window)",
            )
        with torch.inference_mode():
            mel = self._logmel(waveforms.to(self.device))
            # Autocast, not bf16 weights: layers multiply in bf16, while the residual stream keeps float32.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                states: Tensor = self._encoder(mel).last_hidden_state
            half = states.half()
        _check_range(half, states)
        return half.cpu()


def weights_digest(module: torch.nn.Module) -> str:
    """SHA-256 in hex over a module's weights as float32: names in order, shapes, bytes."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous().numpy()
        state.update(f"{name} float32 {list(values.shape)}\n".encode())
        state.update(memoryview(values.astype("<f4", copy=False)).cast("B"))
    return state.hexdigest()


def _load(source: str) -> WhisperEncoder:
    place = locate(source)
    try:
        config = WhisperConfig.get_config_dict(place)[0]
        return _weights(place, alone="WhisperEncoder" in (config.get("architectures") or ()))
    except (OSError, ValueError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RequestError(
            "the encoder of this captioner cannot be loaded",
            where=source,
            expected="config.json and model.safetensors, as save_pretrained writes them",
            found=reason,
        ) from error


def _weights(place: str, *, alone: bool) -> WhisperEncoder:
    kind: Any = WhisperEncoder if alone else WhisperModel
    model, report = kind.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    missing = sorted(name for name in report["missing_keys"] if alone or name.startswith("encoder."))
    if missing:  # transformers would go on with random numbers
        raise ValueError(f"weights are missing: {', '.join(missing[:3])} ... ({len(missing)} in all)")
    return model if alone else model.encoder


def _check_range(half: Tensor, states: Tensor) -> None:
    if bool(torch.isfinite(half).all()):
        return
    largest = "NaN" if bool(states.isnan().any()) else f"{float(states.abs().max()):.4g}"
    raise EmonetError(
        "the encoder's states do not fit into float16",
        expected="finite values up to 65504",
        found=largest,
        hint="train the captioner again with a lower learning rate: its training diverged",
    )
