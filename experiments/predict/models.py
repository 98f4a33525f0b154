"""The model that sound is scored with: opened, and said which it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from experiments.core import Experiment, console, resolve_source

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


def tell_version(model: str, runs: Path) -> None:
    """Say which version `@champion` or `@candidate` is, and what should be known of it; nothing of other models.

    Args:
        model: as it was asked for.
        runs: folder with the embedded registry.
    """
    from emonet.registry import CANDIDATE, CHAMPION, PUBLISHED, VOICE, find_version
    from emonet.tracking import default_uri

    if not model.startswith(f"models:/{VOICE}@"):
        return
    uri = default_uri(runs)
    champion, candidate = find_version(VOICE, CHAMPION, uri), find_version(VOICE, CANDIDATE, uri)
    used = {f"models:/{VOICE}@{alias}": v for alias, v in ((CHAMPION, champion), (CANDIDATE, candidate))}
    version = used.get(model)
    if version is not None:
        origin = (
            "imported from published files"
            if version.experiment == PUBLISHED
            else (f"trained by the experiment {console.name(repr(version.experiment))}")
        )
        console.say(f"model: {VOICE} version {version.version}, {origin}")
        if version.experiment == "sandbox":
            console.say("note: it was trained on synthetic voices; its scores of human voices mean nothing")
    if version is champion is not None and candidate is not None and candidate != champion:
        console.say(
            f"note: version {candidate.version} ({console.name(repr(candidate.experiment))}) is newer; "
            f"to use it: --model models:/{VOICE}@{CANDIDATE}"
        )
