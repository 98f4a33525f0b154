"""What is wrong in a table, each cause told once: the first place in full, how often it occurs, and where next."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

_EACH = 3  # problems of one cause that are told one by one
_PLACES = 5  # further places that one line names


@dataclass
class Problems:
    """Problems in the order in which their causes were first found."""

    found: dict[Hashable, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, place: str, text: str, cause: Hashable = None) -> None:
        """Note a problem.

        Args:
            place: e.g. `line 3`; may be empty.
            text: what is wrong.
            cause: what all problems of one cause share; by default it stands alone.
        """
        self.found.setdefault((place, text) if cause is None else cause, []).append((place, text))

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def lines(self) -> list[str]:
        """One line for each problem, or for each cause that there are more than three of."""
        lines = []
        for problems in self.found.values():
            told = [f"{place}: {text}" if place else text for place, text in problems]
            if len(told) > _EACH:
                places = [place for place, _ in problems[1 : 1 + _PLACES]]
                more = ", ..." if len(told) > 1 + _PLACES else ""
                told = [f"{told[0]}; the same {len(told) - 1} more times: {', '.join(places)}{more}"]
            lines += told
        return lines
