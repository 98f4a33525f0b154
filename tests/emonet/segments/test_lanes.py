from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emonet.segments import Segment
from emonet.segments.lanes import lanes

TIMES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.sampled_from("ab")), max_size=30)


@given(TIMES)
def test_each_goes_into_the_first_tier_that_is_free(times: list[tuple[int, int, str]]) -> None:
    segments = [Segment(float(start), float(start + long), speaker=who) for start, long, who in times]
    plain: dict[str, list[list[Segment]]] = {}
    for one in sorted(segments):
        tiers = plain.setdefault(one.speaker, [])
        free = next((tier for tier in tiers if tier[-1].end <= one.start), None)
        (tiers.append([one]) if free is None else free.append(one))
    assert lanes(segments) == [(who, tier) for who, tiers in plain.items() for tier in tiers]
