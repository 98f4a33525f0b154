"""Whisper's encoder in plain PyTorch: the arithmetic and the names of transformers', without its import (3 s).

Only what is saved and what is in another form than one safetensors file goes through transformers itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Float32
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from emonet.encoders.attention import attend

_WEIGHTS = "model.safetensors"
_PICKED = "emonet_layers"  # in config.json: which layers give the states, and how many the whole encoder had
_PREFIXES = ("model.encoder.", "encoder.", "")  # of a captioner, of a model without its head, of an encoder alone


class _Linear(nn.Linear):
    """Its weights are read, so none are drawn: on the meta device that alone would import sympy (2 s)."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class _Conv1d(nn.Conv1d):
    """As `_Linear`."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class _Embedding(nn.Embedding):
    """As `_Linear`."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


@final
class Attention(nn.Module):
    """Self-attention over all states; `attend` makes the products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] = attend
        self.k_proj: nn.Module = _Linear(width, width, bias=False)
        self.v_proj: nn.Module = _Linear(width, width)
        self.q_proj: nn.Module = _Linear(width, width)
        self.out_proj: nn.Module = _Linear(width, width)

    def forward(self, states: Float[Tensor, "batch frames width"]) -> Float[Tensor, "batch frames width"]:
        """The states that each state asks for."""
        scaled = self.q_proj(states) * (states.shape[-1] // self.heads) ** -0.5
        query, key, value = (self._split(part) for part in (scaled, self.k_proj(states), self.v_proj(states)))
        heard: Tensor = self.out_proj(self.attend(query, key, value).reshape(states.shape))
        return heard

    def _split(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], self.heads, -1).transpose(1, 2).contiguous()


@final
class Layer(nn.Module):
    """Attention and two linear layers, each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.activation_fn = activation
        self.fc1: nn.Module = _Linear(width, hidden)
        self.fc2: nn.Module = _Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, states: Float[Tensor, "batch frames width"]) -> Float[Tensor, "batch frames width"]:
        """The next layer's states."""
        states = states + self.self_attn(self.self_attn_layer_norm(states))
        made: Tensor = states + self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(states))))
        return made


@final
class WhisperEncoder(nn.Module):
    """Log-mel frames in, states out; `of` and `read` give it its weights.

    Args:
        config: as `config.json` of a Whisper has it.

    Raises:
        KeyError: if a size is missing in it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.width, self.mels = int(config["d_model"]), int(config["num_mel_bins"])
        self.frames, self.hidden = int(config["max_source_positions"]), int(config["encoder_ffn_dim"])
        heads, layers = int(config["encoder_attention_heads"]), int(config["encoder_layers"])
        self.heads = heads
        activation = activation_of(config["activation_function"])
        self.conv1 = _Conv1d(self.mels, self.width, kernel_size=3, padding=1)
        self.conv2 = _Conv1d(self.width, self.width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = _Embedding(self.frames, self.width)
        self.layers = nn.ModuleList(Layer(self.width, heads, self.hidden, activation) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(self.width)
        self.depth: int = depth_of(config)
        self.picked: tuple[int, ...] = tuple((config.get(_PICKED) or {"layers": [layers]})["layers"])

    def forward(self, mel: Float[Tensor, "batch mels mel_frames"]) -> Float[Tensor, "batch frames states"]:
        """The states of the picked layers, side by side; the last layer's stand behind the final norm.

        Args:
            mel: log-mel of the whole window, shape (batch, mels, 2 * frames).
        """
        heard = functional.gelu(self.conv2(functional.gelu(self.conv1(mel))))
        states = heard.permute(0, 2, 1) + self.embed_positions.weight
        found = []
        for number, layer in enumerate(self.layers, 1):
            states = layer(states)
            if number in self.picked:
                found.append(self.layer_norm(states) if number == self.depth else states)
        return found[0] if len(found) == 1 else torch.cat(found, 2)

    def narrowed(self, *, layers: tuple[int, ...] | None = None, frames: int | None = None) -> WhisperEncoder:
        """The same encoder, its weights shared, up to the highest of some layers and with its first positions only.

        Args:
            layers: whose states it gives, ascending, from 1 to `depth` and among those that are there.
            frames: positions (count), as many as there are at most.
        """
        weights, config = dict(self.state_dict()), dict(self.config)
        if frames is not None:
            config["max_source_positions"] = frames
            weights["embed_positions.weight"] = weights["embed_positions.weight"][:frames].clone()
        if layers is not None and layers != self.picked:
            config |= {"encoder_layers": layers[-1], _PICKED: {"layers": list(layers), "depth": self.depth}}
            above = tuple(f"layers.{number}." for number in range(layers[-1], len(self.layers)))
            weights = {name: values for name, values in weights.items() if not name.startswith(above)}
        return self.of(config, weights)

    @classmethod
    def of(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> WhisperEncoder:
        """An encoder with these weights, which it shares.

        Raises:
            ValueError: if some are missing, or have another shape; or if the configuration has none.
        """
        try:
            with torch.device("meta"):
                encoder = cls(config)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the configuration does not tell the encoder's shape: {error}") from error
        missing = sorted(set(encoder.state_dict()).difference(weights))
        if missing:
            raise ValueError(f"weights are missing: {', '.join(missing[:3])} ... ({len(missing)} in all)")
        try:
            encoder.load_state_dict(dict(weights), assign=True)
        except RuntimeError as error:  # another shape, or more layers than the configuration says
            raise ValueError(str(error).splitlines()[-1].strip()) from error
        return encoder.eval()

    @classmethod
    def read(cls, folder: Path) -> WhisperEncoder:
        """Read the encoder of a Whisper, in float32, out of a folder in Hugging Face's form.

        Raises:
            OSError: if there is none.
            ValueError: if it is damaged, or weights are missing.
            SafetensorError: if the file of weights is damaged.
        """
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("config.json holds no settings")
        if not (folder / _WEIGHTS).is_file() or not {"d_model", "activation_function"} <= set(config):
            encoder = _by_transformers(folder, alone="WhisperEncoder" in (config.get("architectures") or ()))
            return cls.of(encoder.config.to_dict(), encoder.state_dict())
        return cls.of(config, _encoders_weights(folder / _WEIGHTS))

    def save(self, folder: Path) -> None:
        """Write the encoder alone, so that transformers and `read` open it."""
        from transformers import WhisperConfig
        from transformers.models.whisper import modeling_whisper
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar per file of a few megabytes; what takes long shows ours
        with torch.device("meta"):
            model = modeling_whisper.WhisperEncoder(WhisperConfig.from_dict(self.config))
        model.load_state_dict(self.state_dict(), assign=True)
        model.save_pretrained(folder)


def depth_of(config: Mapping[str, Any]) -> int:
    """Layers of the whole encoder (count), those that were not kept (beyond `encoder_layers`) included.

    Raises:
        KeyError: if the configuration does not say.
    """
    return int((config.get(_PICKED) or {"depth": config["encoder_layers"]})["depth"])


def activation_of(name: str) -> nn.Module:
    """The activation between the two linear layers of a block, by its name in Hugging Face's configurations."""
    if name == "gelu":
        return nn.GELU()
    from transformers.activations import ACT2FN

    other: nn.Module = ACT2FN[name]
    return other


def _encoders_weights(file: Path) -> dict[str, Float32[Tensor, "..."]]:
    with safe_open(file, "pt") as opened:
        names = list(opened.keys())
        prefix = next(one for one in _PREFIXES if not one or any(name.startswith(one) for name in names))
        mine = [name for name in names if name.startswith(prefix)]
        return {name.removeprefix(prefix): opened.get_tensor(name).float() for name in mine}


def _by_transformers(folder: Path, *, alone: bool) -> Any:
    """For weights in several files, or in another form than safetensors."""
    from transformers import WhisperModel
    from transformers.models.whisper import modeling_whisper
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    kind: Any = modeling_whisper.WhisperEncoder if alone else WhisperModel
    try:
        model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except (RuntimeError, TypeError, KeyError) as error:  # weights of another shape, settings of another type
        raise ValueError(str(error)) from error
    missing = sorted(name for name in report["missing_keys"] if alone or name.startswith("encoder."))
    if missing:  # transformers would go on with random numbers
        raise ValueError(f"weights are missing: {', '.join(missing[:3])} ... ({len(missing)} in all)")
    return model if alone else model.encoder
