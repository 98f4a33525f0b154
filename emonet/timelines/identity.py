"""Identity of a timeline: a digest of the recording, the model and the options that its scores belong to."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import AudioError
from emonet.schema import digest
from emonet.segments import Segment
from emonet.timelines.options import TimelineOptions
from emonet.version import __version__

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline

_HEAD = 1 << 20  # bytes of a recording that are looked at
_VALUES = 4096  # of each weight of an expert


def timeline_key(
    pipeline: EmotionPipeline,
    audio: Path,
    options: TimelineOptions,
    segments: Sequence[Segment] | None = None,
    captioner: str = "",
) -> str:
    """What a journal's lines belong to.

    A recording is told by its size, its time of change and its first MiB: hours of sound are not read for it.

    Args:
        pipeline: the model; what it knows of itself (population, intervals) is in what its banks say.
        audio: the recording.
        options: how it is cut.
        segments: that are given; None where they are found.
        captioner: what tells the captioner's weights from others; empty without one.

    Raises:
        AudioError: if the recording cannot be opened, or is no file: a pipe can be heard but once.
    """
    try:
        there = audio.stat()
        if not stat.S_ISREG(there.st_mode):  # opening a pipe that nobody writes to never ends
            raise AudioError("not a file", where=audio)
        with audio.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD)).hexdigest()
    except OSError as error:
        raise AudioError("the recording cannot be opened", where=audio, found=error.strerror) from error
    return digest(
        {
            "emonet": __version__,
            "audio": [there.st_size, there.st_mtime_ns, head],
            "model": _model(pipeline),
            "options": options.model_dump(mode="json"),
            "segments": None if segments is None else [astuple(one) for one in segments],
            "captioner": captioner,
        }
    )


def _model(pipeline: EmotionPipeline) -> str:
    found = hashlib.sha256(f"{pipeline.encoder.digest} {pipeline.encoder.precision}".encode())
    for bank, info in pipeline.banks:
        found.update(info.model_dump_json().encode())
        for name, tensor in sorted(bank.state_dict().items()):
            values = tensor.flatten()[:_VALUES].float().cpu().numpy()
            found.update(f"{name} {list(tensor.shape)}".encode() + values.tobytes())
    if pipeline.calibration is not None:
        found.update(pipeline.calibration.model_dump_json().encode())
    for known in pipeline.familiarity:
        found.update(known.mean.tobytes() + known.components.tobytes() + known.scales.tobytes())
    return found.hexdigest()
