"""Names of the baselines: which there are, what each is, and which are wanted here."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from emonet.configs import BaselineChoice
from emonet.errors import RequestError

MEDIAN, STATES, WHISPER = "median", "states_ridge", "whisper_last_mean"
SETS: Mapping[str, str] = MappingProxyType({"egemaps": "eGeMAPSv02", "compare2016": "ComParE_2016"})
"""Name here of each feature set of openSMILE -> its name there."""
OPENSMILE = tuple(f"{name}_{kind}" for name in SETS for kind in ("ridge", "svr"))
MOST_CLIPS = 10_000  # of which openSMILE is asked for features by itself: 25 minutes on two cores

_FUNCTIONALS = {
    "egemaps": "openSMILE's 88 eGeMAPSv02 functionals",
    "compare2016": "openSMILE's 6,373 ComParE 2016 functionals",
}
_REGRESSIONS = {"ridge": "is a ridge regression", "svr": "is a linear support vector regression"}
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        MEDIAN: "answers each clip with the median of the training clips",
        "mel_ridge": "is a ridge regression on mean and deviation of the log-mel bands",
        STATES: "is a ridge regression on statistics of the states that the experts see",
        **{
            f"{name}_{kind}": f"{model} on {_FUNCTIONALS[name]}"
            for name in SETS
            for kind, model in _REGRESSIONS.items()
        },
        WHISPER: "is a ridge regression on the mean of the captioner's last layer over 30 s",
    }
)
"""What each baseline is: the rest of a sentence that its name begins."""
LICENCE = "openSMILE, by audEERING, is licensed for research and other non-commercial use only"


def licence_of(names: Collection[str]) -> str | None:
    """What figures of these baselines must say of a licence."""
    return LICENCE if set(OPENSMILE) & set(names) else None


def chosen_baselines(choices: Sequence[BaselineChoice], clips: int) -> tuple[str, ...]:
    """The names of the wanted baselines that have features of their own, in the order of tables.

    Median and mel_ridge are always there. Those of openSMILE are in `auto` where it is installed.

    Args:
        choices: by name, or `auto`.
        clips: that they would hear (count); `auto` spares very many of them openSMILE.

    Raises:
        RequestError: if openSMILE is asked for by name, and is not installed.
    """
    installed = importlib.util.find_spec("opensmile") is not None
    asked = [name for name in OPENSMILE if name in choices]
    if asked and not installed:
        raise RequestError(
            f"{', '.join(asked)}: openSMILE is not installed",
            hint=f"pip install 'emonet[opensmile]'; {LICENCE}",
        )
    wanted = {"mel_ridge", *choices} | (
        set(OPENSMILE) if "auto" in choices and installed and clips <= MOST_CLIPS else set()
    )
    return MEDIAN, *(name for name in ABOUT if name in wanted)
