from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emonet.runtime import identity, is_dead, place, processes, stamp

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when processes began")


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    return process.pid


def test_this_process_lives() -> None:
    assert not is_dead(identity())
    assert not is_dead(stamp())
    assert identity() == f"{place()}/{os.getpid()}"


def test_a_process_that_has_ended_is_dead(ended: int) -> None:
    assert is_dead(f"{place()}/{ended}")
    assert is_dead(f"{place()}/{ended}@12345")


@linux
def test_an_id_that_was_given_to_another_process_is_told_by_its_start() -> None:
    who, _, started = stamp().partition("@")
    assert started.isdigit()
    assert is_dead(f"{who}@{int(started) - 1}")
    assert not is_dead(f"{who}@"), "where the start is not known, it may be this one"


@linux
def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert is_dead(f"{place()}/{child}")
    finally:
        os.waitpid(child, 0)


def test_nobody_knows_of_processes_elsewhere(ended: int) -> None:
    for elsewhere in (f"elsewhere/1/1/{ended}", f"{ended}", "", f"{place()}/x", f"{place()}/", f"{place()}/{10**30}"):
        assert not is_dead(elsewhere), elsewhere


@pytest.fixture
def other_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "boot_id").write_text("0000aaaa-1111-2222-3333-444455556666\n")
    monkeypatch.setattr(processes, "BOOT", tmp_path / "boot_id")
    yield
    place.cache_clear()


def test_machines_of_one_name_are_told_apart(ended: int, other_boot: None) -> None:
    here = place()
    place.cache_clear()
    assert place() != here
    assert not is_dead(f"{here}/{ended}")
