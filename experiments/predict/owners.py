"""Owners of segments: which of the named files the recordings are that a file of segments speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from emonet.errors import RequestError, shortened
from emonet.names import as_text
from experiments.core import console


def owners_of(files: Sequence[str], found: Mapping[str, object], path: Path) -> dict[str, str]:
    """File -> the name that the segments have for it: its path, its name, or its name without the suffix.

    Segments of other recordings are told.

    Args:
        files: recordings, as they were named.
        found: by the recordings' names in the file of segments; "" where that names none.
        path: of the file of segments.

    Raises:
        RequestError: if none belongs to the files, or it cannot be told which.
    """
    if not files:  # folders that cannot be listed
        return {}
    if "" in found:
        if len(found) > 1 or len(files) > 1:
            raise RequestError(
                "segments name no recording, so they belong to one",
                where=as_text(path),
                expected="one recording, or the name of one for each segment",
                found=f"{len(files)} recordings" if len(files) > 1 else "segments with and without one",
            )
        return {files[0]: ""}
    owners: dict[str, str] = {}
    for name in found:
        ways = (
            [file for file in files if name == file or (path.parent / name).absolute() == Path(file).absolute()],
            [file for file in files if name == Path(file).name or Path(name).name == Path(file).name],
            [file for file in files if name == Path(file).stem],
        )
        matches = next((way for way in ways if way), [])
        if len(matches) > 1 or any(file in owners for file in matches):
            what = f"which recording is meant by {name!r} cannot be told"
            raise RequestError(what, where=as_text(path), found=shortened(matches, 3))
        owners |= dict.fromkeys(matches, name)
    if not owners:
        raise RequestError(
            "the segments are of other recordings",
            where=as_text(path),
            expected=shortened([Path(file).stem for file in files], 3),
            found=shortened(list(found), 3),
        )
    others = [name for name in found if name not in owners.values()]
    if others:
        console.say(f"note: passed over: segments of {console.name(shortened(others, 3))}, not among the files")
    return owners
