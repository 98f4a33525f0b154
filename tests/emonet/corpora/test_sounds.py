"""What was heard of clips: copies, leaks, and notices of which few are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.audio import Notice
from emonet.clips import SPLITS, Clip
from emonet.corpora import SHOWN, Sounds
from emonet.errors import RequestError


def clips(count: int) -> tuple[Clip, ...]:
    splits = [SPLITS[row % len(SPLITS)] for row in range(count)]
    return tuple(Clip(f"c/{row}", b"", f"s/{split}", split) for row, split in enumerate(splits))


def heard(contents: list[str | None]) -> Sounds:
    some = clips(len(contents))
    sounds = Sounds("some", some)
    for row, content in enumerate(contents):
        sounds.add(row, some[row], content=content, seconds=1.5, notices=())
    return sounds


@given(contents=st.lists(st.none() | st.sampled_from(["a", "b", "c", "ab", ""]), max_size=30))
def test_copies_and_leaks_are_all_clips_of_the_same_content(contents: list[str | None]) -> None:
    some = clips(len(contents))
    groups: dict[str, list[Clip]] = {}
    for clip, content in zip(some, contents, strict=True):
        if content is not None:
            groups.setdefault(content, []).append(clip)
    several = [group for group in groups.values() if len(group) > 1]
    report = heard(contents).report()
    assert report.copies == tuple(
        tuple(clip.id for clip in group) for group in several if len({clip.split for clip in group}) == 1
    )
    assert report.leaks == tuple(
        tuple(f"{clip.id} ({clip.split})" for clip in group)
        for group in several
        if len({clip.split for clip in group}) > 1
    )
    assert (report.listened, report.hours_heard) == (len(contents), round(1.5 * len(contents) / 3600, 4))


def test_leaks_are_refused_by_name() -> None:
    heard(["a", "b", None, "a"]).require_apart()  # of one split
    with pytest.raises(
        RequestError, match=r"(?s)same sound is in two splits.*some.*c/0 \(train\) = c/1 \(validation\)"
    ):
        heard(["a", "a", "b"]).require_apart()


def test_of_a_thousand_notices_the_first_ones_are_shown() -> None:
    some = clips(1000)
    sounds = Sounds("some", some)
    for row, clip in enumerate(some):
        sounds.add(row, clip, content=None, seconds=1.0, notices=[Notice("noise", f"noise {row}")] if row else [])
    sounds.refuse(some[7], "cut short")
    report = sounds.report()
    (noise,) = report.notices
    assert (noise.kind, noise.clips, noise.example) == ("noise", 999, "noise 1")
    assert noise.ids == tuple(f"c/{row}" for row in range(1, SHOWN + 1))
    assert [(one.id, one.reason) for one in report.unreadable] == [("c/7", "cut short")]


def test_copies_among_many_clips_are_found() -> None:
    count = 30_000
    contents: list[str | None] = [f"{one:032x}" for one in range(count)]
    contents[count - 3] = contents[0]
    assert heard(contents).report().copies == (("c/0", f"c/{count - 3}"),)
