"""What services cost: a price, an estimate before anything is sent, and a limit that is kept while answers come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self, final

import yaml
from pydantic import Field, NonNegativeFloat

from emonet.errors import EmonetError, RequestError
from emonet.schema import Schema

_LETTERS = 3  # characters of English a token: rather too few, so that an estimate is rather too high


class Price(Schema):
    """What an answer costs, in US dollars; what is 0 is not charged."""

    per_clip: NonNegativeFloat = 0.0
    """A request (USD)."""
    per_minute: NonNegativeFloat = 0.0
    """Audio that is sent (USD a minute)."""
    audio_tokens: NonNegativeFloat = 0.0
    """Tokens that a second of audio is counted as (count)."""
    per_million_audio: NonNegativeFloat = 0.0
    """Tokens of audio (USD a million)."""
    per_million_text: NonNegativeFloat = 0.0
    """Tokens of the prompt (USD a million)."""
    per_million_output: NonNegativeFloat = 0.0
    """Tokens of the answer, thinking included (USD a million)."""
    output_tokens: NonNegativeFloat = 600.0
    """Tokens that an answer is taken to have before it is known (count)."""
    as_of: str = Field("", max_length=200)
    """When the price was looked up, and where."""

    def of(self, seconds: float, letters: int, output_tokens: float | None = None) -> float:
        """Dollars for one clip.

        Args:
            seconds: of audio.
            letters: of the prompt (characters).
            output_tokens: of the answer, once it is known (count).
        """
        written = self.output_tokens if output_tokens is None else output_tokens
        tokens = (
            seconds * self.audio_tokens * self.per_million_audio
            + letters / _LETTERS * self.per_million_text
            + written * self.per_million_output
        )
        return self.per_clip + seconds / 60 * self.per_minute + tokens / 1e6


@cache
def known_prices() -> dict[str, Price]:
    """Model -> its list price on the day that it names."""
    rows = yaml.safe_load(resources.files("emonet.peers").joinpath("prices.yaml").read_text("utf-8"))
    return {name: Price.model_validate(row) for name, row in rows.items()}


@dataclass(frozen=True)
class CostEstimate:
    """What the answers that are not yet kept will cost.

    Args:
        peer: whom they are asked of.
        clips: to be sent (count).
        seconds: of their audio, as much as is sent.
        dollars: about (USD); None where no price is known.
        as_of: when the price was looked up, and where.
    """

    peer: str
    clips: int
    seconds: float
    dollars: float | None
    as_of: str = ""

    @classmethod
    def of_all(cls, estimates: Sequence[Self]) -> Self:
        """Of several peers together; where one has no price, nobody knows the whole."""
        known = [one.dollars for one in estimates if one.dollars is not None]
        return cls(
            peer=", ".join(dict.fromkeys(one.peer for one in estimates)),
            clips=sum(one.clips for one in estimates),
            seconds=sum(one.seconds for one in estimates),
            dollars=sum(known) if len(known) == len(estimates) else None,
            as_of="; ".join(dict.fromkeys(one.as_of for one in estimates if one.as_of)),
        )

    def __str__(self) -> str:
        of = f"{self.clips:,} clip{'s' * (self.clips != 1)}, {self.seconds / 60:.1f} minutes"
        cost = "nobody knows how much" if self.dollars is None else f"about {self.dollars:.2f} US dollars"
        return f"{cost} for {of}{f' (prices of {self.as_of})' * bool(self.as_of)}"


Consent = Callable[[CostEstimate], bool]
"""Asked before more than the limit is spent; True agrees."""


@dataclass
class Purse:
    """What several runs of questions may spend together.

    Args:
        spent: so far (USD).
        agreed: that may be spent in all, beyond any limit: somebody was asked before the first question (USD).
        unpriced: whether it was also agreed to ask where no price is known.
    """

    spent: float = 0.0
    agreed: float = 0.0
    unpriced: bool = False

    def agree(self, estimate: CostEstimate) -> None:
        """Somebody agrees to an estimate: answers may be twice as long as it says."""
        if estimate.dollars is None:
            self.unpriced = True
        else:
            self.agreed = max(self.agreed, self.spent) + 2 * estimate.dollars

    def covers(self, estimate: CostEstimate, max_cost: float) -> bool:
        """Whether as much may be spent without asking (anew)."""
        if estimate.dollars is None:
            return self.unpriced
        return self.spent + estimate.dollars <= max(max_cost, self.agreed)


@final
class Ledger:
    """What has been spent, and may be.

    Args:
        estimate: for what is to be sent.
        max_cost: that may be spent without asking (USD).
        consent: asked if it would be more; None refuses.
        purse: that it is spent from; by default its own.

    Raises:
        RequestError: if it would cost more than was agreed to.
    """

    def __init__(
        self, estimate: CostEstimate, max_cost: float, consent: Consent | None, purse: Purse | None = None
    ) -> None:
        self._purse = purse or Purse()
        self._lock = threading.Lock()
        before, may = self._purse.spent, max(max_cost, self._purse.agreed)
        within = self._purse.covers(estimate, max_cost)
        if not within and not (consent is not None and consent(estimate)):
            raise RequestError(
                f"{estimate.peer} would cost more than may be spent",
                expected=f"at most {may:.2f} US dollars",
                found=f"{estimate}{f', {before:.2f} spent before' * bool(before)}",
                hint="raise max_cost, or give the price in the peer's YAML (docs/benchmark-peers.md)",
            )
        # Agreed to an estimate: answers may be twice as long as it says. Agreed to no figure: there is none to keep to.
        agreed = float("inf") if estimate.dollars is None else before + 2 * estimate.dollars
        self.limit = may if within and estimate.dollars is not None else agreed

    def spend(self, dollars: float) -> None:
        """Take note of what a request is about to cost (USD).

        Raises:
            EmonetError: if as much is not left.
        """
        with self._lock:
            if self._purse.spent + dollars > self.limit * (1 + 1e-9):
                raise EmonetError(
                    "the limit of what may be spent is reached; the answers so far are kept",
                    expected=f"at most {self.limit:.2f} US dollars",
                    found=f"{self._purse.spent:.2f} spent, {dollars:.4f} for the next clip",
                    hint="raise max_cost and run the same command again: it goes on where it stopped",
                )
            self._purse.spent += dollars

    def correct(self, dollars: float) -> None:
        """Take note that it was more, or less, than noted (USD)."""
        with self._lock:
            self._purse.spent += dollars
