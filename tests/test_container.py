"""The container's files against the README and the command line. No docker is needed: nothing is built here."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from emonet.schema import Schema
from experiments.arguments import ServeArguments, parse

ROOT = Path(__file__).parent.parent
# What a container needs beside the README's steps: less of apt in the image, and a user of its own.
OWN = ("rm -rf /var/lib/apt/lists/*", "useradd", "mkdir", "chown")


def instructions() -> list[tuple[str, str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if re.match(r"[A-Z]+ ", line)]


def typed(given: dict[str, str]) -> list[str]:
    """The commands of the Dockerfile's RUN lines, as a person would type them."""
    values = {
        value.partition("=")[0]: value.partition("=")[2] for kind, value in instructions() if kind == "ARG"
    } | given
    commands = []
    for kind, line in instructions():
        for name, value in values.items():
            line = line.replace(f' {name}="${name}"', f" {name}={value}" if value else "")
        if kind == "RUN":
            kept = [part for part in line.split(" && ") if not part.startswith(OWN)]
            commands += [" && ".join(kept)] if kept else []
    return commands


def test_the_images_steps_are_those_of_the_readme() -> None:
    readme = [line.strip() for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("    ")]
    commands = typed({})
    assert len(commands) == 2
    assert [command for command in commands if command not in readme] == []
    assert typed({"TORCH_INDEX": ""})[1] in ("make install", readme)  # with CUDA: PyPI's own torch


def test_an_image_has_what_its_steps_read_and_none_of_the_users_files(tmp_path: Path) -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    def is_out(path: str) -> bool:
        parts = path.split("/")
        return any(
            fnmatch.fnmatch("/".join(parts[: n + 1]), one.removeprefix("**/")) or (fnmatch.fnmatch(parts[n], one.removeprefix("**/")) and "**" in one)
            for one in ignored
            for n in range(len(parts))
        )  # fmt: skip

    mine = [
        "runs/mlflow.db",
        "data/a.wav",
        ".venv/bin/python",
        "secrets/tokens",
        "emonet/__pycache__/x.pyc",
        ".git/HEAD",
    ]
    assert [path for path in mine if not is_out(path)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    read = ["pyproject.toml", "constraints.txt", "Makefile", "tools/repair_torchaudio.py", "emonet/version.py"]
    read += [
        project["project"]["readme"],
        *project["project"]["license-files"],
        *(f"{one}/__init__.py" for one in packages),
    ]
    assert [path for path in read if is_out(path) or not (ROOT / path).is_file()] == []
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make")
    for path in read:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    command = [make, "--dry-run", "--no-print-directory", "install", "TORCH_INDEX=https://i", "EXTRAS=postgres"]
    steps = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert '--index-url "$TORCH_INDEX" torch' in steps
    assert '--editable ".[sandbox,$EXTRAS]"' in steps


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_the_services_are_for_this_machine_only_and_hold_no_secrets() -> None:
    content = compose()
    services = content["services"]
    assert set(services) == {"postgres", "mlflow", "serve", "emonet"}
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one.get("ports", ()))
    assert {name for one in services.values() for name in one.get("secrets", ())} == set(content["secrets"])
    used = {mount.partition(":")[0] for one in services.values() for mount in one["volumes"]}
    assert {name for name in used if not name.startswith(".")} == set(content["volumes"])
    assert "PASSWORD:" not in (ROOT / "compose.yaml").read_text()
    gitignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/secrets/" in gitignored
    assert "secrets" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_commands_of_the_services_can_be_parsed() -> None:
    services = compose()["services"]
    verb, *flags = services["serve"]["command"]
    assert verb == "serve"
    settings = parse(ServeArguments, "emonet serve", flags)
    assert isinstance(settings, Schema)
    assert (settings.host, settings.port) == ("0.0.0.0", 5001)
    (script,) = services["mlflow"]["command"]
    subprocess.run(["sh", "-n", "-c", script.replace("$$", "$")], check=True)


@pytest.mark.slow  # imports MLflow's command line
def test_mlflow_knows_the_flags_of_its_service() -> None:
    from mlflow.cli import server

    (script,) = compose()["services"]["mlflow"]["command"]
    known = {flag for parameter in server.params for flag in parameter.opts}
    variables = {parameter.envvar for parameter in server.params}
    assert [flag for flag in re.findall(r"--[a-z-]+", script) if flag not in known] == []
    assert "MLFLOW_BACKEND_STORE_URI" in variables
