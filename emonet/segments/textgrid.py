"""TextGrid: Praat's intervals in tiers, in its long and its short form."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Literal

from emonet.errors import brief
from emonet.segments.lanes import lanes
from emonet.segments.reading import Reading, one_line
from emonet.segments.segment import Segment

# Praat reads numbers, texts and flags that stand free, and passes over whatever else is there, as `xmin =` or `[1]:`.
_TOKEN = re.compile(
    r'"(?P<text>[^"]*(?:""[^"]*)*)"|(?<!\S)(?:(?P<flag><[a-z]+>)'
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)|--undefined--)(?!\S)|!.*)",
    re.IGNORECASE,
)
_SPEAKERS = frozenset({"speaker", "speakers", "diarization", "diarisation"})  # tiers whose labels are speakers
# Tiers whose labels are what is said or heard, by somebody who is not named.
_TEXTS = frozenset(
    {"segments", "segment", "text", "texts", "transcript", "transcription", "utterances", "utterance", "sentences"}
    | {"sentence", "phrases", "phrase", "words", "word", "phones", "phonemes", "syllables", "silences", "orthography"}
)
_UNNAMED = "segments"
Kind = Literal["text", "flag", "number"]


class _BrokenError(Exception):
    """The file does not go on as it should."""

    def __init__(self, place: str, told: str) -> None:
        super().__init__(told)
        self.place = place


class _Tokens:
    """The tokens of a TextGrid, one after the other."""

    def __init__(self, text: str) -> None:
        self._tokens = (match for match in _TOKEN.finditer(text) if match.lastgroup is not None)
        self._line_ends = [match.end() for match in re.finditer(r"\r\n|\r|\n", text)]
        self.place = "line 1"

    def take(self, kind: Kind, what: str) -> str:
        """The next token.

        Raises:
            _BrokenError: if it is of another kind, or there is none.
        """
        match = next(self._tokens, None)
        if match is None:
            raise _BrokenError("", f"the file ends where {what} should be")
        self.place = f"line {1 + bisect(self._line_ends, match.start())}"
        if match.lastgroup != kind:
            raise _BrokenError(self.place, f"{brief(match[0])} stands where {what} should be")
        return match[kind].replace('""', '"')

    def number(self, what: str) -> float:
        found = self.take("number", what)
        return float("nan") if found == "--undefined--" else float(found)


def read_textgrid(text: str, reading: Reading) -> None:
    """Take the labelled intervals of interval tiers; points are passed over.

    A tier's name is the speaker and its labels are texts; the labels of a tier that is called `speaker` or the like are
    speakers, and `words`, `segments` and the like name nobody.
    """
    tokens = _Tokens(text)
    try:
        _header(tokens)
        for _ in range(_count(tokens, "tiers")):
            kind = tokens.take("text", "a tier's class")
            name = one_line(tokens.take("text", "a tier's name"))
            tokens.number("a tier's start")
            tokens.number("a tier's end")
            for _ in range(_count(tokens, "intervals")):
                start = tokens.number("a time")
                place = tokens.place
                end = tokens.number("the end of an interval") if kind == "IntervalTier" else None
                label = one_line(tokens.take("text", "a label"))
                if label and end is not None:
                    speaker, words = _meaning(name, label)
                    reading.add(place, start, end, speaker=speaker, text=words)
    except _BrokenError as error:
        reading.problems.add(error.place, str(error))


def _header(tokens: _Tokens) -> None:
    found = [tokens.take("text", f"Praat's {what}") for what in ("file type", "object class")]
    if not found[0].startswith("ooTextFile") or found[1] != "TextGrid":
        raise _BrokenError(tokens.place, f'an object of class {brief(found[1])}, where "TextGrid" is expected')
    tokens.number("the start")
    tokens.number("the end")
    tokens.take("flag", "<exists>")


def _count(tokens: _Tokens, what: str) -> int:
    number = tokens.number(f"the number of {what}")
    if not number.is_integer() or number < 0:
        raise _BrokenError(tokens.place, f"{number:g} is no number of {what}")
    return int(number)


def _meaning(tier: str, label: str) -> tuple[str, str]:
    """Speaker and text of a label; where there is no text, the writer repeats the tier's name (empty is no segment)."""
    if tier.casefold() in _SPEAKERS:
        return label, ""
    return "" if tier.casefold() in _TEXTS else tier, "" if label == tier else label


def textgrid_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments in the long form: a tier for each speaker, and one more of the same name where segments overlap."""
    end = max([seconds, *(one.end for one in segments)])
    tiers = lanes(segments)
    lines = [
        'File type = "ooTextFile"\nObject class = "TextGrid"\n',
        f"xmin = 0\nxmax = {end!r}\ntiers? <exists>\nsize = {len(tiers)}\nitem []:",
    ]
    for number, (speaker, lane) in enumerate(tiers, start=1):
        name = one_line(speaker) or _UNNAMED
        intervals = list(_intervals(lane, name, end))
        lines += [f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}']
        lines += [f"        xmin = 0\n        xmax = {end!r}\n        intervals: size = {len(intervals)}"]
        for position, (start, stop, label) in enumerate(intervals, start=1):
            lines += [f"        intervals [{position}]:\n            xmin = {start!r}\n            xmax = {stop!r}"]
            lines += [f"            text = {_quoted(label)}"]
    return "\n".join(lines) + "\n"


def _intervals(lane: Sequence[Segment], name: str, end: float) -> Iterator[tuple[float, float, str]]:
    """Intervals that fill the time from 0 to the end, without labels where there is no segment."""
    reached = 0.0
    for one in lane:
        if reached < one.start:
            yield reached, one.start, ""
        yield one.start, one.end, one_line(one.text) or name
        reached = one.end
    if reached < end:
        yield reached, end, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
