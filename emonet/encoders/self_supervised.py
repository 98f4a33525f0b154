"""Self-supervised encoders, through transformers' AutoModel: wav2vec 2.0, HuBERT, WavLM and data2vec (audio).

Audio is normalised and masked as the folder's feature extractor says, padded to the window; a model that was trained
without masks (`return_attention_mask` false, as base models are) hears the padding's zeros, as transformers has it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float16
from torch import Tensor, nn

from emonet.configs import Layers, Precision
from emonet.encoders.base import Padded, parts_of
from emonet.encoders.hub import SELF_SUPERVISED, locate
from emonet.encoders.layers import resolve_layers
from emonet.encoders.whisper import check_range, halved, require_padded, weights_digest
from emonet.errors import RequestError, raise_collected
from emonet.runtime import Arithmetic, resolve_device, resolve_precision
from emonet.schema import digest
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE, Window

_CLIPS = {"cpu": 4, "cuda": 32}  # in a pass; more than a processor's cache holds gains nothing
_PICKED, _WINDOW = "emonet_layers", "emonet_window_seconds"  # in config.json of one that `save` wrote
_ARITHMETIC = (  # beside the weights, what states depend on; listed, so that no release of transformers adds to it
    "model_type", "conv_kernel", "conv_stride", "feat_extract_norm", "feat_extract_activation", "do_stable_layer_norm",
    "num_attention_heads", "hidden_act", "layer_norm_eps", "num_conv_pos_embedding_groups", "num_buckets",
    "max_bucket_distance", "conv_pos_batch_norm", "feat_proj_layer_norm",
)  # fmt: skip
_UNUSED = "masked_spec_embed"  # stands for what training hides; some checkpoints lack it


@final
class SelfSupervisedEncoder:
    """A frozen wav2vec 2.0, HuBERT, WavLM or data2vec; one state about every 20 ms.

    Args:
        model: transformers' model in float32; it is kept, moved to the device, and cut above the highest layer.
        extractor: its Wav2Vec2FeatureExtractor.
        layers: whose states it gives, ascending; `k` is `hidden_states[k]`, but the last one stands behind the final
            norm (`last_hidden_state`).
        depth: layers of the whole encoder (count).
        window: as much of a clip as it hears.
        precision: arithmetic of the layers; `auto` is bf16 where the processor or GPU computes it.
        device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
    """

    computed_seconds = None
    mels = 0

    def __init__(
        self,
        model: Any,
        extractor: Any,
        *,
        layers: tuple[int, ...],
        depth: int,
        window: Window,
        precision: Precision = "auto",
        device: str | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.precision: Arithmetic = resolve_precision(precision, self.device)
        self.layers, self.depth, self.window = layers, depth, window
        self._extractor = extractor
        model.encoder.layers = nn.ModuleList(list(model.encoder.layers)[: layers[-1]])
        model.config.num_hidden_layers = layers[-1]
        self._model: Any = model.requires_grad_(False).eval().to(self.device)
        config = model.config
        self.width: int = config.hidden_size * len(layers)
        self._conv: list[tuple[int, int, int]] = list(
            zip(config.conv_kernel, config.conv_stride, config.conv_dim, strict=True)
        )
        self.frames: int = self._frames(window.samples)
        self.digest: str = digest(
            [
                weights_digest(self._model),
                {name: getattr(config, name, None) for name in _ARITHMETIC},
                [bool(extractor.do_normalize), bool(extractor.return_attention_mask), extractor.padding_value],
                [layers, depth, window.seconds],
            ]
        )
        self._most = _CLIPS.get(self.device.type, 1)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        layers: Layers | None = None,
        window_seconds: float | None = None,
        precision: Precision = "auto",
        device: str | None = None,
    ) -> SelfSupervisedEncoder:
        """Load one in Hugging Face's form, or one that `save` wrote.

        Args:
            source: a folder, or a hub id such as `microsoft/wavlm-base`.
            layers: whose states it gives, side by side; None leaves those that it was saved with, or the last.
            window_seconds: audio that it hears, up to 30; None leaves what it was saved with, or 30.
            precision: `float32`, `bf16` or `auto`.
            device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.

        Raises:
            RequestError: if there is no such folder or hub model, it is damaged or of a form that is not supported, has
                no such layer, or the GPU has no bf16.
            EmonetError: if the hub cannot be reached.
        """
        model, extractor = _read(Path(locate(source, SELF_SUPERVISED)), source)
        config, there = model.config, len(model.encoder.layers)
        kept = getattr(config, _PICKED, None) or {"layers": [there], "depth": there}
        saved, depth = tuple(kept["layers"]), int(kept["depth"])
        picked = saved
        if layers is not None:
            of = saved if there < depth else None
            picked = resolve_layers(layers, depth, there=there, saved=of, where=source)
        seconds = window_seconds or getattr(config, _WINDOW, None) or PRETRAINED_SECONDS
        return cls(
            model,
            extractor,
            layers=picked,
            depth=depth,
            window=Window(float(seconds)),
            precision=precision,
            device=device,
        )

    def save(self, folder: Path) -> None:
        """Write it in Hugging Face's form, in float32, so that `load(str(folder))` gives the same digest.

        Layers above the highest one that it gives are left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        setattr(self._model.config, _PICKED, {"layers": list(self.layers), "depth": self.depth})
        setattr(self._model.config, _WINDOW, self.window.seconds)
        self._model.save_pretrained(folder)
        self._extractor.save_pretrained(folder)

    @property
    def flops_per_clip(self) -> float:
        """Operations of one window's convolutions, linear layers and attention products; a multiply-add is two."""
        config, samples, channels, convolutions = self._model.config, self.window.samples, 1, 0
        width, hidden, layers = int(config.hidden_size), int(config.intermediate_size), len(self._model.encoder.layers)
        for kernel, stride, out in self._conv:
            samples = (samples - kernel) // stride + 1
            convolutions += samples * kernel * channels * out
            channels = out
        linear, attended = self.frames * width * (4 * width + 2 * hidden), 2 * self.frames**2 * width
        return 2.0 * (convolutions + self.frames * channels * width + layers * (linear + attended))

    @property
    def parameters(self) -> int:
        """Its weights (count)."""
        return sum(weights.numel() for weights in self._model.parameters())

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights (bytes)."""
        return sum(weights.numel() * weights.element_size() for weights in self._model.parameters())

    def batch_size(self) -> int:
        """Clips per pass (count)."""
        return self._most

    def states(self, clips: Tensor | Padded) -> Float16[Tensor, "batch frames width"]:
        """The states of its layers, side by side.

        Args:
            clips: 16 kHz audio, padded to the window, shape (batch, window.samples), with the samples of each that are
                sound; what comes without them is all sound.

        Returns:
            Shape (batch, frames, width), on the processor.

        Raises:
            EmonetError: if a state is not finite or does not fit into float16, or a GPU has no memory for one clip.
        """
        waveforms, samples = parts_of(clips)
        require_padded(waveforms, self.window)
        while True:
            try:
                first = range(0, len(waveforms), self._most)
                parts = [self._pass(waveforms[at : at + self._most], samples[at : at + self._most]) for at in first]
                return torch.cat(parts) if parts else torch.zeros(0, self.frames, self.width, dtype=torch.float16)
            except torch.OutOfMemoryError as error:
                self._most = halved(min(self._most, len(waveforms)), error, self.device)

    def stream(self, batches: Iterable[Tensor | Padded]) -> Iterator[Tensor]:
        """The states of each batch, in order."""
        yield from map(self.states, batches)

    def _pass(self, waveforms: Tensor, samples: Iterable[int]) -> Tensor:
        # A clip shorter than what one state hears would have no state: its padding is heard up to there.
        heard = [wave[: max(length, self._shortest)] for wave, length in zip(waveforms.numpy(), samples, strict=True)]
        given = self._extractor(
            heard,
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=self.window.samples,
            return_tensors="pt",
        ).to(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)  # WavLM's masks
            output = self._model(
                given["input_values"].float(), attention_mask=given.get("attention_mask"), output_hidden_states=True
            )
            found = [
                output.last_hidden_state if layer == self.depth else output.hidden_states[layer]
                for layer in self.layers
            ]
            states = torch.cat(found, 2).float()
            low, high = states.aminmax()  # NaN if one is
        check_range(torch.maximum(-low, high))
        return states.half().cpu()

    @property
    def _shortest(self) -> int:
        """Samples that one state hears (400 in published models)."""
        samples = 1
        for kernel, stride, _ in reversed(self._conv):
            samples = (samples - 1) * stride + kernel
        return samples

    def _frames(self, samples: int) -> int:
        for kernel, stride, _ in self._conv:
            samples = (samples - kernel) // stride + 1
        return samples


def _read(place: Path, source: str) -> tuple[Any, Any]:
    """The model and its feature extractor.

    Raises:
        RequestError: if they cannot be read, or are of a form that is not supported.
    """
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(place)
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(place)
        raise_collected(
            "this encoder is of a form that is not supported", _unsupported(config, extractor), where=source
        )
        model, report = AutoModel.from_pretrained(
            place, config=config, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        KeyError,
    ) as error:  # no file, damaged, weights of another shape
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RequestError(
            "the encoder cannot be loaded",
            where=source,
            expected="config.json, preprocessor_config.json and weights, as save_pretrained writes them",
            found=reason,
        ) from error
    missing = sorted(set(report["missing_keys"]) - {_UNUSED})
    if missing:  # transformers would go on with random numbers
        names = f"{', '.join(missing[:3])} ... ({len(missing)} in all)"
        raise RequestError("weights of the encoder are missing", where=source, found=names)
    if _UNUSED in report["missing_keys"]:
        nn.init.zeros_(getattr(model, _UNUSED))
    return model, extractor


def _unsupported(config: Any, extractor: Any) -> list[str]:
    """What this class would compute otherwise than the model's authors did."""
    step = math.prod(config.conv_stride) / SAMPLE_RATE
    rate, values = extractor.sampling_rate, extractor.feature_size
    facts = {
        "an adapter behind the layers (add_adapter)": getattr(config, "add_adapter", False),
        "adapters inside the layers (adapter_attn_dim)": getattr(config, "adapter_attn_dim", None) is not None,
        f"audio of {rate} Hz; emonet decodes to {SAMPLE_RATE} Hz": rate != SAMPLE_RATE,
        f"{values} values a sample; emonet gives one": values != 1,
        "padding in front of the sound (padding_side)": extractor.padding_side != "right",
        f"states of {step:g} s, of which a window of 0.5 s holds none": step > 0.5,
    }
    return [fact for fact, holds in facts.items() if holds]
