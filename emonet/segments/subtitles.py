"""Subtitles: SRT, and WebVTT with its voices."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from emonet.errors import brief
from emonet.segments.reading import Reading, numbered, one_line
from emonet.segments.segment import Segment

_TIME = r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d+))?"  # hours are optional; SRT has commas, WebVTT points
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")  # what follows places the words on the screen
_STYLES = re.compile(r"</?(?:i|b|u|s|font)\b[^>]*>|\{\\[^}]*\}", re.IGNORECASE)
_SPEAKER = re.compile(r"\[([^\]]+)\]: ?(.*)", re.DOTALL)  # as whisperX writes it
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"<[^>]*>")


@dataclass
class _Cue:
    place: str
    start: float
    end: float
    lines: list[str] = field(default_factory=list)


def read_srt(text: str, reading: Reading) -> None:
    """Take each subtitle; who speaks is known where the text begins with `[NAME]: `."""
    cues: list[_Cue] = []
    for place, line in numbered(text):
        if (cue := _cue(place, line, reading)) is not None:
            if cues:
                _drop_number(cues[-1].lines)
            cues.append(cue)
        elif cues:
            cues[-1].lines.append(line)
    for cue in cues:
        words = _STYLES.sub("", "\n".join(cue.lines)).strip()
        match = _SPEAKER.fullmatch(words)
        speaker, words = match.groups() if match else ("", words)
        reading.add(cue.place, cue.start, cue.end, speaker=speaker, text=words)


def _drop_number(lines: list[str]) -> None:
    """Take away the number of the next subtitle."""
    while lines and not lines[-1].strip():
        del lines[-1]
    if lines and lines[-1].strip().isdigit():
        del lines[-1]


def read_vtt(text: str, reading: Reading) -> None:
    """Take each cue, one for each of its voices; notes, styles and settings of cues are passed over."""
    if not re.match(r"WEBVTT(?:[ \t\r\n]|$)", text):
        reading.problems.add("line 1", "a WebVTT file begins with WEBVTT")
        return
    cue: _Cue | None = None
    cues: list[_Cue] = []
    for place, line in numbered(text):
        found = _cue(place, line, reading)
        if found is not None:
            cue = found
            cues.append(found)
        elif not line.strip():
            cue = None
        elif cue is not None:
            cue.lines.append(line)
    for cue in cues:
        before, *voices = _VOICE.split("\n".join(cue.lines))
        spoken = list(zip(voices[::2], voices[1::2], strict=True))
        if _plain(before) or not spoken:
            spoken.insert(0, ("", before))
        for speaker, words in spoken:
            reading.add(cue.place, cue.start, cue.end, speaker=html.unescape(speaker), text=_plain(words))


def _plain(words: str) -> str:
    return html.unescape(_TAG.sub("", words)).strip()


def _cue(place: str, line: str, reading: Reading) -> _Cue | None:
    """The cue that a line begins, if it is a line of times; one that only looks like it is noted."""
    if "-->" not in line:
        return None
    match = _TIMES.fullmatch(line)
    if match is None:
        reading.problems.add(
            place, f"{brief(line.strip())} is no line of two times, as 00:00:01,500 --> 00:00:04,000", "times"
        )
        return None
    times = match.groups()
    return _Cue(place, _seconds(*times[:4]), _seconds(*times[4:]))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return round(3600 * int(hours or 0) + 60 * int(minutes) + float(f"{seconds}.{fraction or 0}"), 9)


def srt_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments as subtitles in milliseconds, with `[NAME]: ` before what a speaker says."""
    cues = []
    for number, one in enumerate(segments, start=1):
        speaker = one_line(one.speaker).replace("]", ")")
        words = _without_arrows(f"[{speaker}]: {one_line(one.text)}" if speaker else one_line(one.text))
        cues.append(f"{number}\n{_times(one, ',')}\n{words.strip()}\n")
    return "\n".join(cues)


def vtt_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments as WebVTT in milliseconds, speakers as voices."""
    cues = ["WEBVTT\n"]
    for one in segments:
        speaker, words = (html.escape(one_line(text), quote=False) for text in (one.speaker, one.text))
        cues.append(f"{_times(one, '.')}\n{f'<v {speaker}>{words}</v>' if speaker else words}\n")
    return "\n".join(cues)


def _without_arrows(text: str) -> str:
    return text.replace("-->", "->")


def _times(one: Segment, point: str) -> str:
    start = round(1000 * one.start)
    return " --> ".join(_clock(at, point) for at in (start, max(round(1000 * one.end), start + 1)))


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
