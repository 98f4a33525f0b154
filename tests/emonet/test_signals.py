from __future__ import annotations

import os
import signal
import threading

import pytest

from emonet import signals
from emonet.signals import Stopped, ended_by_signal, heeded, received, shielded

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
            try:
                send(signal.SIGHUP)
            except Stopped:
                raise ValueError("broken pipe") from None
        send_and_catch(signal.SIGTERM)
        assert received() == signal.SIGHUP, "the first one is the reason"
        assert ended_by_signal(ValueError())
    assert ended_by_signal(KeyboardInterrupt())


def send_and_catch(number: int) -> None:
    with pytest.raises(Stopped):
        send(number)


def test_within_a_shield_signals_wait_for_the_end_of_the_block() -> None:
    done = []
    with heeded():
        with pytest.raises(Stopped, match="SIGTERM"), shielded():
            send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
            with shielded():
                send(signal.SIGTERM)
            done.append("all of it")
        assert done
        with pytest.raises(Stopped, match="SIGHUP") as stopped, shielded():
            send(signal.SIGHUP)
            raise ValueError("as well")
        assert isinstance(stopped.value.__context__, ValueError)
        with shielded():
            pass
        send_and_catch(signal.SIGINT)


def test_a_shield_does_not_hold_for_ever() -> None:
    with heeded(), pytest.raises(Stopped), shielded(seconds=0):
        send(signal.SIGTERM)
        pytest.fail("it was not heard")


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
