from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emonet.runtime import exchange, replacing


def fill(folder: Path, text: str) -> None:
    with replacing(folder) as partial:
        for name in ("a", "b"):
            (partial / name).write_text(text)


def texts(folder: Path) -> set[str]:
    return {file.read_text() for file in folder.iterdir()}


@pytest.fixture(params=[True, False], ids=["in one step", "by two renames"])
def exchanging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system exchanges folders in one step."""
    if not request.param:
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: other.stat() is None)
    return bool(request.param)


@pytest.mark.usefixtures("exchanging")
def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    fill(folder, "1")
    fill(folder, "2")
    with pytest.raises(IsADirectoryError), replacing(folder) as partial:
        partial.write_text("3")
    assert texts(folder) == {"2"}
    assert list(tmp_path.iterdir()) == [folder]


def test_there_is_always_a_whole_folder(tmp_path: Path) -> None:
    """Three processes replace it, again and again."""
    folder = tmp_path / "x"
    fill(folder, "0")
    code = (
        "import sys; from pathlib import Path; from emonet.runtime.durable import replacing\n"
        "for turn in range(30):\n"
        "    with replacing(Path(sys.argv[1])) as partial:\n"
        "        for name in ('a', 'b'): (partial / name).write_text(f'{sys.argv[2]} {turn}')"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(folder), str(number)]) for number in range(3)]
    looked = 0
    while any(process.poll() is None for process in processes):
        handle = os.open(folder, os.O_RDONLY)  # raises if there is none
        os.close(handle)
        looked += 1
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert looked > 10
    assert len(texts(folder)) == 1
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("exchanging")
def test_what_a_killed_process_left_goes_and_a_living_ones_work_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    code = (
        "import sys, time; from pathlib import Path; from emonet.runtime.durable import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'a').write_text('theirs'); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            fill(folder, "ours")
            (theirs,) = (path for path in tmp_path.iterdir() if path != folder)
            assert texts(theirs) == {"theirs"}
        finally:
            other.send_signal(signal.SIGKILL)
    fill(folder, "ours")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    for name in (".x.1-0123abcd.older", ".x.older"):  # of this emonet, and of an older one
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("kept")
        exchange.remove_leftovers(tmp_path / "x")
        assert texts(tmp_path / "x") == {"kept"}
        exchange.remove(tmp_path / "x")


def test_leftovers_of_a_folder_whose_name_begins_alike_stay(tmp_path: Path) -> None:
    other = tmp_path / ".x.y.1-0123abcd.older"
    other.mkdir()
    fill(tmp_path / "x", "1")
    assert other.is_dir()


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    fill(tmp_path / "far", "theirs")
    (tmp_path / "x").symlink_to(tmp_path / "far")
    fill(tmp_path / "x", "ours")
    assert not (tmp_path / "x").is_symlink()
    assert (texts(tmp_path / "x"), texts(tmp_path / "far")) == ({"ours"}, {"theirs"})
    assert {path.name for path in tmp_path.iterdir()} == {"x", "far"}
