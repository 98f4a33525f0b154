"""The command line `emonet VERB ...`: parses, calls the verb's `run`, prints the result."""

from __future__ import annotations

import json
import os
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from rich.markup import escape

from emonet.errors import EmonetError
from emonet.names import line_by_line
from emonet.runtime import signals
from experiments.arguments import (
    BenchmarkArguments,
    BenchmarkCorporaArguments,
    BenchmarkProtocolArguments,
    Common,
    CompareArguments,
    CorpusArguments,
    DashboardArguments,
    DemoArguments,
    ExperimentsArguments,
    ExpertsExportArguments,
    ExpertsImportArguments,
    ExportOnnxArguments,
    ExtractArguments,
    HeadsArguments,
    ListenArguments,
    PlanArguments,
    PredictArguments,
    PushArguments,
    RegistryArguments,
    RegistryPromoteArguments,
    RegistryPruneArguments,
    RegistryRollbackArguments,
    RegistryShowArguments,
    ServeArguments,
    StageArguments,
    StoreArguments,
    StoreCopyArguments,
    StoreExportArguments,
    StoreRepairArguments,
    StoreVerifyArguments,
    TargetsArguments,
    TimelineArguments,
    UiArguments,
    parse,
)
from experiments.cli.usage import HELP, shorter, split_verb, usage, with_section, with_truth_values
from experiments.core import console, load

SAFE_PATH = "PYTHONSAFEPATH"  # Python's own variable: no module is taken from the working folder
_KILLED = 128  # shells report a signal as its number above this


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Args:
        module: below `experiments`; its `show_FUNCTION` or `show`, if any, prints the result for people.
        arguments: the model of its flags.
        help: one line.
        function: of the module, which does the work.
        section: of the experiment, whose fields need no prefix.
        stopped: what a signal leaves, and how to go on.
        streams: writes its JSON itself, line by line.
    """

    module: str
    arguments: type[Common]
    help: str
    function: str = "run"
    section: str = ""
    stopped: str = "the same command starts again"
    streams: bool = False


VERBS: dict[str, Verb] = {
    "pretrain": Verb(
        "pretrain",
        StageArguments,
        "stage 1: train a Whisper that writes how the speaker feels",
        section="captioner",
        stopped="the last checkpoint is kept, if there is one, and the same command goes on from there",
    ),
    "extract": Verb(
        "extract",
        ExtractArguments,
        "the frozen encoder's states of every clip into the feature store",
        section="extraction",
        stopped="whole shards are kept, and the same command goes on from there",
    ),
    "heads": Verb(
        "heads",
        HeadsArguments,
        "stage 2: one expert per target, tested on unseen speakers, with a report",
        section="heads",
        stopped="what an earlier run made is kept (and finished folds of --folds), and the same command starts the "
        "training again",
    ),
    "sweep": Verb(
        "sweep",
        StageArguments,
        "search for better settings of the experts (or, --stage pretrain, of the captioner)",
        section="sweep",
        stopped="finished trials are kept, and the same command goes on from there",
    ),
    "plan": Verb(
        "plan",
        PlanArguments,
        "hours, disk, memory, network and money of each stage, before anything is begun",
    ),
    "predict": Verb(
        "predict", PredictArguments, "score recordings", stopped="nothing was written; the same command starts again"
    ),
    "timeline": Verb(
        "timeline",
        TimelineArguments,
        "who felt what when, in recordings of any length",
        stopped="scored segments are kept, and the same command goes on after them",
    ),
    "listen": Verb(
        "listen",
        ListenArguments,
        "score live sound: a microphone, a file at its own pace, standard input",
        stopped="rows that were appended are kept; the same command starts again",
        streams=True,
    ),
    "corpus": Verb("corpus", CorpusArguments, "report on a corpus"),
    "store info": Verb("store", StoreArguments, "tell what a feature store is made of", "info"),
    "store verify": Verb("store", StoreVerifyArguments, "check a feature store", "verify"),
    "store repair": Verb(
        "store",
        StoreRepairArguments,
        "extract only what is damaged again",
        "repair",
        stopped="repaired shards are kept, and the same command goes on from there",
    ),
    "store export": Verb("store", StoreExportArguments, "write the states as safetensors or .npy", "export"),
    "store copy": Verb(
        "store",
        StoreCopyArguments,
        "copy it, from and to disks and object stores",
        "copy",
        stopped="copied shards are kept, and the same command goes on from there",
    ),
    "experts import": Verb("experts", ExpertsImportArguments, "make a voice model of published experts", "import_"),
    "experts export": Verb("experts", ExpertsExportArguments, "write a model's experts as published ones", "export"),
    "export onnx": Verb(
        "export", ExportOnnxArguments, "write a model as ONNX files, which score without torch", "onnx"
    ),
    "serve": Verb("serve", ServeArguments, "serve a model over HTTP: scores, timelines, captions, streams, a page"),
    "demo": Verb("serve", DemoArguments, "the champion's page in the browser: drop, choose or record a voice", "demo"),
    "compare": Verb("compare", CompareArguments, "which of several models is better, on the same clips"),
    "benchmark run": Verb(
        "benchmark",
        BenchmarkArguments,
        "models and encoders through published protocols, on one page",
        stopped="finished protocols are kept, and the same command goes on after them",
    ),
    "benchmark robustness": Verb(
        "benchmark",
        BenchmarkProtocolArguments,
        "a plan's robustness alone: noise, rooms, lines, codecs",
        "robustness",
        stopped="scores of finished conditions are kept, and the same command goes on after them",
    ),
    "benchmark fairness": Verb(
        "benchmark",
        BenchmarkProtocolArguments,
        "a plan's fairness alone: speakers, genders, languages, lengths",
        "fairness",
        stopped="scores are kept, and the same command goes on after them",
    ),
    "benchmark corpora": Verb("benchmark", BenchmarkCorporaArguments, "list the corpora of EmoBox", "corpora"),
    "push": Verb(
        "push",
        PushArguments,
        "upload a model to the Hugging Face hub",
        stopped="nothing is seen on the hub before all is there; the same command starts again",
    ),
    "registry list": Verb("registry", RegistryArguments, "list the registered versions", "list_"),
    "registry show": Verb("registry", RegistryShowArguments, "tell all that is known of a version", "show"),
    "registry promote": Verb("registry", RegistryPromoteArguments, "make a version @champion by hand", "promote"),
    "registry rollback": Verb("registry", RegistryRollbackArguments, "undo the last promotion", "rollback"),
    "registry prune": Verb("registry", RegistryPruneArguments, "delete versions that nobody needs", "prune"),
    "ui": Verb("ui", UiArguments, "open MLflow's pages on 127.0.0.1"),
    "dashboard": Verb("dashboard", DashboardArguments, "open Optuna's pages on 127.0.0.1"),
    "targets": Verb("cli.listing", TargetsArguments, "list a set of targets", "targets"),
    "experiments": Verb("cli.listing", ExperimentsArguments, "list the shipped experiments", "experiments"),
}
_LINES = {name: verb.help for name, verb in VERBS.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        0 done, 1 the run failed, 2 the request was wrong, 128 + N ended by signal N (130 by Ctrl-C).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    console.plain_where_needed()
    if not arguments or arguments[0] in HELP:
        console.say(usage(_LINES))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from emonet import __version__

        console.say(f"emonet {__version__}")
        return 0
    with signals.heeded(), _own_modules_only():
        return _guarded(lambda: _run(arguments), debug="--debug" in arguments, stopped=_stopped(arguments))


@contextmanager
def _own_modules_only() -> Iterator[None]:
    """Whatever Python is started from here, by whomever, takes no module from the folder that the user works in."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        os.environ.pop(SAFE_PATH)
        if before is not None:
            os.environ[SAFE_PATH] = before


def _stopped(arguments: list[str]) -> str:
    names = (" ".join(arguments[:words]) for words in (2, 1))
    return next((VERBS[name].stopped for name in names if name in VERBS), Verb.stopped)


def _run(arguments: list[str]) -> int:
    name, rest = split_verb(arguments, _LINES)
    if name not in VERBS:  # the first word of two
        console.say(usage(_LINES, name))
        return 0 if HELP & set(rest) else 2
    verb = VERBS[name]
    parsed = _parse(name, rest)
    name, handed = _handed(verb, parsed)
    module = import_module(f"experiments.{name}")
    work = getattr(module, verb.function)
    result = work(*handed)
    if parsed.writes_json and not verb.streams:
        sys.stdout.write(_encodable(_as_json(result)) + "\n")
    elif show := getattr(module, f"show_{verb.function}", getattr(module, "show", None)):
        show(result)
    return int(getattr(result, "exit_code", 0))


def _handed(verb: Verb, parsed: Any) -> tuple[str, tuple[Any, ...]]:
    """A verb's module, and what it is called with: the experiment of a stage, and the flags of anything else."""
    if isinstance(parsed, HeadsArguments) and parsed.folds is not None:
        return "folds", (parsed.config, parsed.folds)
    if isinstance(parsed, HeadsArguments) and (parsed.config.heads.num_shards > 1 or parsed.config.heads.shard_index):
        return "parts", (parsed.config,)
    if isinstance(parsed, ExtractArguments) and parsed.array is not None:
        return "array", (parsed.config, parsed.array)
    if isinstance(parsed, PlanArguments):
        return verb.module, (parsed,)
    return verb.module, (parsed.config if isinstance(parsed, StageArguments) else parsed,)


def _parse(name: str, rest: list[str]) -> Any:
    verb, command = VERBS[name], f"emonet {name}"
    if not issubclass(verb.arguments, StageArguments):
        return parse(verb.arguments, command, rest)
    if verb.arguments is PlanArguments and rest and not rest[0].startswith("-"):
        rest = ["--experiment", *rest]  # emonet plan EXPERIMENT
    experiment = _experiment(rest)
    default = verb.arguments(experiment=experiment, config=load(experiment))
    description = verb.help
    if verb.section:
        rest, description = with_section(rest, verb.section), f"{description}\n\n{shorter(verb.section)}"
    elif verb.arguments is PlanArguments:
        description += "\n\nemonet plan EXPERIMENT means emonet plan --experiment EXPERIMENT."
    return parse(verb.arguments, command, with_truth_values(rest), default=default, description=description)


def _experiment(rest: Sequence[str]) -> str:
    """Which one `--experiment` names: the defaults of all other flags are its own."""
    flags = ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument(
        "--experiment", nargs="?", const="sandbox", default="sandbox"
    )  # tyro tells that a value is missing
    return str(flags.parse_known_args(rest)[0].experiment)


def _guarded(call: Callable[[], int], *, debug: bool, stopped: str = Verb.stopped) -> int:
    """Turn every failure into one clear message and an exit code; `debug` shows the traceback, too.

    Args:
        call: does the work.
        debug: show tracebacks.
        stopped: what a signal leaves, and how to go on.
    """
    try:
        return call()
    except BaseException as error:  # noqa: BLE001  # the last resort of a command line
        code = 1
        with suppress(KeyboardInterrupt), signals.shielded():  # the first signal is enough
            if debug and not isinstance(error, SystemExit | BrokenPipeError):
                traceback.print_exc()
            code = _say_stopped(stopped) if signals.ended_by_signal(error) else _say(error)
        return code


def _say_stopped(stopped: str) -> int:
    """Whatever went wrong once a signal had come, the signal is the reason."""
    number = signals.received() or signals.HEEDED[0]
    with suppress(OSError):  # a terminal that was closed
        console.say(f"[bold red]stopped[/] by {number.name}; {stopped}")
    return _KILLED + number


def _say(error: BaseException) -> int:
    if isinstance(error, EmonetError):
        console.say(f"[bold red]error:[/] {escape(str(error))}")
        return error.exit_code
    if isinstance(error, SystemExit) and not isinstance(error.code, str):  # 0 after --help, 2 after a wrong flag
        return error.code or 0
    if isinstance(error, BrokenPipeError):  # the reader of stdout went away, as in `emonet ... | head`
        sys.stderr.close()
        return 1
    console.say(
        f"[bold red]error:[/] {escape(type(error).__name__)}: {escape(line_by_line(error))}\n"
        "  try:      the same command with --debug shows where"
    )
    return 1


def _as_json(result: Any) -> str:
    if (document := getattr(result, "document", None)) is not None:  # in another form than ours
        return json.dumps(document, indent=2, ensure_ascii=False)
    if isinstance(result, BaseModel):
        return result.model_dump_json(indent=2)
    return json.dumps(result, indent=2, ensure_ascii=False)


def _encodable(text: str) -> str:
    r"""JSON for stdout: with `\u00e4` in place of characters where its encoding has none for them."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), indent=2)
    return text
