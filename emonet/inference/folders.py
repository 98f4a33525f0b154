"""A voice model's folder: encoder and experts assembled into one, checked to fit each other, and found again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from emonet.checkpoints import (
    INFO,
    ExpertsInfo,
    PublishedFolder,
    bank_folders,
    check_alike,
    check_banks,
    import_published,
    read_info,
)
from emonet.configs import Precision
from emonet.encoders import ReadyEncoder, open_encoder, open_heard
from emonet.errors import RequestError
from emonet.inference.onnx_files import MANIFEST
from emonet.registry import ENCODER, EXPERTS
from emonet.runtime import Progress, ignore, replacing

TRAINED_ON = "these experts were trained on"


def assemble(captioner: Path | str, experts: Path, folder: Path) -> Path:
    """Put an encoder and its experts into one folder that `EmotionPipeline.from_folder` loads; whole or not at all.

    Args:
        captioner: folder or hub id whose encoder the experts were trained on, or `plugin:NAME[:ARGUMENT]`.
        experts: folder that `save_bank` wrote, or with several such folders.
        folder: where to; replaced if it exists.

    Raises:
        RequestError: if the experts were trained on another encoder's states, or their files are damaged.
    """
    encoder = open_ready(str(captioner), read_info(bank_folders(experts)[0]), "float32")
    with replacing(folder) as partial:
        encoder.save(partial / ENCODER)
        shutil.copytree(experts, partial / EXPERTS, ignore=shutil.ignore_patterns("*.parquet"))  # no clips' scores
        # What does not fit is refused before anything is replaced; wide experts, of 295 MB each, are not loaded for it.
        check_fit(encoder, list(check_banks(partial / EXPERTS).values()))
    return folder


def assemble_published(
    captioner: Path | str, published: PublishedFolder, folder: Path, *, progress: Progress = ignore
) -> tuple[ExpertsInfo, ...]:
    """The same with published experts, of which no more than one is in memory at a time.

    Args:
        captioner: folder or hub id whose encoder the experts were trained on.
        published: opened before the encoder is loaded, or even fetched.
        folder: where to; replaced if it exists.
        progress: called with the number of experts written of one bank.

    Returns:
        What the banks hold.

    Raises:
        RequestError: if weights are not finite, or the encoder gives other states than the experts hear.
    """
    encoder = open_encoder(str(captioner), precision="float32")
    with replacing(folder) as partial:
        encoder.save(partial / ENCODER)
        return import_published(published, encoder, partial / EXPERTS, progress=progress)


def experts_of(folder: Path) -> Path:
    """The folder of experts within a voice model's, or `folder` itself where that is one.

    Raises:
        RequestError: if it holds neither.
    """
    several = any(folder.glob(f"*/{INFO}")) and not (folder / ENCODER).is_dir()
    return folder if several or (folder / INFO).is_file() else voice_folder(folder) / EXPERTS


def open_ready(
    encoder: str, info: ExpertsInfo, precision: Precision = "auto", device: str | None = None
) -> ReadyEncoder:
    """The encoder with the layers and the window that experts hear."""
    return open_heard(
        encoder,
        TRAINED_ON,
        layers=info.encoder_layers,
        window_seconds=info.window_seconds,
        precision=precision,
        device=device,
    )


def check_fit(encoder: ReadyEncoder, infos: Sequence[ExpertsInfo]) -> None:
    """Experts hear this encoder's states, and each other's targets are not theirs.

    Raises:
        RequestError: if they were trained on another encoder's states, or are not alike.
    """
    other = next((info.encoder_digest for info in infos if info.encoder_digest != encoder.digest), None)
    if other is not None:
        raise RequestError(
            f"{TRAINED_ON} the states of another encoder",
            expected=f"encoder weights {other[:16]}",
            found=f"encoder weights {encoder.digest[:16]}",
            hint="give the captioner that the store was extracted with",
        )
    check_alike(infos)


def voice_folder(folder: Path) -> Path:
    """The voice model's folder itself, which a registered version holds one storey below.

    Raises:
        RequestError: if the folder holds no voice model.
    """
    for candidate in (folder, *sorted((folder / "data").glob("*"))):  # MLflow keeps the name of what was registered
        if (candidate / ENCODER).is_dir() and (candidate / EXPERTS).is_dir():
            return candidate
    exported = (folder / MANIFEST).is_file()
    raise RequestError(
        "this folder holds a model that was exported to ONNX" if exported else "this folder holds no voice model",
        where=folder,
        expected=f"the folders {ENCODER}/ and {EXPERTS}/",
        found=", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder",
        hint="EmotionPipeline.from_onnx opens it; here give the model that it was made of"
        if exported
        else "emonet heads trains one; its folder is runs/EXPERIMENT/voice",
    )
