"""Items of several threads are computed together, each with its own answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from emonet.serving.batching import Batcher
from emonet.serving.guards import Refusal


class Doubling:
    """Doubles numbers; a pass waits until it may go on."""

    def __init__(self) -> None:
        self.passes: list[tuple[Any, tuple[int, ...]]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, by: Any, items: Sequence[int]) -> list[int]:
        self.passes.append((by, tuple(items)))
        assert self.may_go.wait(20)
        if -1 in items:
            raise ValueError("below zero")
        return [2 * item for item in items]


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
def batcher(doubling: Doubling) -> Iterator[Batcher[int, int]]:
    made: Batcher[int, int] = Batcher(doubling, size=4, gather=60, most=10, observe=lambda _: None)
    made.start()
    yield made
    doubling.may_go.set()
    made.stop()


def test_one_alone_does_not_wait(batcher: Batcher[int, int], doubling: Doubling) -> None:
    with batcher.announce(1) as ticket:
        assert ticket.submit("a", 3).result(10) == 6
    assert doubling.passes == [("a", (3,))]


def test_what_is_announced_is_waited_for(batcher: Batcher[int, int], doubling: Doubling) -> None:
    with batcher.announce(2) as first, batcher.announce(1) as second:
        answers = [first.submit("a", 1), second.submit("a", 2)]
        threading.Timer(0.05, lambda: answers.append(first.submit("a", 3))).start()
        assert answers[0].result(20) == 2
    assert doubling.passes == [("a", (1, 2, 3))]


def test_what_does_not_come_is_not_waited_for_longer(doubling: Doubling) -> None:
    hasty: Batcher[int, int] = Batcher(doubling, size=4, gather=0.1, most=10, observe=lambda _: None)
    hasty.start()
    with hasty.announce(2) as ticket:
        assert ticket.submit("a", 1).result(10) == 2  # after 0.1 s
        ticket.leave_out()
        assert ticket._left == 0
    hasty.stop()
    assert (hasty.held, hasty._announced) == (0, 0)


def test_what_cannot_be_used_is_waited_for_no_longer(batcher: Batcher[int, int], doubling: Doubling) -> None:
    with batcher.announce(2) as ticket:
        answer = ticket.submit("a", 1)
        ticket.leave_out()
        assert answer.result(10) == 2


def test_no_pass_is_larger_than_it_may_be_or_of_two_models(batcher: Batcher[int, int], doubling: Doubling) -> None:
    doubling.may_go.clear()
    with batcher.announce(1) as first:
        answers = [first.submit("old", 0)]
        while not doubling.passes:
            pass
        with batcher.announce(8) as ticket:
            answers += [ticket.submit("new" if n in (2, 5) else "old", n) for n in range(1, 9)]
            doubling.may_go.set()
            assert [one.result(20) for one in answers] == [2 * n for n in range(9)]
    assert doubling.passes[1:] == [("old", (1, 3, 4, 6)), ("new", (2, 5)), ("old", (7, 8))]


def test_what_fails_costs_itself_only(batcher: Batcher[int, int]) -> None:
    with batcher.announce(3) as ticket:
        good, bad, other = (ticket.submit("a", n) for n in (1, -1, 2))
        assert (good.result(5), other.result(5)) == (2, 4)
        with pytest.raises(ValueError, match="below zero"):
            bad.result(5)


def test_who_does_not_wait_is_not_computed(batcher: Batcher[int, int], doubling: Doubling) -> None:
    doubling.may_go.clear()
    with batcher.announce(1) as ahead:
        first = ahead.submit("a", 0)
        while not doubling.passes:
            pass
        with batcher.announce(2) as ticket:
            given_up, last = ticket.submit("a", 1), ticket.submit("a", 2)
            assert given_up.cancel()
            doubling.may_go.set()
            assert (first.result(20), last.result(20)) == (0, 4)
    assert doubling.passes[1:] == [("a", (2,))]


def test_more_than_is_taken_on(batcher: Batcher[int, int]) -> None:
    with batcher.announce(8):
        with pytest.raises(Refusal, match="8 recordings wait or are at work") as told:
            batcher.announce(3)
        assert (told.value.status, told.value.headers["Retry-After"]) == (429, "1")
        with batcher.announce(2):
            assert batcher.held == 10
    with batcher.announce(30):  # one large request alone is taken
        assert batcher.held == 30
    assert batcher.held == 0


def test_the_end_waits_for_what_is_asked(doubling: Doubling) -> None:
    ending: Batcher[int, int] = Batcher(doubling, size=1, gather=0, most=10, observe=lambda _: None)
    ending.start()
    with ending.announce(3) as ticket:
        answers = [ticket.submit("a", n) for n in range(3)]
        ending.stop()
        assert [one.result(0) for one in answers] == [0, 2, 4]
