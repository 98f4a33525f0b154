"""Artifacts, the files of a model: where they lie, their size, how they come here from a server, their deletion."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from emonet.errors import RequestError
from emonet.runtime import remove, replacing
from emonet.schema import digest
from emonet.tracking import local_path, location_of, repository

DOWNLOADS = "downloads"  # folder below `runs`
_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # downloads of this process, where `runs` cannot be written


@dataclass(frozen=True)
class Files:
    """The files of a model.

    Args:
        where: a path of this machine, or an URI on a server.
        size: in bytes; None where nothing is found there, which does not mean that it was deleted.
        local: the path, if it is one of this machine.
    """

    where: str
    size: int | None
    local: Path | None

    def are_in(self, runs: Path) -> bool:
        """Whether they lie below a folder, after links are followed; on a server they are that one's own affair."""
        if self.local is None:
            return True
        there, root = self.local.resolve(), runs.resolve()
        return there.is_relative_to(root) and there != root


def files_of(source: str, uri: str) -> Files:
    """The files of what `models:/...` or `runs:/...` names; errors of MLflow and of what it uses pass."""
    location = location_of(source, uri)
    path = local_path(location)
    if path is None:
        sizes = _listed(repository(location, uri))
        return Files(location, sum(sizes.values()) if sizes else None, None)
    sizes = {str(file): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    return Files(str(path), sum(sizes.values()) if sizes else None, path)


def fetch(source: str, uri: str, runs: Path, label: str) -> Path:
    """A local folder with the files: where they lie, or a copy of what a server has, made once.

    Args:
        source: `models:/...` or `runs:/...`.
        uri: of the registry.
        runs: folder that keeps copies, in `downloads`; one that is stale goes.
        label: of the copy: what stays the same when its content changes.

    Raises:
        FileNotFoundError: if there are none; errors of MLflow and of what it uses pass.
        PermissionError: if they cannot be read.
    """
    location = location_of(source, uri)
    path = local_path(location)
    if path is not None:
        if not path.exists():
            raise FileNotFoundError(str(path))
        _require_readable(path)
        return path
    access = repository(location, uri)
    there = _listed(access)
    if not there:
        raise FileNotFoundError(location)
    key = digest([location, sorted(there.items())])[:16]
    return _copied(runs, label, key, lambda folder: access.download_artifacts("", str(folder)))


def delete(files: Files, uri: str, runs: Path) -> None:
    """Delete files; none is no error.

    Raises:
        RequestError: if they lie outside of `runs`; errors of the operating system and of MLflow pass.
    """
    if not files.are_in(runs):
        raise RequestError(
            "files outside of the project's own folder are not deleted", where=files.where, expected=runs
        )
    if files.local is None:
        access = repository(files.where, uri)
        if _listed(access):
            access.delete_artifacts()
    elif files.local.exists():
        shutil.rmtree(files.local.resolve())


def forget(runs: Path, label: str) -> None:
    """Remove the copies that `fetch` has kept under a label."""
    for stale in (runs / DOWNLOADS).glob(f"{label}~*"):
        remove(stale)


def kept(runs: Path) -> set[str]:
    """The labels of all copies that `fetch` has kept."""
    return {folder.name.rpartition("~")[0] for folder in (runs / DOWNLOADS).glob("*~*")}


def _copied(runs: Path, label: str, key: str, download: Callable[[Path], object]) -> Path:
    try:
        (runs / DOWNLOADS).mkdir(parents=True, exist_ok=True)
        lock = FileLock(runs / DOWNLOADS / f".{label}.lock").acquire()
    except OSError:  # somebody else's folder: this process alone has the copy
        _KEPT.append(tempfile.TemporaryDirectory(prefix="emonet-", ignore_cleanup_errors=True))
        place = Path(_KEPT[-1].name)
        download(place)
        return place
    with lock:  # one process downloads, others wait for it
        place = runs / DOWNLOADS / f"{label}~{key}"
        if not place.is_dir():
            with replacing(place) as partial:
                download(partial)
            for stale in (runs / DOWNLOADS).glob(f"{label}~*"):
                if stale != place:
                    remove(stale)
    return place


def _require_readable(path: Path) -> None:
    folders = [path, *(folder for folder in path.rglob("*") if folder.is_dir())]
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK if folder.is_dir() else os.R_OK):
            raise PermissionError(str(folder))


def _listed(access: Any) -> Mapping[str, int]:
    return dict(_walk(access, None))


def _walk(access: Any, folder: str | None) -> Iterator[tuple[str, int]]:
    for entry in access.list_artifacts(folder):
        if entry.is_dir:
            yield from _walk(access, entry.path)
        else:
            yield entry.path, int(entry.file_size or 0)
