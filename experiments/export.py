"""The verb `export onnx`: a voice model as ONNX files, checked against the model before they count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.hub import fetch_from_hub, hub_address
from experiments.core import Experiment, console, resolve_source

if TYPE_CHECKING:
    import numpy as np

    from emonet.exporting import OnnxExport
    from experiments.arguments import ExportOnnxArguments


def onnx(arguments: ExportOnnxArguments) -> OnnxExport:
    """Write the files of a model.

    Raises:
        RequestError: if there is no such model, it cannot be exported, or the folder already exists.
        AudioError: if a recording cannot be used.
        EmonetError: if the files score otherwise than the model.
    """
    from emonet.exporting import export_onnx, nothing_but_onnx, require_onnx
    from emonet.inference import EmotionPipeline

    require_onnx()
    if arguments.out.exists() and not (arguments.force and nothing_but_onnx(arguments.out)):
        raise RequestError(
            "the folder already exists",
            where=arguments.out,
            hint="another folder, or --force, which replaces what this verb made and nothing else",
        )
    name, version = _named(arguments)
    pipeline = EmotionPipeline.from_folder(_folder(arguments), precision="float32", device="cpu")
    with console.progress("checking", "sounds") as progress:
        return export_onnx(
            pipeline,
            arguments.out,
            name=name,
            version=version,
            precision="int8" if arguments.int8 else "float32",
            sounds=_heard(arguments.sound, pipeline.encoder.window.seconds),
            progress=progress,
        )


def show_onnx(result: OnnxExport) -> None:
    """A few lines on stderr."""
    told, apart = result.description, result.differences
    sizes = ", ".join(f"{name} {file.size / 1e6:,.1f} MB" for name, file in result.files.items())
    which = f"{told.name} version {told.version}" if told.version else told.name
    console.say(f"{console.name(result.folder)}: {console.name(which)} in {told.precision}: {sizes}")
    console.say(
        f"  checked on {console.counted(apart.sounds, 'sound')}: scores differ from the model's in float32 by "
        f"{apart.largest:.2g} at most ({apart.target}) and {apart.mean:.2g} in the mean, on a scale of 0 to 4"
        f"; their uncertainties by {apart.uncertainties:.2g}; states by {apart.states:.2g} and unfamiliarity by "
        f"{apart.unfamiliarity:.2g} of theirs"
    )


def _named(arguments: ExportOnnxArguments) -> tuple[str, int | None]:
    """What the model is called, and its version where it is one of a registry."""
    if (address := hub_address(arguments.model)) is not None:
        return address[0], None
    if not arguments.model.startswith("models:/"):
        return Path(arguments.model).resolve().name, None
    from emonet.registry import named_version, version_of
    from emonet.tracking import default_uri

    name = arguments.model.removeprefix("models:/").partition("@")[0].partition("/")[0]
    which = named_version(arguments.model, name)
    return name, None if which is None else version_of(name, which, default_uri(arguments.runs)).version


def _folder(arguments: ExportOnnxArguments) -> Path:
    """Of the voice model."""
    if (address := hub_address(arguments.model)) is not None:
        return fetch_from_hub(*address, say=lambda text: console.say(console.name(text)))
    return Path(resolve_source(arguments.model, Experiment(runs=arguments.runs)))


def _heard(files: tuple[Path, ...], seconds: float) -> list[np.ndarray]:
    """The first window of each recording."""
    from emonet.audio import decode

    return [decode(file, seconds=seconds).samples for file in files]
