"""The verb `push`: a voice model on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.schema import Schema
from experiments.core import Experiment, console, resolve_source

if TYPE_CHECKING:
    from emonet.hub import Upload
    from experiments.arguments import PushArguments

_NO_LICENCE = (
    "the model's card names no licence of the weights; what may be done with them follows from the licences of its "
    "corpus and its encoder"
)


class PushResult(Schema):
    """What was uploaded, or would be."""

    model: str
    """Where the model came from."""
    repository: str
    """ORG/NAME."""
    revision: str
    """The branch."""
    commit: str | None
    """On the hub; null with `dry_run`."""
    licence: str | None
    """Of the weights, by its id on the hub; null where nobody says."""
    files: dict[str, int]
    """Path in the repository -> size (bytes)."""
    local_paths: tuple[str, ...]
    """Paths of this machine that the card tells everybody."""


def run(arguments: PushArguments) -> PushResult:
    """Upload a model; with `dry_run` only tell what would be.

    Raises:
        RequestError: if there is no such model, the name cannot be one, there is no token, it is not enough, or another
            model is there and stays.
        EmonetError: if the hub does not answer.
    """
    from emonet.hub import push

    upload = _prepared(arguments)
    commit = None
    if not arguments.dry_run:
        commit = push(
            upload,
            private=arguments.private,
            revision=arguments.revision,
            replace=lambda question: arguments.force or (console.can_ask() and console.agreed(question)),
            say=lambda text: console.say(console.name(text)),
        )
    return PushResult(
        model=arguments.model,
        repository=upload.name,
        revision=arguments.revision or "main",
        commit=commit,
        licence=upload.licence,
        files=upload.sizes,
        local_paths=tuple(upload.local_paths),
    )


def _prepared(arguments: PushArguments) -> Upload:
    """What is uploaded; where the model's card names no licence, somebody at the terminal is asked for it."""
    from emonet.hub import prepare
    from emonet.inference import voice_folder

    folder = voice_folder(Path(resolve_source(arguments.model, Experiment(runs=arguments.runs))))
    upload = prepare(folder, arguments.repository, arguments.licence)
    if upload.licence is None and not arguments.dry_run and console.can_ask():
        console.say(console.name(_NO_LICENCE))
        licence = console.answered("Licence of the weights (an id of the hub such as cc-by-4.0; empty: not stated)")
        upload = prepare(folder, arguments.repository, licence or None)
    return upload


def show(result: PushResult) -> None:
    """Where it is, what is there, and what should be known of its card."""
    size = sum(result.files.values()) / 1e6
    made = console.counted(len(result.files), "file")
    name = console.name(result.repository)
    if result.commit is None:
        console.say(f"would be uploaded to {name}, branch {console.name(result.revision)} ({made}, {size:,.1f} MB):")
        for path, count in result.files.items():
            console.say(f"  {count:>13,}  {console.name(path)}")
    else:
        console.say(f"{name}, branch {console.name(result.revision)}: {made}, {size:,.1f} MB, {result.commit[:12]}")
    if result.licence is None:
        console.say(f"[yellow]note[/] {_NO_LICENCE}: --licence names one")
    else:
        console.say(f"  licence: {console.name(result.licence)}")
    if result.local_paths:
        named = ", ".join(map(console.name, result.local_paths))
        console.say(f"[yellow]note[/] the card names paths of this machine, for everybody to read: {named}")
    if result.commit is not None:
        console.say(f'  EmotionPipeline.from_pretrained("{name}")')
