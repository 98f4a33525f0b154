"""Gender of the speakers of acted corpora, as these corpora publish it; clips themselves do not say it."""

from __future__ import annotations

from typing import Final, Literal

Gender = Literal["female", "male"]

_MEN: Final = {
    "emodb": frozenset({"03", "10", "11", "12", "15"}),
    "nemo": frozenset({"KS0", "MP0", "SM0", "TP0", "WR0"}),
    "ravdess": frozenset(f"{actor:02d}" for actor in range(1, 25, 2)),  # odd actors
}
_WOMEN: Final = {
    "emodb": frozenset({"08", "09", "13", "14", "16"}),
    "nemo": frozenset({"EB0", "IC0", "KD0", "MK0"}),
    "ravdess": frozenset(f"{actor:02d}" for actor in range(2, 25, 2)),  # even actors
}


def gender_of(speaker: str) -> Gender | None:
    """The gender of a speaker of RAVDESS, EmoDB or nEMO; None for any other speaker.

    Args:
        speaker: as clips name them, e.g. `ravdess/actor-12`.
    """
    corpus, _, name = speaker.partition("/")
    number = name.rpartition("-")[2]
    if number in _MEN.get(corpus, ()):
        return "male"
    return "female" if number in _WOMEN.get(corpus, ()) else None
