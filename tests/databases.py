"""A PostgreSQL server of the tests' own, started on a free port; tests that need it skip where it is not installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

USER = "emonet"


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Args:
        binaries: folder of `pg_ctl`.
        data: its files.
        port: on 127.0.0.1.
        account: who runs it; PostgreSQL refuses to be run by root.
    """

    binaries: Path
    data: Path
    port: int
    account: dict[str, Any]

    def database(self, name: str) -> str:
        """Make an empty database; its URL, as in SQLAlchemy."""
        self.call("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", USER, name)
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.call("pg_ctl", "--pgdata", str(self.data), "-l", str(self.data / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        self.call("pg_ctl", "--pgdata", str(self.data), "-w", "-m", "immediate", "stop")

    def call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.data,
            timeout=60,
            **self.account,
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, empty; `database(NAME)` makes a database in it."""
    binaries = _binaries()
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="emonet-postgres-"))
    try:
        if account:
            shutil.chown(folder, account["user"])
        server = Postgres(binaries, folder, free_port(), account)
        server.call("initdb", "--pgdata", str(folder), "--username", USER, "--auth", "trust", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = shutil.which("pg_ctl")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in ("initdb", "pg_ctl", "createdb")):
            return folder
    pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL refuses to be run by root, and there is no account named postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
