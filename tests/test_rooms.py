"""Rooms: packages import each other by their surfaces, which offer what others use, and no more."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("emonet", "cache", "datamodules", "lightningmodules", "experiments")
ROOMS = sorted(
    ".".join(stub.parent.relative_to(ROOT).parts) for package in PACKAGES for stub in (ROOT / package).rglob("*.pyi")
)
MOST_FILES = 15


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import from a package of ours."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.split(".")[0] in PACKAGES)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _passed_by(importer: str, module: str) -> str | None:
    """The room whose surface an import passes by: the outermost one that the importer is not in."""
    around = [room for room in ROOMS if module.startswith(f"{room}.") and not f"{importer}.".startswith(f"{room}.")]
    return min(around, key=len, default=None)


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_rooms_are_found() -> None:
    assert {"emonet.audio", "emonet.corpora.manifest", "cache.store", "experiments.core"} <= set(ROOMS)


def test_rooms_import_rooms_and_not_files() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {module}, not {room}"
        for path in _sources(*PACKAGES, "benchmarks", "tools")
        for module, _ in _imports(path)
        if (room := _passed_by(_module(path), module))
    ]
    assert found == []


def test_a_file_of_another_room_would_be_found() -> None:
    assert _passed_by("cache.store.reader", "emonet.audio.decoding") == "emonet.audio"
    assert _passed_by("emonet.corpora.opening", "emonet.corpora.manifest.reader") == "emonet.corpora.manifest"
    assert _passed_by("emonet.audio.decoders", "emonet.audio.decoding") is None


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_what_it_says(room: str) -> None:
    package = importlib.import_module(room)
    files = {path.stem for path in (ROOT / room.replace(".", "/")).glob("*.py")}
    assert package.__all__
    for name in package.__all__:
        offered = getattr(package, name)
        module = getattr(offered, "__name__", None) == f"{room}.{name}"
        assert module or name not in files, f"{name} is a file of the room, too: which one is imported?"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_not_crowded(room: str) -> None:
    files = [path for path in (ROOT / room.replace(".", "/")).glob("*.py") if path.name != "__init__.py"]
    assert 1 <= len(files) <= MOST_FILES


def test_nothing_is_offered_that_nobody_takes() -> None:
    """Scripts within tests and documents count, too."""
    used = {pair for path in _sources(*PACKAGES, "benchmarks", "tools", "tests") for pair in _imports(path)}
    written = [*_sources("tests"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    text = "\n".join(path.read_text("utf-8") for path in written)
    used |= {
        (room, name.strip())
        for room, names in re.findall(r"from ([\w.]+) import ([\w, ]+)", text)
        for name in names.split(",")
    }
    idle = [
        f"{room}.{name}"
        for room in ROOMS
        for name in importlib.import_module(room).__all__
        if (room, name) not in used and not _by_name(room, name)
    ]
    assert idle == []


def _by_name(room: str, name: str) -> bool:
    """Whether the command line or MLflow finds it by its name."""
    verb = room.startswith("experiments.") and name.partition("_")[0] in {
        "run",
        "show",
        "info",
        "verify",
        "repair",
        "export",
        "copy",
        "corpora",
        "robustness",
        "fairness",
    }
    return verb or (room, name) == ("emonet.serving", "_load_pyfunc")


def test_surfaces_import_nothing_before_it_is_asked_for() -> None:
    code = f"import importlib, sys; [importlib.import_module(room) for room in {ROOMS}]; print(len([m for m in sys.modules if m in ('torch', 'mlflow', 'zarr', 'pandas', 'soundfile', 'optuna', 'tyro')]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
