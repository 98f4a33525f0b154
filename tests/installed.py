"""Packages that register plug-ins, as pip leaves them in a folder: a module, and the metadata that Python reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, module: str, code: str, points: Mapping[str, Mapping[str, str]], *, version: str = "0.1"
) -> Path:
    """Write `MODULE.py` and the metadata of a distribution of the same name; returns the folder, to be put on the path.

    Args:
        folder: where to.
        module: its name, and with dashes the distribution's.
        code: of the module.
        points: group -> name -> object in the module.
        version: of the distribution.
    """
    metadata = folder / f"{module}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    name = module.replace("_", "-")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{one} = {module}:{target}\n" for one, target in named.items())
        for group, named in points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return folder
