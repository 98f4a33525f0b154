from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from emonet.errors import RequestError
from emonet.tracking import sqlite_path, sqlite_url
from emonet.tracking.database import copy_of


@pytest.mark.parametrize("name", ["plain", "my data", "why?", "Gefühle", "a#b", "100%", "50%25", "a;b", "{x}", "a@b:c"])
def test_the_url_of_a_file_leads_to_it_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "x.db"
    path.parent.mkdir()
    url = sqlite_url(path)
    assert sqlite_path(url) == path
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE x (y)")
    assert path.is_file()
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_not_utf8_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)name is not UTF-8.*Gef\\xfchle.*--runs FOLDER"):
        sqlite_url(tmp_path / os.fsdecode(b"Gef\xfchle") / "mlflow.db")
    sqlite_url(tmp_path / "Gefühle" / "mlflow.db")


def test_paths_that_were_typed_into_a_url_as_they_are() -> None:
    assert sqlite_path("sqlite:////tmp/why?/x.db") == Path("/tmp/why?/x.db")
    assert sqlite_path("sqlite:///x.db?timeout=5") == Path("x.db")
    assert sqlite_url(Path("/tmp/x.db")) == "sqlite:////tmp/x.db"
    for url in ("sqlite://", "sqlite:///:memory:", "postgresql://h/db", "http://h:1", "sqlite+nothing:///x", "/x.db"):
        assert sqlite_path(url) is None


def test_a_copy_is_made_again_when_the_original_changes(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE x (y)")
    first = copy_of(path)
    assert copy_of(path) == first
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO x VALUES (1)")
    with closing(sqlite3.connect(copy_of(path))) as connection:
        assert connection.execute("SELECT y FROM x").fetchall() == [(1,)]
    (tmp_path / "none.db").write_text("this is no database, however long the text in it may be")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        copy_of(tmp_path / "none.db")
