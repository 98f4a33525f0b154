"""The folder of a model that was exported to ONNX: its files, what they are, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError

from emonet.checkpoints import Calibration, Intervals, Population
from emonet.errors import RequestError, raise_collected
from emonet.schema import Schema
from emonet.targets import TargetSpec
from emonet.windows import Window

MANIFEST = "onnx.json"
ENCODER_FILE, EXPERTS_FILE = "encoder.onnx", "experts.onnx"
METADATA = "emonet"
"""Key of the description among the metadata of each ONNX file."""
FORMAT = 1
UNITS = {
    "waveforms": "16 kHz mono, full scale at -1 and 1, cut or padded with zeros at the end to the window",
    "states": "rounded to float16",
    "speech_frames": "states of a window that hear the sound (count): its share of the window, rounded up, at least 1",
    "scores": "each on its target's scale, low to high; before calibration, where there is one",
    "spread": "unbiased deviation over the experts of a target; times its factor (intervals) half of the interval",
    "unfamiliarity": "1 is as far from the training clips as 99 % of validation clips reach",
    "medians, deviations": "of the training clips' scores: a standard score is (score - median) / deviation",
}
_AGAIN = "emonet export onnx MODEL FOLDER makes it again"
_BLOCK = 1 << 20  # bytes


class OnnxDescription(Schema):
    """What the ONNX files of a folder are; it stands in the metadata of each of them, too."""

    format_version: Literal[1] = 1
    """Of this description (count)."""
    emonet_version: str
    """That wrote the files."""
    name: str
    """Of the model: the registered one, or its folder's."""
    version: PositiveInt | None = None
    """In the registry; none where the model was no version of one."""
    precision: Literal["float32", "int8"]
    """Of the products of linear layers with their weights."""
    sample_rate: Literal[16000] = 16000
    """Of waveforms (Hz)."""
    window_seconds: float = Field(gt=0)
    """Audio that the encoder hears (seconds)."""
    frames: PositiveInt
    """States of a window (count)."""
    width: PositiveInt
    """Values of a state (count)."""
    layers: tuple[PositiveInt, ...]
    """Of the encoder, counted from 1, whose states stand side by side."""
    encoder_digest: str
    """SHA-256 of the encoder's weights and settings, before they were exported."""
    targets: list[dict[str, Any]]
    """What is scored, in the order of the outputs: id, name, low, high and meaning."""
    population: Population | None = None
    """Medians and deviations of the training clips' scores, for standard scores."""
    intervals: Intervals | None = None
    """What the spread is multiplied with, by target; none without ensembles."""
    calibration: Calibration | None = None
    """What becomes of scores: curves by target, drawn as straight lines between knots."""
    units: dict[str, str] = Field(default_factory=UNITS.copy)
    """Of inputs and outputs, in words."""

    @property
    def target_spec(self) -> TargetSpec:
        """What is scored."""
        return TargetSpec.from_json(self.targets)

    @property
    def window(self) -> Window:
        """What the encoder hears."""
        return Window(self.window_seconds)

    @property
    def digest(self) -> str:
        """Of the encoder."""
        return self.encoder_digest


class OnnxFile(Schema):
    """One file of the export."""

    size: PositiveInt
    """Of the file (bytes)."""
    sha256: str
    """Of its content, in hex."""

    @classmethod
    def of(cls, path: Path) -> OnnxFile:
        """Measure a file."""
        found = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
        return cls(size=path.stat().st_size, sha256=found.hexdigest())


class OnnxManifest(Schema):
    """`onnx.json`: what the model is, and by what each file is known."""

    description: OnnxDescription
    """Of the model."""
    files: dict[str, OnnxFile]
    """By name."""

    def write(self, folder: Path) -> None:
        """Write it into the folder of the files."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n", "utf-8")


def read_manifest(folder: Path) -> OnnxManifest:
    """The manifest of a folder whose files are all there, whole and unchanged.

    Raises:
        RequestError: if the folder holds no export, or one that is damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text("utf-8"))
        _check_version(content, path)
        found = OnnxManifest.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(
            "there is no exported model here",
            where=folder,
            expected=f"{MANIFEST}, {ENCODER_FILE} and {EXPERTS_FILE}",
            found=", ".join(sorted(one.name for one in folder.iterdir())[:8]) if folder.is_dir() else "no such folder",
            hint="emonet export onnx MODEL FOLDER makes one",
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RequestError(
            "the description of the exported model cannot be read", where=path, found=error, hint=_AGAIN
        ) from error
    problems = [
        problem
        for name in (ENCODER_FILE, EXPERTS_FILE)
        if name not in found.files
        for problem in [f"{name} is not listed"]
    ]
    problems += [problem for name, file in found.files.items() if (problem := _problem(folder / name, file))]
    raise_collected("the exported model is damaged", problems, where=folder, hint=_AGAIN)
    return found


def _check_version(content: Any, path: Path) -> None:
    description = content.get("description") if isinstance(content, dict) else None
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT:
        written = description.get("emonet_version") if isinstance(description, dict) else None
        raise RequestError(
            "the exported model is of another version" if version else "the exported model does not say its version",
            where=path,
            expected=f"format_version {FORMAT}",
            found=f"format_version {version}, written by emonet {written}" if version else "none",
            hint=_AGAIN,
        )


def _problem(path: Path, known: OnnxFile) -> str | None:
    """What is wrong with a file, if anything is."""
    if not path.is_file():
        return f"{path.name} is not there"
    size = path.stat().st_size
    if size != known.size:
        return f"{path.name} has {size:,} bytes, not {known.size:,}"
    return None if OnnxFile.of(path) == known else f"{path.name} has other content than when it was written"
