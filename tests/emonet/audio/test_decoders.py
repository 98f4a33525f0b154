from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from emonet.audio import Decoders, decode
from emonet.clips import Clip
from emonet.errors import AudioError, EmonetError
from emonet.runtime import subprocesses as children

ROOT = Path(__file__).parents[3]


class Trap(type(Path())):  # type: ignore[misc]
    """A path that does something in the process that unpickles it, which only a worker does."""

    DEEDS: ClassVar[dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]] = {
        "segfault": (signal.raise_signal, (signal.SIGSEGV,)),
        "exit": (os._exit, (3,)),
        "raise": (int, ("no number",)),
        "hang": (time.sleep, (3600,)),
        "nap": (time.sleep, (0.5,)),
        "print": (os.write, (1, b"noise\n")),
    }

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.DEEDS[self.name]


def trap(deed: str) -> Clip:
    return Clip(deed, Trap(deed), "s", "train")


class OnceTrap(type(Path())):  # type: ignore[misc]
    """A recording that crashes or hangs the first process that unpickles it, and no other one."""

    FIRST = "__import__('os').mkdir({flag!r}) or __import__('{deed[0]}').{deed[1]}"
    THEN = "__import__('pathlib').Path({path!r})"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        parts = {"path": str(self), "flag": f"{self}.tried", "deed": self.deed}
        code = f"{self.THEN} if __import__('os').path.exists({{flag!r}}) else {self.FIRST}"
        return eval, (code.format_map(parts),)


def once(clip: Clip, module: str, call: str) -> Clip:
    path = OnceTrap(clip.audio)
    path.deed = (module, call)
    return Clip(clip.id, path, clip.speaker, clip.split)


@pytest.fixture
def clips(make_wav: Callable[..., Path]) -> list[Clip]:
    return [
        Clip(str(row), make_wav(f"{row}.wav", seconds=0.2 + 0.1 * row, hertz=150 + 20 * row), "s", "train")
        for row in range(12)
    ]


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders(2, timeout=20.0) as started:
        yield started


def assert_right(heard: Any, clip: Clip) -> None:
    expected = decode(clip.audio, start=clip.start, end=clip.end)
    np.testing.assert_array_equal(heard.samples, expected.samples)
    assert (heard.total, heard.content, heard.notices) == (expected.total, expected.content, expected.notices)


def is_running(process: int) -> bool:
    """Whether any of its threads is there; one that has ended and is not waited for keeps its first, as a zombie."""
    folder = Path(f"/proc/{process}")
    try:
        is_zombie = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return not is_zombie or len(list((folder / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("ahead", [0, 3, 100])
def test_results_come_in_order_and_reasons_as_they_are(clips: list[Clip], decoders: Decoders, ahead: int) -> None:
    missing = Clip("missing", Path("/nowhere/a.wav"), "s", "train")
    part = Clip("part", clips[11].audio, "s", "train", start=0.25, end=0.75)
    whole = Path(str(clips[5].audio)).read_bytes()
    memory = Clip("memory", whole + bytes(3 << 20), "s", "train")  # more than a pipe holds
    asked = [*clips[:4], missing, part, memory, *clips[4:]]
    heard = list(decoders.decode(asked, ahead=ahead))
    for clip, one in zip(asked, heard, strict=True):
        if clip is missing:
            assert isinstance(one, AudioError)
            assert one.what == "no such file"
            with pytest.raises(AudioError, match=r"(?s)no such file.*where: */nowhere/a\.wav"):
                raise one
        else:
            assert_right(one, clip)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("segfault", "the decoder crashed (signal 11, SIGSEGV)"),
        ("exit", "the decoder crashed (exit code 3)"),
        ("raise", "the decoder crashed (exit code 1): ValueError: invalid literal for int() with base 10: 'no number'"),
    ],
)
def test_a_crash_costs_one_clip(clips: list[Clip], decoders: Decoders, deed: str, reason: str) -> None:
    asked = [clips[0], trap(deed), trap(deed), *clips[1:6]]
    for clip, heard in zip(asked, decoders.decode(asked, ahead=4), strict=True):
        if isinstance(clip.audio, Trap):
            assert isinstance(heard, AudioError)
            assert heard.what == reason
        else:
            assert_right(heard, clip)


@pytest.mark.slow
def test_a_hang_costs_one_clip_and_its_time(clips: list[Clip]) -> None:
    with Decoders(1, timeout=1.0) as decoders:
        first, *heard = decoders.decode([clips[0], trap("hang"), *clips[1:3]], ahead=4)
        before = decoders.processes
    assert_right(first, clips[0])
    assert isinstance(heard[0], AudioError)
    assert heard[0].what == "decoding took longer than 1 s"
    for one, clip in zip(heard[1:], clips[1:], strict=False):
        assert_right(one, clip)
    assert not is_running(before[0])


def test_a_worker_that_stands_still_is_replaced(clips: list[Clip]) -> None:
    with Decoders(1, timeout=1.0) as decoders:
        assert_right(next(decoders.decode(clips[:1], ahead=0)), clips[0])
        (stopped,) = decoders.processes
        os.kill(stopped, signal.SIGSTOP)
        for one, clip in zip(decoders.decode(clips[1:3], ahead=2), clips[1:3], strict=True):
            assert_right(one, clip)  # nobody can tell this from a hang, but it is over in another process
        assert not is_running(stopped)


def test_a_worker_killed_from_outside_costs_nothing(clips: list[Clip]) -> None:
    slow = once(clips[2], "time", "sleep(60)")
    with Decoders(1, timeout=20.0) as decoders:
        heard = decoders.decode([clips[0], slow, clips[1]], ahead=1)
        assert_right(next(heard), clips[0])
        wait_for(Path(f"{slow.audio}.tried").exists)
        os.kill(decoders.processes[0], signal.SIGKILL)
        for one, clip in zip(heard, (clips[2], clips[1]), strict=True):
            assert_right(one, clip)


@pytest.mark.parametrize("fault", [("os", "abort()"), ("time", "sleep(60)")])
def test_a_passing_fault_costs_nothing(clips: list[Clip], fault: tuple[str, str]) -> None:
    asked = [clips[0], once(clips[1], *fault), clips[2]]
    with Decoders(1, timeout=1.0) as decoders:
        for one, clip in zip(decoders.decode(asked, ahead=3), clips[:3], strict=True):
            assert_right(one, clip)


def test_a_worker_killed_while_idle_costs_nothing(clips: list[Clip]) -> None:
    with Decoders(1, timeout=20.0) as decoders:
        assert_right(next(decoders.decode(clips[:1], ahead=0)), clips[0])
        (idle,) = decoders.processes
        os.kill(idle, signal.SIGKILL)
        wait_for(lambda: not is_running(idle))
        assert_right(next(decoders.decode(clips[1:2], ahead=0)), clips[1])


def test_workers_ignore_ctrl_c_and_keep_their_noise_to_themselves(
    clips: list[Clip], decoders: Decoders, capfd: pytest.CaptureFixture[str]
) -> None:
    list(decoders.decode(clips, ahead=4))
    for process in decoders.processes:
        os.kill(process, signal.SIGINT)
    noisy, *heard = decoders.decode([trap("print"), *clips], ahead=4)
    assert isinstance(noisy, AudioError)  # what it printed did not get between the answers
    for one, clip in zip(heard, clips, strict=True):
        assert_right(one, clip)
    assert capfd.readouterr() == ("", "")


def open_files() -> int:
    gc.collect()  # what earlier tests have left to it is none of the decoders'
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_nothing_is_left_when_the_decoders_are_closed(clips: list[Clip]) -> None:
    files, threads = open_files(), threading.active_count()
    with Decoders(3, timeout=3600.0) as decoders:  # whoever waits for what hangs waits in vain
        heard = decoders.decode([*clips, trap("hang")] * 3, ahead=60)
        next(heard)
        processes = decoders.processes
        heard.close()  # type: ignore[attr-defined]
    assert processes
    assert not any(Path(f"/proc/{process}").exists() for process in processes)  # no zombies either
    assert (open_files(), threading.active_count()) == (files, threads)


def test_decoders_closed_at_once_leave_nothing() -> None:
    files = open_files()
    with Decoders(2, timeout=20.0) as decoders:
        pass
    assert decoders.processes == []
    assert open_files() == files


def test_an_abandoned_round_does_not_disturb_the_next(clips: list[Clip], decoders: Decoders) -> None:
    abandoned = decoders.decode([trap("nap")] * 2 + clips * 4, ahead=40)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    for one, clip in zip(decoders.decode(clips, ahead=4), clips, strict=True):
        assert_right(one, clip)


PARENT = """
import sys, time
sys.path.insert(0, "tests/emonet/audio")
from pathlib import Path
from test_decoders import trap
from emonet.clips import Clip
from emonet.audio import Decoders
with Decoders(2, timeout=60.0) as decoders:
    missing = Clip("missing", Path("/nowhere"), "s", "train")
    heard = decoders.decode([missing] * 4 + ([trap("hang")] * 2 if sys.argv[1] == "hang" else []), ahead=9)
    for _ in range(4):
        next(heard)
    time.sleep(0.5)  # both are at the others by now
    print(*decoders.processes, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("deed", ["idle", "hang"])
def test_workers_end_when_their_parent_is_killed(deed: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, deed],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    processes = [int(process) for process in parent.stdout.readline().split()]
    assert len(processes) == 2
    assert all(is_running(process) for process in processes)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not any(is_running(process) for process in processes))


SCRIPT = """
print("started", flush=True)
import sys
from pathlib import Path
from emonet.audio import Decoders
from emonet.clips import Clip
with Decoders(2, timeout=20.0) as decoders:
    print([len(heard.samples) for heard in decoders.decode([Clip("a", Path(sys.argv[1]), "s", "train")] * 3, ahead=2)])
"""


def test_relative_paths_start_from_where_the_process_is_now(
    clips: list[Clip], decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_right(next(decoders.decode(clips[:1])), clips[0])  # the workers have started somewhere
    monkeypatch.chdir(Path(str(clips[1].audio)).parent)
    near = Clip("near", Path(Path(str(clips[1].audio)).name), "s", "train")
    assert_right(next(decoders.decode([near])), clips[1])


def test_a_script_without_a_guard_is_not_run_again(clips: list[Clip], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(clips[3].audio)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["started", "[8000, 8000, 8000]"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("#!/bin/sh\necho 'ImportError: numpy is gone' >&2\nexit 1\n", "ImportError: numpy is gone"),
        ("#!/bin/sh\nexit 4\n", "exit code 4"),
        (None, "No such file or directory"),
    ],
)
def test_workers_that_cannot_start_are_one_clear_error(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, found: str
) -> None:
    python = tmp_path / "python"
    if program is not None:
        python.write_text(program)
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with (
        pytest.raises(EmonetError, match=f"(?s)a process of our own cannot start.*found: +{found}"),
        Decoders(2, timeout=20.0) as decoders,
    ):
        list(decoders.decode(clips, ahead=2))


def test_a_worker_that_never_answers_is_an_error(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("emonet.audio.decoding_worker.START_SECONDS", 0.5)
    with (
        pytest.raises(EmonetError, match=r"no answer within 0\.5 s"),
        Decoders(1, timeout=20.0) as decoders,
    ):
        list(decoders.decode(clips, ahead=2))


@pytest.mark.timeout(30)  # who waits for a clip would wait for ever
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot start.*found: +No space left on device"),
        (FileNotFoundError("no usable temporary directory"), "cannot start.*found: +no usable temporary directory"),
        (ZeroDivisionError("a bug"), "ended unexpectedly.*found: +ZeroDivisionError: a bug\n.*try: "),
    ],
)
def test_whatever_keeps_workers_from_starting_is_an_error(
    clips: list[Clip], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(children.tempfile, "TemporaryFile", fail)
    with pytest.raises(EmonetError, match=f"(?s){message}"), Decoders(2, timeout=20.0) as decoders:
        list(decoders.decode(clips, ahead=2))


@pytest.mark.timeout(30)
def test_a_thread_that_dies_in_the_middle_refuses_its_clips(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoders(1, timeout=20.0) as decoders:
        assert_right(next(decoders.decode(clips[:1], ahead=0)), clips[0])
        with monkeypatch.context() as patch:
            patch.setattr(children.Child, "receive", lambda *arguments: {}["a bug"])
            with pytest.raises(EmonetError, match=r"(?s)ended unexpectedly.*KeyError: 'a bug'"):
                list(decoders.decode(clips, ahead=2))
        assert_right(next(decoders.decode(clips[1:2])), clips[1])  # the next ones are not refused for it


def test_a_process_that_could_not_start_is_tried_again(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoders(1, timeout=20.0) as decoders:
        assert_right(next(decoders.decode(clips[:1])), clips[0])
        with monkeypatch.context() as patch:
            patch.setattr(children.tempfile, "TemporaryFile", lambda: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(EmonetError, match="cannot start"):
                list(decoders.decode([trap("segfault"), trap("segfault")]))
        assert_right(next(decoders.decode(clips[1:2])), clips[1])


def test_decoders_that_are_closed_answer_that_they_are(clips: list[Clip]) -> None:
    decoders = Decoders(1, timeout=20.0)
    waiting = decoders.decode([*clips[:2], trap("hang"), *clips[2:4]])
    assert_right(next(waiting), clips[0])
    decoders.close()
    with pytest.raises(EmonetError, match="the decoders are closed"):
        list(waiting)
    with pytest.raises(EmonetError, match="the decoders are closed"):
        next(decoders.decode(clips[:1]))
