from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.objects import Ranges, SlicedFile


@given(
    content=st.binary(max_size=300),
    asked=st.lists(st.tuples(st.integers(-320, 320), st.integers(-320, 320)), max_size=6),
    sizes=st.tuples(st.integers(1, 64), st.integers(0, 320), st.integers(1, 64)),
    wanted=st.binary(min_size=1, max_size=3),
)
def test_ranges_are_the_bytes_that_they_stand_for(
    content: bytes, asked: list[tuple[int, int]], sizes: tuple[int, int, int], wanted: bytes
) -> None:
    head, whole, block = sizes
    ranges = Ranges(
        lambda start, size: content[start : start + size], len(content), head=head, whole=whole, block=block
    )
    assert len(ranges) == len(content)
    for first, last in asked:
        assert ranges[first:last] == content[first:last]
    if content:
        assert (ranges[0], ranges[-1]) == (content[0], content[-1])
    assert ranges.find(wanted) == content.find(wanted)
    assert ranges.find(wanted, 7, 90) == content.find(wanted, 7, 90)
    assert ranges.rfind(wanted) == content.rfind(wanted)
    assert ranges.file(3).read() == content[3:]
    with SlicedFile(content) as file:
        file.seek(-5, 2)
        assert file.read(3) == content[max(0, len(content) - 5) :][:3]


def test_only_what_is_looked_at_is_read() -> None:
    asked: list[tuple[int, int]] = []

    def read(start: int, size: int) -> bytes:
        asked.append((start, size))
        return bytes(size)

    small = Ranges(read, 1000, head=10, whole=1000)
    assert small[2:8] == bytes(6)
    assert asked == [(0, 10)]
    assert small[100] == 0
    assert asked == [(0, 10), (10, 990)]  # the rest at once
    asked.clear()
    large = Ranges(read, 1001, head=10, whole=1000, block=100)
    assert large[950:1001] == bytes(51)
    assert large[990:] == bytes(11)
    assert asked == [(900, 100), (1000, 1)]


def test_an_error_that_a_library_swallows_is_kept() -> None:
    def read(start: int, size: int) -> bytes:
        raise OSError("away")

    ranges = Ranges(read, 10)
    with pytest.raises(OSError, match="away"):
        ranges[0]
    assert str(ranges.error) == "away"
