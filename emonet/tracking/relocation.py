"""Relocation: a registry that was moved or copied finds its artefacts beside its database.

MLflow keeps absolute locations (`file:///home/ann/runs/mlartifacts/...`) of experiments, runs, logged models and
versions. The database remembers in a table of its own for which folder they hold; opened in another one to which its
artefacts have come along, those below the former folder become ones below the new one. Other people's stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from emonet.tracking.database import PATIENCE

ARTIFACTS = "mlartifacts"  # beside the database
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class _Value:
    """A location in the database.

    Args:
        table: its table.
        column: its column.
        text: as it is written.
        path: that it names.
    """

    table: str
    column: str
    text: str
    path: Path

    def at(self, former: Path, here: Path) -> Path:
        """The path after a move of the folder."""
        return here / self.path.relative_to(former)


def local_path(location: str) -> Path | None:
    """The path that a location of MLflow's names on a machine; None if it is on a server or in a store of objects."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path, errors="surrogateescape"))
    return Path(location) if location.startswith("/") else None


def settle(database: Path, folder: Path | None = None) -> None:
    """Make the locations in a database hold for the folder that it lies in; in one transaction, or not at all.

    Args:
        database: of MLflow; one that does not exist, or is still empty, stays as it is.
        folder: that the locations shall hold for, if not the database's own.

    Raises:
        sqlite3.Error: if it is no database, or another process holds it for too long.
    """
    here = (folder or database.parent).resolve()
    if not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)) as connection:
        if _place(connection) == here or not _moves(connection, here):
            return
        connection.execute("BEGIN IMMEDIATE")  # from here on no other process writes
        with connection:
            for former, values in _moves(connection, here):
                _rewrite(connection, values, former, here)
            connection.execute("CREATE TABLE IF NOT EXISTS emonet_place (folder TEXT NOT NULL)")
            connection.execute("DELETE FROM emonet_place")
            connection.execute("INSERT INTO emonet_place VALUES (?)", (here.as_uri(),))


def adopt(database: Path, experiment_id: str, artifacts: Path) -> None:
    """Let the further runs of an experiment keep their artefacts beside the database, if they do not."""
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection, connection:
        row = connection.execute(
            "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (int(experiment_id),)
        ).fetchone()
        there = None if row is None or row[0] is None else local_path(row[0])
        if there is not None and not there.is_relative_to(artifacts):
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (artifacts.as_uri(), int(experiment_id)),
            )


def _place(connection: sqlite3.Connection) -> Path | None:
    """The folder that the locations hold for; None in a database that does not say."""
    if not _columns(connection, "emonet_place"):
        return None
    row = connection.execute("SELECT folder FROM emonet_place").fetchone()
    return None if row is None else local_path(row[0])


def _moves(connection: sqlite3.Connection, here: Path) -> list[tuple[Path, list[_Value]]]:
    """The folders that were moved here, with the locations that move along; also an empty move, where nothing need."""
    if not _columns(connection, "experiments"):
        return []
    place, values = _place(connection), list(_values(connection))
    if place is not None:
        below = [value for value in values if value.path.is_relative_to(place)]
        came = any(value.at(place, here).exists() for value in below if value.table != "experiments")
        return [(place, below)] if came or not below else []
    # Made by an older emonet: each folder whose artefacts are here was the database's own before.
    found: list[tuple[Path, list[_Value]]] = [(here, [])]
    for former in sorted({root for value in values if (root := _root(value)) is not None} - {here}):
        below = [value for value in values if value.path.is_relative_to(former)]
        runs = [value for value in below if value.table != "experiments"]
        if any(value.at(former, here).exists() for value in runs):
            # It went on writing to the old place: what is only there stays there.
            kept = [value for value in runs if value.path.exists() and not value.at(former, here).exists()]
            found.append((former, [value for value in below if value not in kept]))
    return found


def _root(value: _Value) -> Path | None:
    """The folder of the embedded registry that an experiment's location belongs to."""
    parts = value.path.parts
    if value.table != "experiments" or ARTIFACTS not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index(ARTIFACTS)
    return Path(*parts[:last])


def _values(connection: sqlite3.Connection) -> Iterator[_Value]:
    for table, column in _COLUMNS:
        if column in _columns(connection, table):
            every = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608  # names of ours
            for (text,) in connection.execute(every):
                path = local_path(text)
                if path is not None:
                    yield _Value(table, column, text, path)


def _rewrite(connection: sqlite3.Connection, values: Sequence[_Value], former: Path, here: Path) -> None:
    paths = {value.text: value.at(former, here) for value in values}
    moved = {text: path.as_uri() if text.startswith("file:") else str(path) for text, path in paths.items()}
    connection.create_function("moved", 1, moved.get, deterministic=True)
    for table, column in {(value.table, value.column) for value in values}:
        statement = f"UPDATE {table} SET {column} = moved({column}) WHERE moved({column}) IS NOT NULL"  # noqa: S608
        connection.execute(statement)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
