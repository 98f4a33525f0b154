from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache.writing import StoreLocks, locks
from emonet.errors import EmonetError

ROOT = Path(__file__).parents[3]
# Does what each line on stdin says and prints what came of it.
OTHER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from cache.writing.locks import StoreLocks

with StoreLocks(Path(sys.argv[1])) as locks:
    print("open", flush=True)
    held = ExitStack()
    for line in sys.stdin:
        name, *number = line.split()
        if name in ("prepare", "done"):
            print(held.enter_context(locks.preparing()) if name == "prepare" else held.close(), flush=True)
            continue
        print(getattr(locks, name)(*map(int, number)), flush=True)
"""


class Other:
    """The same locks in another process."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.answer() == "open"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_shard_has_one_writer_and_its_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    other = Other(path)
    with StoreLocks(path) as locks:
        assert other.ask("claim 3") == "True"
        assert not locks.claim(3)
        assert locks.claim(4)
        assert other.ask("claim 4") == "False"
        locks.release(4)
        assert other.ask("claim 4") == "True"
        other.kill()
        assert locks.claim(3)
        assert locks.claim(4)


def test_whether_there_is_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with StoreLocks(path) as locks:
        assert locks.join()
        assert locks.alone()
        other = Other(path)
        assert locks.alone()  # it has not joined
        assert other.ask("join") == "False"
        assert not locks.alone()
        assert other.ask("alone") == "False"
        other.kill()
        assert locks.alone()


def test_one_writer_in_a_process(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with (
        StoreLocks(path),
        pytest.raises(EmonetError, match="this process is writing this store already"),
        StoreLocks(path),
    ):
        pass
    with StoreLocks(path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [".s.zarr.lock"]


def test_every_spelling_of_a_path_has_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "s.zarr").symlink_to(tmp_path / "disk" / "real.zarr")
    with (
        StoreLocks(tmp_path / "disk" / "real.zarr"),
        pytest.raises(EmonetError, match="this process is writing this store already"),
        StoreLocks(tmp_path / "disk" / ".." / "s.zarr"),
    ):
        pass
    assert [file.name for file in (tmp_path / "disk").iterdir()] == [".real.zarr.lock"]


def test_who_waits_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    other, told = Other(path), []

    def let_go() -> None:
        told.append("waits")
        other.ask("done")

    with StoreLocks(path) as mine:
        with mine.preparing(let_go):
            pass
        assert told == []
        other.ask("prepare")
        with mine.preparing(let_go):
            assert told == ["waits"]
    other.kill()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with (
        pytest.raises(EmonetError, match=r"(?s)file system has no locks.*\.s\.zarr\.lock.*POSIX.*found: .*local disk"),
        StoreLocks(tmp_path / "s.zarr") as mine,
    ):
        mine.join()


def test_other_refusals_of_a_lock_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with pytest.raises(OSError, match="broken disk"), StoreLocks(tmp_path / "s.zarr") as mine:
        mine.claim(3)
