"""Databases: the URL of a SQLite file, whatever its folder is called, and back; read without writing; passwords."""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path

from emonet.errors import RequestError
from emonet.names import as_text

_COPIES: dict[tuple[Path, int, int], tempfile.TemporaryDirectory[str]] = {}
_COPYING = threading.Lock()
PATIENCE = 30.0  # seconds that another process may hold a lock


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, as SQLAlchemy, MLflow and Optuna take it.

    A folder may be called `why?` or `100%`: such characters are quoted. Then the driver is named as well, since MLflow
    takes the rest of `sqlite:///` for a path as it is and would make a folder `why%3F`.

    Raises:
        RequestError: if the path is not valid UTF-8, which no URL of SQLAlchemy's can name.
    """
    from sqlalchemy import URL

    if as_text(path) != str(path):
        raise RequestError(
            "a database cannot lie in a folder whose name is not UTF-8",
            where=path,
            hint="rename the folder, or --runs FOLDER names another one",
        )
    plain = f"sqlite:///{path}"
    url = URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)
    return plain if url == plain.replace("sqlite:", "sqlite+pysqlite:", 1) else url


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLAlchemy URL; None if it is no SQLite URL, or names a database in memory."""
    if not url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return None
    path, asked, rest = url.partition(":///")[2].partition("?")
    if asked and "=" not in rest:  # a path as it is, of a folder `why?`, and not a URL's question
        return Path(f"{path}?{rest}")
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(url).database
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        return None
    return Path(database) if database and database != ":memory:" and not database.startswith("file:") else None


def hidden(url: str) -> str:
    """A URL without its password, to be shown."""
    return re.sub(r"(pass\w*=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url), flags=re.IGNORECASE)


def connect_once(url: str) -> None:
    """Connect to a database server, and leave it again.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: if it does not answer within seconds.
        ImportError: if there is no driver for it.
    """
    from sqlalchemy import NullPool, create_engine

    known = url.startswith(("postgresql", "mysql"))
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10} if known else {})
    with engine.connect():
        pass


def is_writable(path: Path) -> bool:
    """Whether this process may write a database: the file, or its folder where it does not exist yet."""
    folder = path.parent
    if not path.exists():
        while not folder.exists():
            folder = folder.parent
        return os.access(folder, os.W_OK | os.X_OK)
    return os.access(path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK)  # its journal lies beside it


def prepare(path: Path) -> None:
    """Make an empty database, whose mode follows the umask: SQLite's own files are the owner's to write alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(exist_ok=True)


def copy_of(path: Path) -> Path:
    """A copy, for this process, of a database that it may not write: nothing beside the original is touched.

    Raises:
        sqlite3.Error: if it is no database.
        OSError: if it may not be read.
    """
    there = path.resolve()
    state = there.stat()
    key = (there, state.st_mtime_ns, state.st_size)
    with _COPYING:
        if key not in _COPIES:
            folder = tempfile.TemporaryDirectory(prefix="emonet-", ignore_cleanup_errors=True)
            atexit.register(folder.cleanup)
            _copy(there, Path(folder.name) / path.name)
            _COPIES[key] = folder
        return Path(_COPIES[key].name) / path.name


def _copy(source: Path, target: Path) -> None:
    """Whole, as of one moment; a journal that only a writer could apply is passed over."""
    for mode in ("mode=ro", "immutable=1"):
        target.unlink(missing_ok=True)
        with suppress(sqlite3.OperationalError):
            with (
                closing(sqlite3.connect(f"{source.as_uri()}?{mode}", uri=True, timeout=PATIENCE)) as reading,
                closing(sqlite3.connect(target)) as writing,
            ):
                reading.backup(writing)
            return
    with source.open("rb"):  # says why not, if it may not be read at all
        raise sqlite3.OperationalError(f"unable to read {source}")
