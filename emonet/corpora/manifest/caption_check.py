"""Captions that a captioner cannot learn as they are: too long, or with special tokens inside; found without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from emonet.captioner import MOST, count_tokens, special_tokens
from emonet.tables import Problems


@dataclass
class CaptionCheck:
    """Looks at the captions of a table; nothing is refused here, since only `emonet pretrain` reads captions."""

    found: Problems = field(default_factory=Problems)

    def look_at(self, caption: str, place: str) -> None:
        """Note what is wrong with a caption, if anything is."""
        if len(caption.encode()) > MOST and (tokens := count_tokens(caption)) > MOST:
            told = f"the caption has {tokens} tokens, more than the {MOST} that a captioner takes"
            told += ": emonet pretrain refuses it, unless it is of a test clip"
            self.found.add(place, told, "long")
        if inside := special_tokens(caption):
            told = f"the caption holds {', '.join(inside)}, which is no token there but text like any other"
            self.found.add(place, told, "special")

    def lines(self) -> list[str]:
        """What was found, each kind once."""
        return self.found.lines()
