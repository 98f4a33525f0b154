from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from emonet.runtime import Uncut, ended_by_signal, heeded, shielded, signals
from emonet.runtime.signals import Stopped, received

EACH = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", EACH)
def test_each_signal_becomes_the_same_exception(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with heeded():
        assert received() is None
        with pytest.raises(Stopped, match=number.name) as stopped:
            send(number)
        assert isinstance(stopped.value, KeyboardInterrupt), "libraries know that one"
        assert stopped.value.number == received() == number
    assert received() is None
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", EACH)
def test_what_this_process_was_started_to_ignore_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with heeded():
            send(number)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_signal_is_known_even_where_somebody_swallowed_or_changed_the_exception() -> None:
    with heeded():
        assert not ended_by_signal(ValueError())
        with pytest.raises(ValueError, match="broken pipe"):
            break_pipe_after(signal.SIGHUP)
        send_and_catch(signal.SIGTERM)
        assert received() == signal.SIGHUP, "the first one is the reason"
        assert ended_by_signal(ValueError())
    assert ended_by_signal(KeyboardInterrupt())


def break_pipe_after(number: int) -> None:
    try:
        send(number)
    except Stopped:
        raise ValueError("broken pipe") from None


def send_and_catch(number: int) -> None:
    with pytest.raises(Stopped):
        send(number)


def test_a_signal_that_comes_within_a_destructor_is_heard_soon(capsys: pytest.CaptureFixture[str]) -> None:
    """Python ignores what is raised there; so it does in callbacks of weak references, of which each import has some."""

    class Ending:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    def drop() -> None:
        ending.clear()
        passed.append("nothing was raised")
        time.sleep(10)

    ending, passed = [Ending()], list[str]()
    with heeded(), pytest.raises(Stopped, match="SIGTERM"):
        drop()
    assert passed
    assert "Exception ignored" not in capsys.readouterr().err


def shielded_block(*numbers: int, error: Exception | None = None, seconds: float = 10) -> None:
    with shielded(seconds):
        send(*numbers)
        with shielded():
            send(*numbers)
        done.append(numbers)
        if error is not None:
            raise error


done: list[tuple[int, ...]] = []


def test_within_a_shield_signals_wait_for_the_end_of_the_block() -> None:
    done.clear()
    with heeded():
        with pytest.raises(Stopped, match="SIGTERM"):
            shielded_block(signal.SIGTERM, signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGHUP") as stopped:
            shielded_block(signal.SIGHUP, error=ValueError("as well"))
        assert isinstance(stopped.value.__context__, ValueError)
        shielded_block()
        assert len(done) == 3
        send_and_catch(signal.SIGINT)


def test_a_shield_does_not_hold_for_ever() -> None:
    done.clear()
    with heeded(), pytest.raises(Stopped):
        shielded_block(signal.SIGTERM, seconds=0)
    assert not done


def test_other_threads_change_nothing() -> None:
    before = [signal.getsignal(number) for number in EACH]
    found = []

    def work() -> None:
        with heeded(), shielded():
            found.append([signal.getsignal(number) for number in EACH])
            inside.set()
            leave.wait(30)

    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert inside.wait(30)
        with heeded():
            send_and_catch(signal.SIGTERM)  # its shield is not the main thread's
    finally:
        leave.set()
        thread.join()
    assert found == [before]


def test_a_child_leaves_signals_to_its_parent() -> None:
    child = os.fork()
    if not child:
        signals.leave_to_parent()
        send(*EACH)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Slow:
    def call(self, *numbers: int) -> str:
        send(*numbers)
        done.append(numbers)
        return "made"


class Whole(Uncut, Slow):
    """A library's class whose calls are not cut short."""


def test_calls_of_a_library_are_not_cut_short() -> None:
    done.clear()
    with heeded():
        with pytest.raises(Stopped):
            Slow().call(signal.SIGTERM)
        assert not done
        with pytest.raises(Stopped):
            Whole().call(signal.SIGTERM)
        assert done == [(signal.SIGTERM,)]
        assert Whole().call() == "made"


def test_a_signal_that_waits_too_long_is_heard_without_another_one() -> None:
    def block() -> None:
        with shielded(seconds=0.1):
            send(signal.SIGTERM)
            time.sleep(10)

    began = time.monotonic()
    with heeded(), pytest.raises(Stopped):
        block()
    assert time.monotonic() - began < 5


def held(act: Callable[[Callable[[], int | None]], object], seconds: float = 60) -> None:
    with signals.held(seconds) as waiting:
        act(waiting)


def test_a_held_signal_waits_for_a_good_moment_and_a_second_one_does_not() -> None:
    done = []

    def step(waiting: Callable[[], int | None]) -> None:
        assert waiting() is None
        send(signal.SIGTERM)
        assert waiting() == received() == signal.SIGTERM
        done.append("step")

    def hurried(_: object) -> None:
        send(signal.SIGTERM, signal.SIGINT)
        done.append("another step")

    def failing(_: object) -> None:
        send(signal.SIGTERM)
        raise ValueError("its own")

    for act, error, match in ((step, Stopped, "SIGTERM"), (hurried, Stopped, "SIGINT"), (failing, ValueError, "own")):
        with heeded(), pytest.raises(error, match=match):
            held(act)
    assert done == ["step"]


def test_a_held_signal_does_not_wait_for_ever_nor_cuts_what_is_shielded() -> None:
    done = []

    def asleep(_: object) -> None:
        send(signal.SIGTERM)
        time.sleep(30)
        done.append("slept")

    def guarded(_: object) -> None:
        with shielded():
            send(signal.SIGTERM)
        done.append("the first one still waits")
        with shielded():
            send(signal.SIGHUP)
            done.append("whole")
        done.append("too far")

    with heeded(), pytest.raises(Stopped, match="SIGTERM"):
        held(asleep, 0.2)
    with heeded(), pytest.raises(Stopped, match="SIGHUP"):
        held(guarded)
    assert done == ["the first one still waits", "whole"]


def test_an_end_for_the_sake_of_another_process_has_its_signal() -> None:
    with heeded():
        with pytest.raises(Stopped, match="SIGTERM"):
            signals.stop(signal.SIGTERM)
        assert received() == signal.SIGTERM
