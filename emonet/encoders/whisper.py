"""The frozen encoder of a captioner: audio of one window in, states of 20 ms out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float16, Float32
from safetensors import SafetensorError
from torch import Tensor, nn

from emonet.audio import LogMel
from emonet.configs import Layers, Precision
from emonet.encoders.attention import attend
from emonet.encoders.base import Padded, parts_of
from emonet.encoders.device_copies import Arriving, Transfers
from emonet.encoders.hub import locate, too_long
from emonet.encoders.layers import resolve_layers
from emonet.encoders.packed_linear import pack, packable
from emonet.encoders.whisper_network import WhisperEncoder
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Arithmetic, has_matrix_units, resolve_device, resolve_precision
from emonet.schema import digest
from emonet.windows import Window

MOST_CLIPS = 64  # in a pass, where the choice is ours
CACHED = 2**21  # entries of a layer's widest activations in a pass (4 MiB in bf16): what a processor's cache holds well
OVERFLOW = 65520.0  # and above: infinite in float16


class FrozenEncoder:
    """A Whisper encoder whose weights stay as they are, with the log-mel in front of it.

    For bf16 it keeps a second copy of the weights, in which those that layers multiply with are rounded once.

    Args:
        encoder: float32 weights, ours or transformers'; they are kept, and not changed.
        precision: arithmetic of the layers; `auto` is bf16 where the processor or GPU computes it.
        device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
        compile: compile the layers in the first pass, which then takes a minute.
    """

    def __init__(
        self,
        encoder: WhisperEncoder | Any,
        *,
        precision: Precision = "auto",
        device: str | None = None,
        compile: bool = False,  # noqa: A002 - its name in the configuration
    ) -> None:
        self.device = resolve_device(device)
        self.precision: Arithmetic = resolve_precision(precision, self.device)
        if not isinstance(encoder, WhisperEncoder):
            encoder = WhisperEncoder.of(encoder.config.to_dict(), encoder.state_dict())
        self.layers: tuple[int, ...] = encoder.picked
        self.depth: int = encoder.depth
        self.digest: str = states_digest(encoder)
        self.width: int = encoder.width * len(self.layers)
        self.mels: int = encoder.mels
        self.window: Window = Window.of_frames(encoder.frames)
        self.frames: int = self.window.frames
        self._logmel = LogMel(self.mels).to(self.device)
        self._exact = encoder
        self._most = MOST_CLIPS if self.device.type == "cuda" else _cached_clips(encoder)
        self._encoder = _working_copy(encoder, self.device, self.precision)
        self._layers: Any = self._encoder
        self.computed_seconds: float | None = 0.0 if self.device.type == "cuda" else None
        if compile:
            layer: Any
            for layer in self._encoder.layers:  # outside of what is compiled: that would undo its writing in place
                layer.self_attn.attend = torch.compiler.disable(attend)  # type: ignore[no-untyped-call]
            self._layers = torch.compile(self._encoder, dynamic=False)
        elif self.device.type == "cpu" and self.precision == "bf16" and packable():
            pack(self._encoder, rows=self._most * self.window.frames)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        layers: Layers | None = None,
        window_seconds: float | None = None,
        precision: Precision = "auto",
        device: str | None = None,
        compile: bool = False,  # noqa: A002 - its name in the configuration
    ) -> FrozenEncoder:
        """Load the encoder of a Whisper, or one that `save` wrote.

        Args:
            source: a folder in Hugging Face's form, or a hub id such as `openai/whisper-small`.
            layers: whose states it gives, side by side; None leaves those that it was saved with, or the last.
            window_seconds: audio that it hears, its first positions; None is all of them.
            precision: `float32`, `bf16` or `auto`.
            device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
            compile: compile the layers in the first pass, which then takes a minute.

        Raises:
            RequestError: if there is no such folder or hub model, it is no Whisper, has no such layer, hears less than
                this window, or the GPU has no bf16.
            EmonetError: if the hub cannot be reached.
        """
        encoder = _narrowed(_load(source), layers, window_seconds, source)
        return cls(encoder, precision=precision, device=device, compile=compile)

    def save(self, folder: Path) -> None:
        """Write the encoder alone, in float32, so that `load(str(folder))` gives the same digest.

        Layers above the highest one that it gives are left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._exact.save(folder)

    @property
    def network(self) -> WhisperEncoder:
        """What it computes, with its weights in float32, on the processor."""
        return self._exact

    @property
    def flops_per_clip(self) -> float:
        """Operations of one window's convolutions, linear layers and attention products; a multiply-add is two."""
        layers, hidden = len(self._exact.layers), self._exact.hidden
        frames, width = self.window.frames, self._exact.width
        convolutions = 3 * width * (self.mels * self.window.mel_frames + width * frames)
        linear = frames * width * (4 * width + 2 * hidden)
        attended = 2 * frames**2 * width
        return 2.0 * (convolutions + layers * (linear + attended))

    @property
    def parameters(self) -> int:
        """Its weights (count)."""
        return sum(weights.numel() for weights in self._exact.parameters())

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights, copies included (bytes)."""
        held = {id(w): w for module in (self._exact, self._encoder) for w in module.parameters()}
        return sum(weights.numel() * weights.element_size() for weights in held.values())

    def batch_size(self) -> int:
        """Clips per pass that suit this encoder here (count).

        On the processor, that follows from the encoder's shape alone. On a GPU, it is the largest power of two up to 64
        for which there is memory, which is tried out.
        """
        while self.device.type == "cuda" and self._most > 1 and not self._fits(self._most):
            self._most //= 2
        return self._most

    def states(self, clips: Float32[Tensor, "batch samples"] | Padded) -> Float16[Tensor, "batch frames width"]:
        """The states of its layers, side by side.

        Args:
            clips: 16 kHz audio, padded to the window, shape (batch, window.samples); Whisper hears the padding, too.

        Returns:
            Shape (batch, window.frames, width), on the processor.

        Raises:
            EmonetError: if a state is not finite or does not fit into float16, or a GPU has no memory for one clip.
        """
        half, largest = self._states(parts_of(clips).waveforms, lambda part: part.to(self.device))
        check_range(largest)
        return half.cpu()

    def __call__(self, waveforms: Float32[Tensor, "batch samples"]) -> Float16[Tensor, "batch frames width"]:
        """As `states`."""
        return self.states(waveforms)

    def stream(self, batches: Iterable[Tensor | Padded]) -> Iterator[Tensor]:
        """The states of each batch, in order; on a GPU, copies run while the next batch is computed.

        Args:
            batches: 16 kHz audio, padded to the window, each of shape (batch, window.samples).

        Yields:
            Float16, shape (batch, window.frames, width), on the processor.

        Raises:
            EmonetError: as `states` does.
        """
        if self.device.type == "cuda":
            yield from self._overlapped(batches)
        else:
            yield from map(self.states, batches)

    def _overlapped(self, batches: Iterable[Tensor | Padded]) -> Iterator[Tensor]:
        transfers = Transfers(self.device)
        arriving = None
        for batch in batches:
            begun = transfers.mark()
            half, largest = self._states(parts_of(batch).waveforms.pin_memory(), transfers.upload)
            done = transfers.mark()
            later = transfers.download(half, largest), begun, done
            if arriving is not None:
                yield self._taken(*arriving)
            arriving = later
        if arriving is not None:
            yield self._taken(*arriving)

    def _taken(self, arriving: Arriving, begun: torch.cuda.Event, done: torch.cuda.Event) -> Tensor:
        half, largest = arriving.take()
        check_range(largest)
        assert self.computed_seconds is not None
        self.computed_seconds += begun.elapsed_time(done) / 1000  # type: ignore[no-untyped-call]
        return half

    def _states(self, waveforms: Tensor, upload: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """States in float16 and their largest magnitude, on the device, in passes of as many clips as it holds."""
        require_padded(waveforms, self.window)
        while True:
            try:
                halves, largest = zip(
                    *(self._pass(upload(part)) for part in torch.split(waveforms, self._most)), strict=True
                )
                return torch.cat(halves), torch.stack(largest).amax()
            except torch.OutOfMemoryError as error:
                self._most = halved(min(self._most, len(waveforms)), error, self.device)

    def _pass(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            mel = self._logmel(waveforms)
            # Autocast: layers multiply in bf16, while the residual stream and the norms keep float32.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                states: Tensor = self._layers(mel)
            low, high = states.aminmax()  # NaN if one is
            return states.half(), torch.maximum(-low, high)

    def _fits(self, clips: int) -> bool:
        try:
            silence = torch.zeros(clips, self.window.samples, device=self.device)
            waiting = self._pass(silence)  # while it is copied, the next pass is computed
            self._pass(silence)
            del waiting
        except torch.OutOfMemoryError:
            return False
        return True


def states_digest(encoder: WhisperEncoder) -> str:
    """What tells the states of an encoder from those of others: its weights, and which layers give them.

    SHA-256 in hex over the weights as float32 (names in order, shapes, bytes); over that and the layers where they are
    others than the last.
    """
    weights = weights_digest(encoder)
    return weights if encoder.picked == (encoder.depth,) else digest([weights, encoder.picked, encoder.depth])


def _narrowed(
    encoder: WhisperEncoder, layers: Layers | None, window_seconds: float | None, source: str
) -> WhisperEncoder:
    picked, frames, there = None, None, len(encoder.layers)
    if layers is not None:
        saved = encoder.picked if there < encoder.depth else None
        picked = resolve_layers(layers, encoder.depth, there=there, saved=saved, where=source)
    if window_seconds is not None and (frames := Window(window_seconds).frames) > encoder.frames:
        heard = Window.of_frames(encoder.frames).seconds
        raise too_long(source, heard, window_seconds, "--extraction.window-seconds")
    return encoder if picked is None and frames is None else encoder.narrowed(layers=picked, frames=frames)


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
        return WhisperEncoder.read(Path(place))
    except (OSError, ValueError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RequestError(
            "the encoder of this captioner cannot be loaded",
            where=source,
            expected="config.json and model.safetensors, as save_pretrained writes them",
            found=reason,
        ) from error


def _working_copy(encoder: WhisperEncoder, device: torch.device, precision: Arithmetic) -> WhisperEncoder:
    """What computes, on `device`; weights that need neither be moved nor rounded are shared."""
    multiplied = {
        id(weights)
        for module in encoder.modules()
        if precision == "bf16" and isinstance(module, nn.Linear | nn.Conv1d)
        for weights in module.parameters(recurse=False)
    }
    # Rounded here, once: autocast would do so in each pass. Handed to deepcopy as what it has copied already.
    copied: dict[int, Any] = {
        id(weights): nn.Parameter(
            weights.detach().to(device, torch.bfloat16 if id(weights) in multiplied else torch.float32),
            requires_grad=False,
        )
        for weights in encoder.parameters()
    }
    working = copy.deepcopy(encoder, copied).eval()
    working.layers[0].register_forward_pre_hook(_contiguous)
    return working


def _contiguous(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The convolutions leave time innermost; each norm and each sum after them would turn it round again."""
    del layer
    return (arguments[0].contiguous(), *arguments[1:])


def _cached_clips(encoder: WhisperEncoder) -> int:
    """Clips per pass on the processor (count): a power of two, so that a pass stays in cache, but at least one.

    Matrix units are too fast for the rows of one clip of Whisper small: two gain 6 %, and four lose it in page faults.
    """
    clips: int = CACHED // (encoder.frames * encoder.hidden)
    return min(MOST_CLIPS, 1 << (max(clips, 2 if has_matrix_units() else 1).bit_length() - 1))


def require_padded(waveforms: Tensor, window: Window) -> None:
    """Raise unless waveforms are as long as the window."""
    if waveforms.shape[-1] != window.samples:
        raise EmonetError(
            "the audio is not padded to the encoder's window",
            expected=f"{window.samples:,} samples",
            found=f"{waveforms.shape[-1]:,} samples",
            hint="emonet.audio.pad(waveforms, encoder.window)",
        )


def halved(clips: int, error: torch.OutOfMemoryError, device: torch.device) -> int:
    """Half as many clips for a pass that memory did not hold; raise where it was one clip."""
    if clips > 1:
        return clips // 2
    raise EmonetError(
        "there is no memory for a pass of one clip",
        where=device,
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        hint="stop what else runs there, or take another device",
    ) from error


def check_range(largest: Tensor) -> None:
    """Raise unless the largest magnitude of the states fits into float16."""
    if float(largest) < OVERFLOW:  # NaN is not
        return
    raise EmonetError(
        "the encoder's states do not fit into float16",
        expected="finite values up to 65504",
        found="NaN" if bool(largest.isnan()) else f"{float(largest):.4g}",
        hint="train the captioner again with a lower learning rate if its training diverged; a published encoder's "
        "layers may reach so far: --extraction.layers last, or others",
    )
