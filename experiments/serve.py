"""The verb `serve`: MLflow's scoring server with a registered model, on this machine only."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import EmonetError, RequestError
from emonet.schema import Schema
from experiments.core import check_port, console, serve_until_interrupted

if TYPE_CHECKING:
    from experiments.arguments import ServeArguments

_HEEDS = (Path("sources.py"), Path("serving", "sources.py"))  # in the code of versions that have settings: then and now
_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}


class ServeResult(Schema):
    """What was served."""

    address: str
    """Where it listened."""
    model: str
    """As it was asked for."""
    folder: Path
    """Of the model as MLflow logged it."""


def run(arguments: ServeArguments) -> ServeResult:
    """Serve until Ctrl-C.

    Raises:
        RequestError: if the port is taken, there is no such model, its files are not found, a folder or host that is to
            be allowed is none, or the model is too old for what was asked.
        EmonetError: if the server stops by itself.
    """
    from emonet.registry import resolve
    from emonet.tracking import default_uri

    check_port(arguments.port, f"another port: emonet serve --port {arguments.port + 1}")
    environment = _settings(arguments)
    folder = Path(resolve(arguments.model, default_uri(arguments.runs), arguments.runs)).resolve()
    _check_model(folder, environment)
    address = f"http://127.0.0.1:{arguments.port}"
    console.say(f"{console.name(arguments.model)} is loaded; this takes some seconds")
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder), "--host", "127.0.0.1",
        "--port", str(arguments.port), "--timeout", str(arguments.timeout), "--env-manager", arguments.env_manager,
    ]  # fmt: skip
    # mlflow starts uvicorn by its name, and nobody need have activated the environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        serve_until_interrupted(
            command,
            address=address,
            environment={**environment, "PATH": path, **_QUIET},
            name="MLflow's scoring",
            hint="what it said is above",
            ready=("/ping", lambda: _say_ready(arguments, address)),
        )
    except EmonetError:
        _explain(folder, arguments)
        raise
    return ServeResult(address=address, model=arguments.model, folder=folder)


def _settings(arguments: ServeArguments) -> dict[str, str]:
    """What the model reads in its environment; only what differs from its defaults."""
    from emonet.serving import EXPERTS_PRECISION, sources

    rules = sources.SourceRules.read(
        {"allow_paths": arguments.allow_paths, "allow_urls": arguments.allow_urls}, environment={}
    )
    wanted = {
        EXPERTS_PRECISION: arguments.experts_precision if arguments.experts_precision != "float32" else "",
        sources.ALLOW_PATHS: str(rules.paths) if rules.paths != "any" else "",
        sources.ALLOW_URLS: ",".join(arguments.allow_urls),
    }
    return {key: value for key, value in wanted.items() if value}


def _check_model(folder: Path, environment: dict[str, str]) -> None:
    if not (folder / "MLmodel").is_file():
        raise RequestError(
            "this is no model that MLflow can serve",
            where=folder,
            expected="a registered version: its folder has a file MLmodel",
            found="no such folder" if not folder.is_dir() else None,
            hint="emonet registry list shows the versions; emonet predict --model takes other folders, too",
        )
    # A version runs the code that it was logged with; an older one would not heed what it does not know.
    own = folder / "code" / "emonet"
    if environment and not any((own / place).is_file() for place in _HEEDS):
        raise RequestError(
            "this version was registered by an older emonet, whose server has no such settings",
            where=folder,
            found=", ".join(sorted(environment)),
            hint="train or import the model again, or serve it without --allow-... and --experts-precision",
        )


def _explain(folder: Path, arguments: ServeArguments) -> None:
    """Why a server stopped, in our words if it is the model: what it wrote itself are pages of other programs' calls.

    Raises:
        RequestError: if the model cannot be loaded.
    """
    from emonet.inference import EmotionPipeline

    EmotionPipeline.from_folder(folder, experts_precision=arguments.experts_precision)


def _say_ready(arguments: ServeArguments, address: str) -> None:
    post = f"curl {address}/invocations -H 'Content-Type: application/json'"
    if arguments.allow_paths == "off":
        body = "printf '" + _body("%s") + "' \"$(base64 < interview.wav | tr -d '\\n')\""
        line = f"{body} | {post} -d @-"
    else:
        line = f"{post} -d {shlex.quote(_body('interview.wav'))}"
    console.say(f"ready on {address}; Ctrl-C stops it. In another terminal:")
    console.console.print(f"  {line}", markup=False)


def _body(audio: str) -> str:
    return json.dumps({"dataframe_records": [{"audio": audio}]})
