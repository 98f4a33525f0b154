from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from emonet.runtime import prefetched


def test_all_items_in_order() -> None:
    assert list(prefetched(lambda: iter(range(10)))) == list(range(10))
    assert list(prefetched(lambda: iter([None, None]))) == [None, None]


def test_errors_reach_the_reader() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("on purpose")

    reader = prefetched(broken)
    assert next(reader) == 1
    with pytest.raises(ValueError, match="on purpose"):
        next(reader)


def test_the_thread_ends_when_the_reader_leaves() -> None:
    reader = prefetched(lambda: iter(range(1000)), ahead=1)
    assert next(reader) == 0
    assert any(thread.name == "prefetch" for thread in threading.enumerate())
    reader.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
