"""An open recording, whichever library reads it, and what is said of one that is cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emonet.audio.notices import Notice
from emonet.clips import Audio
from emonet.errors import AudioError

RATES = (1_000, 768_000)  # Hz; outside, the header is damaged or the recording is not speech
TOLERANCE = 0.01  # share of the declared length that may be missing: some encoders round
UNSURE = 0.25  # seconds that `Source.about` may be wrong by: the largest frames of codecs in use take 0.2
CONVERT = "ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
CUT = "the stream has no end: it was cut, or its recorder killed; what is there was read"


@dataclass(frozen=True)
class Source:
    """An open recording.

    Args:
        sound: to read from; reads forwards only.
        frames: that it has, per channel (count); None where only reading to the end would tell.
        notices: what is odd about its header.
        about: its length in seconds where `frames` is None and that is known to a few frames of its codec.
        late_notices: what is odd about what has been read so far.
    """

    sound: Any
    frames: int | None
    notices: tuple[Notice, ...] = ()
    about: float | None = None
    late_notices: Callable[[], tuple[Notice, ...]] = tuple

    @property
    def seconds(self) -> float | None:
        """Its length; None where only reading to the end would tell."""
        return self.about if self.frames is None else self.frames / self.sound.samplerate


def where_of(audio: Audio) -> str:
    """How messages name a recording."""
    return f"{len(audio):,} bytes in memory" if isinstance(audio, bytes) else str(audio)


def truncated(share: float, where: str) -> AudioError:
    """Of what the header announces, only this share (0 to 1) is there."""
    return AudioError(
        f"truncated: {share:.0%} of what the header announces is there",
        where=where,
        hint="copy or download the file again",
    )


def check_rate(rate: int, where: str) -> None:
    """Refuse a sample rate (Hz) that no recording has.

    Raises:
        AudioError: if it is out of range.
    """
    if not RATES[0] <= rate <= RATES[1]:
        expected = f"{RATES[0]:,} to {RATES[1]:,} Hz"
        raise AudioError("sample rate out of range", where=where, expected=expected, found=f"{rate:,} Hz")


def length_notice(declared: float, found: float) -> tuple[Notice, ...]:
    """A notice if more is there than the header declares; both in seconds."""
    if found - declared <= TOLERANCE * found:
        return ()
    text = f"the header declares {declared:.1f} s, and {found:.1f} s are there and were read"
    return (Notice("length", text),)
