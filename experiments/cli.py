"""`emonet VERB ...`: parses, calls the verb's `run`, prints the result; the only module that imports tyro."""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import BaseModel, Field, ValidationError
from rich.markup import escape

from emonet.clips import Split
from emonet.errors import EmonetError
from emonet.schema import Schema
from experiments import console
from experiments.config import Experiment, load, refuse_flags
from experiments.usage import HELP, shorter, split_verb, usage, with_section

INTERRUPTED = 130  # what shells report for Ctrl-C


class Common(Schema):
    """Flags that every verb has."""

    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Write the result to stdout as JSON, and nothing else."""
    debug: bool = False
    """Show the traceback of an error."""


class StageArguments(Common):
    """Flags of the stages: which experiment, and any of its fields."""

    experiment: str = "sandbox"
    """A shipped experiment (see `emonet experiments`) or a YAML file."""
    config: Annotated[Experiment, tyro.conf.arg(name="")] = Experiment()
    """Fields of the experiment."""


class CorpusArguments(Common):
    """Report on a corpus: clips, hours, speakers, languages, rated emotions, rejected clips with reasons."""

    spec: tyro.conf.Positional[str]
    """sandbox, ravdess:PATH, emodb:PATH or manifest:FILE, joined with +."""
    runs: Path = Path("runs")
    """Folder below which synthesised corpora are kept."""


class StoreArguments(Common):
    """Tell what a feature store is made of: corpus, encoder, shape, codec, sizes, splits, errors of a lossy codec."""

    store: tyro.conf.Positional[Path]
    """The folder NAME.zarr."""


class StoreVerifyArguments(StoreArguments):
    """Check a feature store: record, markers, shards and table; with --deep every chunk."""

    deep: bool = False
    """Read every chunk back."""


class StoreRepairArguments(StoreArguments):
    """Make a feature store whole: every chunk is read, and only the shards that are damaged are extracted again."""

    corpus: str | None = None
    """The corpus, where it lies elsewhere now; by default as the store's record says."""
    captioner: str | None = None
    """Whose encoder, where it lies elsewhere now; by default as the store's record says."""
    runs: Path = Path("runs")
    """Folder with synthesised corpora and the embedded registry."""


class StoreExportArguments(StoreArguments):
    """Write the states and the table of a feature store for other programs."""

    out: tyro.conf.Positional[Path]
    """The folder to make."""
    format: Literal["safetensors", "npy"] = "safetensors"
    """Several safetensors files, or one memory-mappable states.npy."""
    split: Split | None = None
    """Only clips of this split; by default all."""
    force: bool = False
    """Replace an export that is there already."""


class PredictArguments(Common):
    """Score recordings: emotions from 0 to 4 for each file, strongest first, and what else the experts score."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files, or folders that are searched for them."""
    model: str = "models:/emonet-voice@champion"
    """A registry URI, or a folder that `emonet heads` or `emonet experts import` made."""
    experts: Path | None = None
    """Instead of a model: a folder of published experts (model_NAME_best.pth), or of our own; needs --encoder."""
    encoder: str | None = None
    """Of --experts: folder, hub id or registry URI of the captioner whose encoder they were trained on."""
    experts_precision: Literal["float32", "bf16", "int8"] = "float32"
    """How experts on flattened states are held: bf16 and int8 need a half and a quarter of the memory."""
    csv: Path | None = None
    """Write one row per file to this CSV file."""
    plot: Path | None = None
    """Draw the strongest emotions of each file into this PNG file."""
    top: int = Field(10, ge=1)
    """Emotions shown per file (count)."""
    batch_size: int = Field(8, ge=1)
    """Files per pass through the model (count)."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class ExpertsImportArguments(Common):
    """Make a voice model of published experts (a folder of model_NAME_best.pth) and the encoder that they hear."""

    folder: tyro.conf.Positional[Path]
    """The folder of model_NAME_best.pth; some of the published experts are enough."""
    out: tyro.conf.Positional[Path]
    """The folder to make: `emonet predict --model OUT` uses it."""
    encoder: str
    """Folder, hub id or registry URI of the captioner whose encoder they were trained on (laion/BUD-E-Whisper)."""
    registered: Annotated[bool, tyro.conf.arg(name="register")] = False
    """Register it as a version of emonet-voice, too; the registry keeps a copy of its own."""
    force: bool = False
    """Replace OUT if it is there already."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class ExpertsExportArguments(Common):
    """Write a model's experts as published ones: one model_NAME_best.pth each, a float32 state dict."""

    model: tyro.conf.Positional[str]
    """A registry URI, a voice model's folder or a folder of experts."""
    out: tyro.conf.Positional[Path]
    """The folder to make."""
    force: bool = False
    """Replace OUT if it is there already."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class UiArguments(Common):
    """Open MLflow's pages on 127.0.0.1: runs, curves, artefacts, registered models."""

    port: int = Field(5000, ge=1, le=65535)
    """Port to listen on."""
    runs: Path = Path("runs")
    """Folder with the embedded tracking database."""


class TargetsArguments(Common):
    """List the 40 emotions: id, published name, terms."""


class ExperimentsArguments(Common):
    """List the experiments that come with emonet."""


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Args:
        module: below `experiments`; its `show_FUNCTION` or `show`, if any, prints the result for people.
        arguments: the model of its flags.
        help: one line.
        function: of the module, which does the work.
        section: of the experiment, whose fields need no prefix.
    """

    module: str
    arguments: type[Common]
    help: str
    function: str = "run"
    section: str = ""


VERBS: dict[str, Verb] = {
    "pretrain": Verb(
        "pretrain",
        StageArguments,
        "stage 1: train a Whisper that writes how the speaker feels",
        section="captioner",
    ),
    "extract": Verb(
        "extract",
        StageArguments,
        "the frozen encoder's states of every clip into the feature store",
        section="extraction",
    ),
    "heads": Verb(
        "heads",
        StageArguments,
        "stage 2: one expert per emotion, tested on unseen speakers, with a report",
        section="heads",
    ),
    "predict": Verb("predict", PredictArguments, "score recordings"),
    "corpus": Verb("corpus", CorpusArguments, "report on a corpus"),
    "store info": Verb("store", StoreArguments, "tell what a feature store is made of", "info"),
    "store verify": Verb("store", StoreVerifyArguments, "check a feature store", "verify"),
    "store repair": Verb("store", StoreRepairArguments, "extract only what is damaged again", "repair"),
    "store export": Verb("store", StoreExportArguments, "write the states as safetensors or .npy", "export"),
    "store compare-codecs": Verb(
        "codecs", StageArguments, "what each codec tier saves, and costs the experts", section="heads"
    ),
    "experts import": Verb("experts", ExpertsImportArguments, "make a voice model of published experts", "import_"),
    "experts export": Verb("experts", ExpertsExportArguments, "write a model's experts as published ones", "export"),
    "ui": Verb("ui", UiArguments, "open MLflow's pages on 127.0.0.1"),
    "targets": Verb("listing", TargetsArguments, "list the 40 emotions", "targets"),
    "experiments": Verb("listing", ExperimentsArguments, "list the shipped experiments", "experiments"),
}
_LINES = {name: verb.help for name, verb in VERBS.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in HELP:
        console.say(usage(_LINES))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from emonet import __version__

        console.say(f"emonet {__version__}")
        return 0
    return _guarded(lambda: _run(arguments), debug="--debug" in arguments)


def _run(arguments: list[str]) -> int:
    name, rest = split_verb(arguments, _LINES)
    if name not in VERBS:  # the first word of two
        console.say(usage(_LINES, name))
        return 0 if HELP & set(rest) else 2
    verb = VERBS[name]
    parsed = _parse(name, rest)
    module = import_module(f"experiments.{verb.module}")
    work = getattr(module, verb.function)
    result = work(parsed.config if isinstance(parsed, StageArguments) else parsed)
    if parsed.json_output:
        sys.stdout.write(_as_json(result) + "\n")
    elif show := getattr(module, f"show_{verb.function}", getattr(module, "show", None)):
        show(result)
    return int(getattr(result, "exit_code", 0))


def _parse(name: str, rest: list[str]) -> Any:
    verb, options = VERBS[name], {"prog": f"emonet {name}", "config": (tyro.conf.FlagCreatePairsOff,)}
    if verb.arguments is not StageArguments:
        return _parsed(verb.arguments, args=rest, **options)
    experiment = _value_of("--experiment", rest) or "sandbox"
    default = StageArguments(experiment=experiment, config=load(experiment))
    description = verb.help
    if verb.section:
        rest, description = with_section(rest, verb.section), f"{description}\n\n{shorter(verb.section)}"
    return _parsed(StageArguments, args=rest, default=default, description=description, **options)


def _parsed(arguments: type[Common], **options: Any) -> Any:
    """What tyro makes of the command line; values that a model refuses are told in our own words."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            return tyro.cli(arguments, **options)
        except (SystemExit, ValidationError) as stopped:
            error: BaseException | None = stopped
    while error is not None and not isinstance(error, ValidationError):
        error = error.__context__
    if error is not None:
        refuse_flags(error, options["prog"])
    return tyro.cli(arguments, **options)  # once more, to be heard: help, and flags that it cannot read


def _value_of(flag: str, rest: Sequence[str]) -> str | None:
    for position, argument in enumerate(rest):
        if argument == flag and position + 1 < len(rest):
            return rest[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def _guarded(call: Callable[[], int], *, debug: bool) -> int:
    """Turn every failure into one clear message and an exit code; `debug` shows the traceback, too."""
    try:
        return call()
    except EmonetError as error:
        if debug:
            traceback.print_exc()
        console.say(f"[bold red]error:[/] {escape(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        console.say("[bold red]stopped[/]; what was finished is kept, and the same command goes on from there")
        return INTERRUPTED
    except SystemExit as stop:  # tyro and argparse: 0 after --help, 2 after a wrong flag
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader of stdout went away, as in `emonet ... | head`
        sys.stderr.close()
        return 1
    except Exception as error:  # noqa: BLE001  # the last resort of a command line
        if debug:
            traceback.print_exc()
        console.say(
            f"[bold red]error:[/] {escape(type(error).__name__)}: {escape(str(error))}\n"
            "  try:      the same command with --debug shows where"
        )
        return 1


def _as_json(result: Any) -> str:
    if isinstance(result, BaseModel):
        return result.model_dump_json(indent=2)
    return json.dumps(result, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
