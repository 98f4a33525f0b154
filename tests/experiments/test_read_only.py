"""A colleague's `runs`: what only reads works where nothing may be written, and files have the modes that umask gives."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.model_registry import register

CODE = """
import contextlib, io, json, sys
from experiments import cli
answers = []
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out):
        answers.append([cli.main(line), out.getvalue()])
print(json.dumps(answers))
"""


@pytest.fixture
def registered(runs: Path, voice: Path) -> Iterator[Path]:
    """Two versions in a folder that nobody may write."""
    before = os.umask(0o002)
    try:
        copy = runs.parent / "voice"
        shutil.copytree(voice, copy)
        assert [register(copy, runs) for _ in range(2)] == [1, 2]
    finally:
        os.umask(before)
    yield runs
    for path in (runs, *runs.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IRWXU)


def unwritable(runs: Path, commands: list[list[str]]) -> tuple[list[tuple[int, str]], str]:
    """Exit codes and outputs of verbs, and all that they say, where permission bits hold for root as well."""
    for path in (*runs.rglob("*"), runs):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    bound = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everything, and there is no setpriv to change that")
        bound = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    words = [*bound, sys.executable, "-c", CODE, json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return [(code, out) for code, out in json.loads(done.stdout)], done.stderr


@pytest.mark.slow
def test_what_only_reads_works_and_what_writes_refuses(registered: Path, make_wav: object, tmp_path: Path) -> None:
    recording = make_wav("a.wav")  # type: ignore[operator]
    before = sorted(str(path) for path in registered.rglob("*"))
    runs = ["--runs", str(registered)]
    answers, said = unwritable(
        registered,
        [
            ["registry", "list", *runs, "--json"],
            ["registry", "show", "champion", *runs, "--json"],
            ["predict", str(recording), *runs, "--json"],
            ["registry", "promote", "2", *runs, "--yes"],
            ["registry", "prune", "--keep", "0", *runs, "--yes"],
            ["compare", "champion", "candidate", "--on", f"manifest:{tmp_path}/none.csv", *runs],
        ],
    )
    assert [code for code, _ in answers] == [0, 0, 0, 2, 0, 2], said
    versions = json.loads(answers[0][1])["versions"]
    assert [(one["version"], one["megabytes"] > 0) for one in versions] == [(2, True), (1, True)]
    assert len(json.loads(answers[2][1])["predictions"]) == 1
    assert said.count("the tracking database and its folder can only be read") == 2
    assert "name the models by their folders" in said
    assert sorted(str(path) for path in registered.rglob("*")) == before


def test_files_have_the_modes_that_the_umask_gives(registered: Path) -> None:
    """002: a group of two users."""
    strict = [
        str(path.relative_to(registered))
        for path in registered.rglob("*")
        if (path.stat().st_mode & 0o777) != (0o775 if path.is_dir() else 0o664) and path.name != "mlflow.db"
    ]
    assert strict == []


def test_a_new_database_is_the_groups(tmp_path: Path) -> None:
    from emonet.tracking import prepare

    before = os.umask(0o002)
    try:
        prepare(tmp_path / "mlflow.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "mlflow.db").stat().st_mode) == 0o664
