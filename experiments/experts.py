"""The verbs `experts import` and `experts export`: published experts in, and out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.schema import Registered, Schema
from emonet.targets import ATTRIBUTES, EMOTIONS, QUALITY
from emonet.tracking import ARTIFACTS
from experiments.core import Experiment, console, resolve_source

if TYPE_CHECKING:
    from emonet.checkpoints import ExpertsInfo
    from emonet.registry import CardFacts
    from experiments.arguments import ExpertsExportArguments, ExpertsImportArguments


class ImportResult(Schema):
    """What `emonet experts import` made."""

    folder: Path
    """Of the voice model."""
    source: Path
    """Of the published experts."""
    encoder: str
    """Where its encoder came from."""
    encoder_digest: str
    """SHA-256 of the encoder's weights."""
    targets: tuple[str, ...]
    """Ids of the targets that there is an expert for."""
    absent: tuple[str, ...]
    """Ids of the emotions without an expert."""
    registered: Registered | None
    """The version of `emonet-voice`, where one was asked for."""


class ExportResult(Schema):
    """What `emonet experts export` wrote."""

    model: str
    """Where the experts came from."""
    folder: Path
    """Of the published layout."""
    files: tuple[Path, ...]
    """One for each expert."""
    calibrated: bool
    """Whether the model calibrates its scores, which the published layout has no place for."""


def import_(arguments: ExpertsImportArguments) -> ImportResult:
    """Write published experts and their encoder as a voice model.

    Raises:
        RequestError: if files are unusable, the encoder does not fit them, or the folder already exists.
    """
    from emonet.checkpoints import open_published
    from emonet.inference import assemble_published
    from emonet.registry import PUBLISHED, write_card
    from emonet.tracking import default_uri, require_experiment

    _check_place(arguments.out, replace=arguments.force and _nothing_but_voice(arguments.out))
    published = open_published(arguments.folder)
    if arguments.registered:
        require_experiment(default_uri(arguments.runs), PUBLISHED, arguments.runs / ARTIFACTS)
    source = resolve_source(arguments.encoder, Experiment(runs=arguments.runs))
    with console.progress("reading", "experts") as progress:
        infos = assemble_published(source, published, arguments.out, progress=progress)
    targets = tuple(target for info in infos for target in info.target_spec.ids)
    facts = _facts(arguments.encoder, infos)
    write_card(arguments.out, facts)
    return ImportResult(
        folder=arguments.out,
        source=arguments.folder,
        encoder=arguments.encoder,
        encoder_digest=infos[0].encoder_digest,
        targets=targets,
        absent=tuple(target for target in published.absent if target in EMOTIONS.ids),
        registered=_register(arguments, facts) if arguments.registered else None,
    )


def show_import_(result: ImportResult) -> None:
    """A few lines on stderr."""
    groups = {"emotion": EMOTIONS, "attribute": ATTRIBUTES, "quality score": QUALITY}
    counts = {name: sum(target in spec.ids for target in result.targets) for name, spec in groups.items()}
    found = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)
    console.say(f"{console.name(result.folder)}: experts for {found}, encoder {result.encoder_digest[:12]}")
    if result.absent:
        console.say(f"  no expert for {len(result.absent)} of {len(EMOTIONS)} emotions: {', '.join(result.absent)}")
    if result.registered is not None:
        console.say(f"  registered as {result.registered.name} version {result.registered.version}")


def export(arguments: ExpertsExportArguments) -> ExportResult:
    """Write a model's experts in the published layout; their scores are not calibrated then.

    Raises:
        RequestError: if there is no such model, its experts have no published form, or the folder already exists.
    """
    from emonet.checkpoints import export_published, nothing_but_published, read_calibration
    from emonet.inference import experts_of

    _check_place(arguments.out, replace=arguments.force and nothing_but_published(arguments.out))
    model = Path(resolve_source(arguments.model, Experiment(runs=arguments.runs)))
    experts = experts_of(model)
    calibrated = read_calibration(experts) is not None
    with console.progress("writing", "experts") as progress:
        files = export_published(experts, arguments.out, progress=progress)
    return ExportResult(model=arguments.model, folder=arguments.out, files=files, calibrated=calibrated)


def show_export(result: ExportResult) -> None:
    """One line on stderr."""
    size = sum(path.stat().st_size for path in result.files) / 1e6
    first = console.name(result.files[0].name)
    console.say(f"{console.name(result.folder)}: {len(result.files)} experts ({size:,.1f} MB), such as {first}")
    if result.calibrated:
        console.say(
            "  the model's calibration is left out: published experts have none, and score as they were trained"
        )


def _nothing_but_voice(folder: Path) -> bool:
    """Whether all that a folder holds is what `import_` writes: an encoder, experts with their description, a card."""
    from emonet.checkpoints import INFO
    from emonet.registry import CARD, ENCODER, EXPERTS

    entries = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return entries - {CARD} == {ENCODER, EXPERTS} and any((folder / EXPERTS).rglob(INFO))


def _check_place(out: Path, *, replace: bool) -> None:
    if out.exists() and not replace:
        raise RequestError(
            "the folder already exists",
            where=out,
            hint="another folder, or --force, which replaces what this verb made and nothing else",
        )


def _facts(encoder: str, infos: tuple[ExpertsInfo, ...]) -> CardFacts:
    """What is known of published experts: not what they were trained on."""
    from emonet.checkpoints import LICENCE
    from emonet.registry import CardFacts
    from emonet.targets import TargetSpec

    return CardFacts(
        name="emonet-voice, published experts",
        origin="published",
        targets=TargetSpec(tuple(target for info in infos for target in info.target_spec)),
        window_seconds=infos[0].window_seconds,
        encoder=encoder,
        encoder_digest=infos[0].encoder_digest,
        licence=f"{LICENCE}, if the experts are EmoNet-Voice's: name their authors.",
    )


def _register(arguments: ExpertsImportArguments, facts: CardFacts) -> Registered:
    from emonet.registry import PUBLISHED, register_voice, summary
    from emonet.tracking import default_uri, start_run

    tags = {
        "source": PUBLISHED,
        "encoder": arguments.encoder,
        "encoder_digest": facts.encoder_digest,
        "licence": facts.licence.removesuffix("."),
    }
    with start_run(
        default_uri(arguments.runs),
        experiment=PUBLISHED,
        name="experts import",
        artifacts=arguments.runs / ARTIFACTS,
        config={"folder": str(arguments.folder), "encoder": arguments.encoder, "experts": len(facts.targets)},
        tags=tags,
    ) as run:
        return register_voice(run, arguments.out, facts.targets.ids, {}, tags, summary(facts))
