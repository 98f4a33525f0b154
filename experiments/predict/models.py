"""The model that sound is scored with: opened, and said which it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from experiments.core import Experiment, console, resolve_source, tell_version

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline
    from experiments.arguments import ModelArguments

DEFAULT_MODEL = "models:/emonet-voice@champion"


def open_pipeline(arguments: ModelArguments) -> EmotionPipeline:
    """The pipeline that the flags name.

    Raises:
        RequestError: if flags contradict each other, or there is no such model.
    """
    from emonet.inference import EmotionPipeline

    if arguments.experts is None:
        if arguments.encoder is not None:
            raise RequestError(
                "--encoder belongs to --experts: a registered model has its own", hint="--experts FOLDER"
            )
        return EmotionPipeline.from_folder(
            _model(arguments), experts_precision=arguments.experts_precision, device=arguments.device
        )
    if arguments.encoder is None:
        raise RequestError(
            "--experts needs the encoder that they were trained on",
            hint="--encoder laion/BUD-E-Whisper@REVISION for published experts, or a folder",
        )
    if arguments.model != DEFAULT_MODEL:
        raise RequestError("--model and --experts name two models", found=arguments.model, hint="give one of them")
    with console.progress("reading", "experts") as progress:
        return EmotionPipeline.from_experts(
            arguments.experts,
            resolve_source(arguments.encoder, Experiment(runs=arguments.runs)),
            experts_precision=arguments.experts_precision,
            device=arguments.device,
            progress=progress,
        )


def _model(arguments: ModelArguments) -> Path:
    """The model's local folder; says which model it is, and what should be known of it."""
    from emonet.hub import hub_address
    from emonet.registry import resolve
    from emonet.tracking import default_uri

    if (address := hub_address(arguments.model)) is not None:
        from emonet.hub import fetch_from_hub

        return fetch_from_hub(*address, say=lambda text: console.say(console.name(text)))
    if not arguments.model.startswith(("models:/", "runs:/")):
        return Path(arguments.model)
    folder = Path(resolve(arguments.model, default_uri(arguments.runs), arguments.runs))
    tell_version(arguments.model, arguments.runs)
    return folder
