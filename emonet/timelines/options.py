"""Options of a timeline: how a recording is cut, who speaks, and what counts as speech."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emonet.errors import RequestError
from emonet.schema import Schema

Mode = Literal["speech", "sliding"]
Format = Literal["csv", "parquet", "json", "html", "png", "vtt", "srt", "eaf", "TextGrid", "rttm", "hume"]
"""Suffixes of the files that a timeline can be written to."""


class TimelineOptions(Schema):
    """How a recording becomes segments; everything here changes the result."""

    mode: Mode = "speech"
    """speech: segments of speech, cut at silence; sliding: windows at equal distances."""
    channels: Literal["mix", "each"] = "mix"
    """mix: the channels' mean, as everywhere; each: every channel by itself, as a speaker of its own."""
    speakers: Literal["known", "cluster"] = "known"
    """known: those of the given segments, or the channels; cluster: told apart by their voices (extra `speakers`)."""
    voices: int | None = Field(None, ge=1)
    """How many speakers there are, where that is known, for `cluster` (count)."""
    voice_distance: float = Field(0.45, gt=0, lt=2)
    """Segments are of one speaker below this cosine distance between voices, for `cluster` (0 to 2)."""
    longest: float = Field(10.0, ge=0.5)
    """A segment is at most this long (seconds), and never longer than what the model hears."""
    shortest: float = Field(1.0, ge=0)
    """A segment shorter than this is joined with its neighbour, if that is near (seconds)."""
    near: float = Field(0.2, ge=0)
    """Neighbours are near where no more silence than this lies between them, beside their padding (seconds)."""
    window: float | None = Field(None, ge=0.2)
    """Length of sliding windows (seconds); by default 3, or what the model hears if that is less."""
    hop: float = Field(1.0, ge=0.1)
    """From the start of one sliding window to that of the next (seconds)."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability above which there is speech (0 to 1)."""
    pause: float = Field(0.3, ge=0.032)
    """Silence that ends a segment of speech (seconds)."""
    least_speech: float = Field(0.25, ge=0)
    """Shorter speech is taken for none (seconds)."""
    padding: float = Field(0.5, ge=0)
    """Added before and behind speech, as far as the neighbour leaves room, and a tenth of the longest segment at most
    (seconds): models have learned with silence around."""
    speech_share: float = Field(0.1, ge=0, le=1)
    """A segment with less speech in it is flagged `no speech` (share of its time)."""

    @model_validator(mode="after")
    def _check(self) -> TimelineOptions:
        if self.shortest > self.longest:
            raise RequestError(
                "the shortest segment is longer than the longest",
                expected=f"at most {self.longest:g} s",
                found=f"{self.shortest:g} s",
                hint=f"--shortest {self.longest:g}",
            )
        if self.voices is not None and self.speakers == "known":
            raise RequestError(
                "how many voices there are is asked where they are told apart",
                found=f"--voices {self.voices} without --speakers cluster",
                hint="--speakers cluster",
            )
        return self
