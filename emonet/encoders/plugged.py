"""Encoders by name: Whisper's from a folder or hub, those of plug-ins, and the one that a voice model keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float16, Float32
from pydantic import ValidationError
from torch import Tensor

from emonet.configs import EncoderPrecision, Layers, Precision
from emonet.encoders.base import Encoder, Padded, ReadyEncoder, parts_of
from emonet.encoders.hub import ENCODERS, SELF_SUPERVISED, locate, model_type
from emonet.encoders.layers import NarrowError
from emonet.encoders.self_supervised import SelfSupervisedEncoder
from emonet.encoders.whisper import OVERFLOW, FrozenEncoder
from emonet.errors import EmonetError, RequestError
from emonet.runtime import PLUGIN, Group, Plugin, name_and_argument, pick_plugin, require_plugin, resolve_device
from emonet.schema import Schema, digest
from emonet.windows import Window

GROUP: Group = "emonet.encoders"
NOTE = "plugin.json"
CLIPS = 8  # in a pass: a plug-in says nothing of the memory that it needs


class PluginNote(Schema):
    """What a voice model keeps of an encoder that a plug-in brings: no weights, but how it is found again."""

    format_version: Literal[1] = 1
    """Of this file (count)."""
    encoder: str
    """NAME[:ARGUMENT]."""
    distribution: str
    """The package that registers it."""
    version: str
    """Of the package."""
    digest: str
    """Of the encoder, as `PluggedEncoder.digest`."""

    @property
    def package(self) -> str:
        """The package and its version, as pip takes them."""
        return f"{self.distribution}=={self.version}"


@final
class PluggedEncoder:
    """A plug-in's encoder, with what the store and the pipeline need beside it; what it gives is checked.

    Args:
        encoder: what the plug-in made.
        plugin: that made it.
        argument: that it was made with.
        device: where it computes.

    Raises:
        RequestError: if it is no `Encoder`, or says something of itself that cannot be.
    """

    computed_seconds = None
    depth = None
    flops_per_clip = 0.0
    mels = 0
    parameters = None
    weight_bytes = None

    def __init__(self, encoder: Any, plugin: Plugin, argument: str, device: torch.device) -> None:
        plugin.check(encoder, Encoder)
        self._encoder: Encoder = encoder
        self._plugin, self._argument = plugin, argument
        self.device = device
        with plugin.guarded(RequestError):
            self.window, self.frames, self.width = encoder.window, encoder.frames, encoder.width
            self.layers, self.precision = encoder.layers, encoder.precision
            own = encoder.digest
        self._check_facts(own)
        # Two plug-ins may call the same weights the same; what they make of them need not be.
        self.digest: str = digest([plugin.name, own, list(self.layers), self.window.seconds, self.frames, self.width])

    @classmethod
    def load(cls, name: str, *, precision: Precision = "auto", device: str | None = None) -> PluggedEncoder:
        """Make the encoder that `NAME[:ARGUMENT]` names.

        Raises:
            RequestError: if no installed package registers it, or the plug-in cannot be used.
        """
        known, argument = name_and_argument(name)
        return cls.of(require_plugin(known, GROUP), argument, precision=precision, device=device)

    @classmethod
    def of(cls, plugin: Plugin, argument: str, *, precision: Precision, device: str | None) -> PluggedEncoder:
        """Let a plug-in make its encoder.

        Raises:
            RequestError: if the plug-in cannot be used, or there is no such device.
        """
        place = resolve_device(device)
        return cls(plugin.call(argument, precision=precision, device=place), plugin, argument, place)

    def save(self, folder: Path) -> None:
        """Write how to find it again; its weights stay with the plug-in.

        Args:
            folder: made if it does not exist.
        """
        argument = self._lasting_argument()
        note = PluginNote(
            encoder=f"{self._plugin.name}:{argument}" if argument else self._plugin.name,
            distribution=self._plugin.distribution,
            version=self._plugin.version,
            digest=self.digest,
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NOTE).write_text(note.model_dump_json(indent=2) + "\n", "utf-8")

    def _lasting_argument(self) -> str:
        """The argument as it holds in any working folder: a path becomes absolute, if it still names this encoder.

        A size such as `8` or `base` may be the name of a file here, too.
        """
        try:
            path = Path(self._argument).expanduser()
            if not self._argument or not path.exists():
                return self._argument
            same = PluggedEncoder.of(self._plugin, str(path.resolve()), precision="auto", device="cpu")
        except (EmonetError, OSError, RuntimeError):  # not taken by the plug-in, too long, of an unknown user
            return self._argument
        return str(path.resolve()) if same.digest == self.digest else self._argument

    def batch_size(self) -> int:
        """Clips per pass (count)."""
        return CLIPS

    def states(self, clips: Float32[Tensor, "batch samples"] | Padded) -> Float16[Tensor, "batch frames width"]:
        """The plug-in's states, checked.

        Args:
            clips: 16 kHz audio, padded to the window, shape (batch, window.samples); plug-ins hear the padding, too.

        Returns:
            Shape (batch, frames, width), on the processor.

        Raises:
            EmonetError: if the plug-in fails, or a state is not finite or does not fit into float16.
            RequestError: if it gives something else than states of this shape.
        """
        parts = []
        for part in torch.split(parts_of(clips).waveforms, CLIPS):
            with self._plugin.guarded(), torch.inference_mode():
                found: Any = self._encoder.states(part)
            parts.append(self._checked(found, len(part)))
        return torch.cat(parts)

    def stream(self, batches: Iterable[Tensor | Padded]) -> Iterator[Tensor]:
        """The states of each batch, in order."""
        yield from map(self.states, batches)

    def _checked(self, found: Any, clips: int) -> Tensor:
        wanted = (clips, self.frames, self.width)
        if not isinstance(found, Tensor) or found.shape != wanted or not found.is_floating_point():
            shape = f" of {found.dtype}, shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            raise self._plugin.refused(
                "gives other states than it says",
                expected=f"a floating-point tensor of shape {wanted}",
                found=f"{type(found).__name__}{shape}",
            )
        low, high = (float(one) for one in found.float().aminmax())  # NaN if one is
        if not max(-low, high) < OVERFLOW:
            raise EmonetError(
                f"the states of the {self._plugin.label} do not fit into float16",
                expected="finite values up to 65504",
                found=f"{low:.4g} to {high:.4g}",
            )
        return found.detach().half().cpu()

    def _check_facts(self, own: object) -> None:
        layers: Any = self.layers
        facts = {
            "window: an emonet.windows.Window": isinstance(self.window, Window),
            "frames: an integer above 0": type(self.frames) is int and self.frames > 0,
            "width: an integer above 0": type(self.width) is int and self.width > 0,
            "layers: a tuple of integers above 0": isinstance(layers, tuple)
            and bool(layers)
            and all(type(layer) is int and layer > 0 for layer in layers),
            "width: the same for each of its layers, which stand side by side": not isinstance(layers, tuple)
            or type(self.width) is not int
            or self.width % max(1, len(layers)) == 0,
            "digest: text": isinstance(own, str) and bool(own),
            f"precision: {', '.join(get_args(EncoderPrecision))}": self.precision in get_args(EncoderPrecision),
        }
        if wrong := [fact for fact, holds in facts.items() if not holds]:
            names = [fact.partition(":")[0] for fact in wrong]
            found = {"window": self.window, "frames": self.frames, "width": self.width, "layers": layers}
            found |= {"digest": own, "precision": self.precision}
            raise self._plugin.refused(
                "says something of itself that cannot be",
                expected="; ".join(wrong),
                found=", ".join(f"{name} {found[name]!r}" for name in names),
            )


def open_encoder(
    source: str,
    *,
    layers: Layers | None = None,
    window_seconds: float | None = None,
    precision: Precision = "auto",
    device: str | None = None,
    compile: bool = False,  # noqa: A002 - its name in the configuration
) -> ReadyEncoder:
    """Load an encoder by its name.

    Args:
        source: folder or hub id of a captioner or of a wav2vec 2.0, HuBERT, WavLM or data2vec (audio),
            `plugin:NAME[:ARGUMENT]`, or a folder that an encoder was saved in.
        layers: whose states it gives; None leaves those that it was saved with, or the last. A plug-in has its own.
        window_seconds: audio that it hears, of a Whisper its first positions; None is all of them, or 30.
        precision: `float32`, `bf16` or `auto`; a plug-in may have its own.
        device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
        compile: compile Whisper's layers in the first pass; plug-ins do as they like, others cannot.

    Raises:
        RequestError: if there is no such encoder, it has no such layer or window, or its plug-in is not installed,
            cannot be used, or gives other states than it did when the encoder was saved.
        EmonetError: if the hub cannot be reached.
    """
    if source.startswith(PLUGIN):
        return PluggedEncoder.load(source.removeprefix(PLUGIN), precision=precision, device=device)
    if (note := read_note(Path(source).expanduser())) is not None:
        return _noted(note, Path(source), precision, device)
    if model_type(Path(locate(source, ENCODERS))) in SELF_SUPERVISED:
        if compile:
            raise RequestError("--extraction.compile is for a Whisper's encoder", where=source)
        return SelfSupervisedEncoder.load(
            source, layers=layers, window_seconds=window_seconds, precision=precision, device=device
        )
    return FrozenEncoder.load(
        source,
        layers=layers,
        window_seconds=window_seconds,
        precision=precision,
        device=device,
        compile=compile,
    )


def open_heard(
    source: str,
    made: str,
    *,
    layers: tuple[int, ...] | None,
    window_seconds: float,
    precision: Precision = "auto",
    device: str | None = None,
) -> ReadyEncoder:
    """Load the encoder whose states something was made from.

    Args:
        source: as in `open_encoder`.
        made: what was made, for the message: `this store was made from`.
        layers: that it heard; None leaves those that the encoder was saved with, or the last.
        window_seconds: that it heard.
        precision: as in `open_encoder`.
        device: as in `open_encoder`.

    Raises:
        NarrowError: if this encoder has no such layers or window: it is another one.
        RequestError: as `open_encoder` does.
        EmonetError: if the hub cannot be reached.
    """
    try:
        return open_encoder(source, layers=layers, window_seconds=window_seconds, precision=precision, device=device)
    except NarrowError as error:
        heard = f"layers {' '.join(map(str, layers))}" if layers else "the last layer"
        raise NarrowError(
            f"{made} the states of another encoder",
            has=error.has,
            where=source,
            expected=f"{heard} and a window of {window_seconds:g} s",
            found=error.has,
            hint="give the captioner that the store was extracted with",
        ) from error


def read_note(folder: Path) -> PluginNote | None:
    """What the folder of an encoder says of the plug-in that brings it; None where it has weights of its own.

    Raises:
        RequestError: if it cannot be read.
    """
    path = folder / NOTE
    try:
        return PluginNote.model_validate_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RequestError("what a model says of its encoder cannot be read", where=path, found=error) from error


def _noted(note: PluginNote, folder: Path, precision: Precision, device: str | None) -> PluggedEncoder:
    name, argument = name_and_argument(note.encoder)
    plugin = pick_plugin(name, GROUP)
    if plugin is None:
        raise RequestError(
            "this model hears an encoder that a plug-in brings, and the plug-in is not installed here",
            where=folder,
            expected=f"the encoder {name!r} of {note.distribution} {note.version}",
            found="no such plug-in",
            hint=f"pip install {note.package}, in this environment",
        )
    encoder = PluggedEncoder.of(plugin, argument, precision=precision, device=device)
    if encoder.digest != note.digest:
        raise RequestError(
            "the plug-in gives another encoder than the one that this model hears",
            where=folder,
            expected=f"{note.encoder} of {note.distribution} {note.version}, digest {note.digest[:16]}",
            found=f"{note.encoder} of {plugin.package}, digest {encoder.digest[:16]}",
            hint=f"pip install {note.package}, in this environment",
        )
    return encoder
