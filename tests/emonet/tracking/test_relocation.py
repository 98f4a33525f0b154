from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from emonet.registry import (
    CAPTIONER,
    delete_version,
    prunable,
    register_captioner,
    resolve,
    version_files,
    version_of,
    versions_of,
)
from emonet.tracking import default_uri, local_path, sqlite_url, start_run
from emonet.tracking.relocation import settle

ODD = ("my data", "why?", "Gefühle", "a#b", "100%", "a;b", "{x}", "50%25 & 'more'")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_tracking: Path) -> Path:
    """A folder whose `runs` has two versions of a captioner; the texts in them are `x` and `xx`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "runs").mkdir(parents=True)
    shutil.copy(empty_tracking, folder / "runs" / "mlflow.db")
    register(folder / "runs")
    register(folder / "runs")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """The same, as if it had been made here."""
    shutil.copytree(made, tmp_path / "A")
    settle(tmp_path / "A" / "runs" / "mlflow.db")
    return tmp_path / "A"


def register(runs: Path, *, uri: str | None = None, experiment: str = "toy") -> int:
    number = len(versions_of(CAPTIONER, uri or default_uri(runs))) + 1
    folder = runs / "captioner"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("x" * number)
    with start_run(
        uri or default_uri(runs), experiment=experiment, name="x", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        return register_captioner(run, folder, {}).version


def place_of(number: int, runs: Path, uri: str | None = None) -> Path:
    return Path(resolve(f"models:/{CAPTIONER}/{number}", uri or default_uri(runs), runs))


def text_of(number: int, runs: Path) -> str:
    return (place_of(number, runs) / "config.json").read_text()


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def forget_place(runs: Path) -> None:
    """As an older emonet left its database."""
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection, connection:
        connection.execute("DROP TABLE IF EXISTS emonet_place")


@pytest.mark.parametrize("older", [False, True])
def test_a_copy_has_files_of_its_own(project: Path, older: bool) -> None:
    if older:
        forget_place(project / "runs")
    copy = project.with_name("B")
    shutil.copytree(project, copy)
    before, runs, uri = stamps(project), copy / "runs", default_uri(copy / "runs")
    assert text_of(1, runs) == "x"
    assert place_of(1, runs).is_relative_to(runs / "mlartifacts")
    assert register(runs) == 3, "into the experiment that the original made"
    assert place_of(3, runs).is_relative_to(runs / "mlartifacts")
    goes, stays = prunable(CAPTIONER, uri, runs, keep=0)
    assert ([one.version for one in goes], stays) == ([2], ())
    delete_version(goes[0], uri, runs)
    assert [one.version for one in versions_of(CAPTIONER, uri)] == [3, 1]
    assert stamps(project) == before


@pytest.mark.parametrize("older", [False, True])
def test_a_folder_that_was_moved_has_all_its_files(project: Path, older: bool) -> None:
    if older:
        forget_place(project / "runs")
    there = project.with_name("B")
    project.rename(there)
    assert [text_of(number, there / "runs") for number in (1, 2)] == ["x", "xx"]
    register(there / "runs")
    assert not project.exists()
    there.rename(project)
    assert [text_of(number, project / "runs") for number in (1, 2, 3)] == ["x", "xx", "xxx"]


@pytest.mark.parametrize("name", ODD)
def test_folders_may_be_called_anything(project: Path, tmp_path: Path, name: str) -> None:
    there = tmp_path / "odd" / name
    there.parent.mkdir()
    project.rename(there)
    runs = there / "runs"
    assert text_of(2, runs) == "xx"
    with start_run(default_uri(runs), experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}):
        pass
    assert len(list((runs / "mlartifacts").rglob("config.json"))) == 5, "two captioners, three configurations"
    assert {path.name for path in there.parent.iterdir()} == {name}
    assert {path.name for path in tmp_path.iterdir()} == {"odd"}


def test_a_link_to_runs_is_no_other_place(project: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (project / "runs").rename(disk)
    (project / "runs").symlink_to(disk)
    assert text_of(1, project / "runs") == "x"
    assert text_of(1, disk) == "x"
    uri = default_uri(project / "runs")
    register(project / "runs")
    goes, _ = prunable(CAPTIONER, uri, project / "runs", keep=0)
    assert [one.version for one in goes] == [2]


def test_a_missing_folder_of_a_copy_is_not_looked_for_in_the_original(project: Path) -> None:
    copy = project.with_name("B")
    shutil.copytree(project, copy)
    shutil.rmtree(copy / place_of(1, project / "runs").relative_to(project))
    uri = default_uri(copy / "runs")
    found = version_files(version_of(CAPTIONER, 1, uri), uri)
    assert found.size is None
    assert Path(found.where).is_relative_to(copy)


def test_a_database_alone_still_points_to_where_the_files_are(project: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(project / "runs" / "mlflow.db", shared / "team.db")
    uri = sqlite_url(shared / "team.db")
    place = place_of(1, project / "runs", uri)
    assert place.is_relative_to(project)
    goes, stays = prunable(CAPTIONER, uri, tmp_path / "mine" / "runs", keep=0)
    assert (goes, [one.version for one in stays]) == ((), [])
    other = tmp_path / "other" / "runs"
    other.mkdir(parents=True)
    register(other, uri=uri, experiment="new")
    assert place_of(3, other, uri).is_relative_to(other), "an experiment of another project's, in the same database"
    assert version_files(version_of(CAPTIONER, 2, uri), uri).size == 2
    goes, stays = prunable(CAPTIONER, uri, other, keep=0)
    assert (goes, [one.version for one in stays]) == ((), [2])


def test_other_peoples_locations_stay(project: Path, tmp_path: Path) -> None:
    """Of a project that logs into this database, with artefacts of its own."""
    other = tmp_path / "other" / "runs"
    other.mkdir(parents=True)
    register(other, uri=default_uri(project / "runs"), experiment="theirs")
    forget_place(project / "runs")
    there = project.with_name("B")
    project.rename(there)
    assert text_of(1, there / "runs") == "x"
    assert place_of(3, there / "runs").is_relative_to(other)
    register(there / "runs", experiment="theirs")
    assert place_of(4, there / "runs").is_relative_to(there), "here nothing is written to their folder"


def test_what_an_older_emonet_wrote_to_the_old_place_after_a_move_is_still_found(project: Path) -> None:
    copy = project.with_name("B")
    shutil.copytree(project, copy)
    register(project / "runs")
    shutil.copy(project / "runs" / "mlflow.db", copy / "runs" / "mlflow.db")
    forget_place(copy / "runs")
    assert place_of(1, copy / "runs").is_relative_to(copy)
    assert place_of(3, copy / "runs").is_relative_to(project)


def test_two_processes_that_come_first_agree(project: Path) -> None:
    there = project.with_name("B")
    project.rename(there)
    database = str(there / "runs" / "mlflow.db")
    code = f"from pathlib import Path; from emonet.tracking.relocation import settle; settle(Path({database!r}))"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert text_of(2, there / "runs") == "xx"


def test_a_file_that_is_no_database_of_mlflow_stays_as_it_is(tmp_path: Path) -> None:
    settle(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    settle(tmp_path / "empty.db")
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_location_that_is_not_utf8_is_still_the_same_path(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"Gef\xfchle")
    assert local_path(odd.as_uri()) == odd
