"""The errors that a user sees: what went wrong, where, both values, and what to type next."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from emonet.names import line_by_line, on_one_line

_LONGEST = 600  # characters of a line that tells what is wrong; paths and commands stay whole
_UNDER = "\n" + 12 * " "  # below a value that begins in the line before


class EmonetError(Exception):
    """A failure with a message made for the person at the keyboard.

    Args:
        what: one sentence, what went wrong.
        where: the file, line, field or clip it went wrong in.
        expected: the value that would have been right.
        found: the value that was found.
        hint: what to type or do next.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what = "\n".join(map(_cut, line_by_line(what).split("\n")))
        self.hint = hint
        parts = {
            "where": None if where is None else on_one_line(where),
            "expected": None if expected is None else on_one_line(expected),
            # Other libraries' messages have several lines; none of them may look like a part of ours.
            "found": None if found is None else line_by_line(_cut(str(found))).replace("\n", _UNDER),
            "try": None if hint is None else on_one_line(hint),
        }
        lines = [f"  {name + ':':<10}{value}" for name, value in parts.items() if value is not None]
        super().__init__("\n".join([what, *lines]))


class RequestError(EmonetError):
    """The request was wrong (exit code 2): a name, a path, a value or a combination that cannot work."""

    exit_code = 2


class AudioError(EmonetError):
    """One recording cannot be used."""

    @property
    def reason(self) -> str:
        """One line, with what to do about it: what reports show beside the file."""
        return self.what if self.hint is None else f"{self.what}; try: {self.hint}"


class _Brief(reprlib.Repr):
    """`repr` that shows the size of bytes, and no more than the first of what is long."""

    def repr_bytes(self, value: bytes, level: int) -> str:  # noqa: ARG002 as reprlib calls it
        return f"{len(value):,} bytes" if len(value) > self.maxother else repr(value)

    def repr_str(self, value: str, level: int) -> str:  # noqa: ARG002 as reprlib calls it
        cut = len(value) > self.maxstring
        return f"{value[: self.maxstring]!r}... ({len(value):,} characters)" if cut else repr(value)


_BRIEF = _Brief()
_BRIEF.maxstring, _BRIEF.maxother = 80, 80


def brief(value: object) -> str:
    """`repr` of a value for a message: bytes by their number, long text and lists by their beginning."""
    return _BRIEF.repr(value)


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}... ({len(line):,} characters)"


def raise_collected(what: str, problems: Sequence[str], *, where: object = None, hint: str | None = None) -> None:
    """Raise one `RequestError` that lists all `problems` (the first 10, then a count); return if there are none.

    Raises:
        RequestError: if `problems` is not empty.
    """
    if not problems:
        return
    shown = [f"    - {problem}" for problem in problems[:10]]
    if len(problems) > len(shown):
        shown.append(f"    ... and {len(problems) - len(shown)} more")
    raise RequestError("\n".join([what, *shown]), where=where, hint=hint)
