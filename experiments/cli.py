"""`emonet VERB ...`: parses, calls the verb's `run`, prints the result; the only module that imports tyro."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import BaseModel, Field, ValidationError
from rich.markup import escape

from emonet.errors import EmonetError
from emonet.schema import Schema
from experiments import console
from experiments.config import Experiment, load, refuse

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


class VerifyArguments(Common):
    """Check a feature store: record, markers, shards and table; with --deep every chunk."""

    store: tyro.conf.Positional[Path]
    """The folder NAME.zarr."""
    deep: bool = False
    """Read every chunk back."""


class PredictArguments(Common):
    """Score recordings: 40 emotions from 0 to 4 for each file, strongest first."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files, or folders that are searched for them."""
    model: str = "models:/emonet-voice@champion"
    """A registry URI, or a folder that `emonet heads` made."""
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
        module: below `experiments`; its `show`, if any, prints the result for people.
        arguments: the model of its flags.
        help: one line.
        function: of the module, which does the work.
    """

    module: str
    arguments: type[Common]
    help: str
    function: str = "run"


VERBS: dict[str, Verb] = {
    "pretrain": Verb("pretrain", StageArguments, "stage 1: train a Whisper that writes how the speaker feels"),
    "extract": Verb("extract", StageArguments, "the frozen encoder's states of every clip into the feature store"),
    "heads": Verb("heads", StageArguments, "stage 2: one expert per emotion, tested on unseen speakers, with a report"),
    "predict": Verb("predict", PredictArguments, "score recordings"),
    "corpus": Verb("corpus", CorpusArguments, "report on a corpus"),
    "verify": Verb("verify", VerifyArguments, "check a feature store"),
    "ui": Verb("ui", UiArguments, "open MLflow's pages on 127.0.0.1"),
    "targets": Verb("listing", TargetsArguments, "list the 40 emotions", "targets"),
    "experiments": Verb("listing", ExperimentsArguments, "list the shipped experiments", "experiments"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        console.say(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from emonet import __version__

        console.say(f"emonet {__version__}")
        return 0
    return _guarded(lambda: _run(arguments[0], arguments[1:]), debug="--debug" in arguments)


def _run(name: str, rest: list[str]) -> int:
    if name not in VERBS:
        raise SystemExit(_unknown(name))
    verb = VERBS[name]
    parsed = _parse(name, verb.arguments, rest)
    module = import_module(f"experiments.{verb.module}")
    work = getattr(module, verb.function)
    result = work(parsed.config if isinstance(parsed, StageArguments) else parsed)
    if parsed.json_output:
        sys.stdout.write(_as_json(result) + "\n")
    elif hasattr(module, "show"):
        module.show(result)
    return int(getattr(result, "exit_code", 0))


def _parse(name: str, arguments: type[Common], rest: list[str]) -> Any:
    prog = f"emonet {name}"
    marks = (tyro.conf.FlagCreatePairsOff,)
    if arguments is StageArguments:
        experiment = _value_of("--experiment", rest) or "sandbox"
        default = StageArguments(experiment=experiment, config=load(experiment))
        try:
            return tyro.cli(
                arguments, args=rest, default=default, prog=prog, description=VERBS[name].help, config=marks
            )
        except ValidationError as error:
            refuse(error, where="the command line")
    return tyro.cli(arguments, args=rest, prog=prog, config=marks)


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


def _usage() -> str:
    rows = "\n".join(f"  [bold]{name:<12}[/]{verb.help}" for name, verb in VERBS.items())
    return (
        "usage: emonet VERB [--experiment NAME|FILE] [--section.field value ...] [--json] [--debug]\n\n"
        f"{rows}\n\n`emonet VERB --help` lists a verb's flags; docs/ and README.md explain."
    )


def _unknown(name: str) -> int:
    import difflib

    near = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"emonet {near[0]}" if near else "emonet --help"
    console.say(
        f"[bold red]error:[/] there is no verb {escape(repr(name))}\n  expected: {', '.join(VERBS)}\n  try:      {hint}"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
