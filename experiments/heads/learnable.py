"""Scores that cannot be learned or measured, told before any training: all the same, or given by nobody."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from emonet.clips import SPLITS, Split
from emonet.configs import HeadsConfig
from emonet.errors import RequestError
from emonet.evaluation import METRICS
from experiments.heads.forms import HeadsData

_SHOWN = 5  # targets in a sentence


def notes(data: HeadsData, config: HeadsConfig) -> list[str]:
    """What the figures of these clips will not say, whatever the training does, a sentence each.

    Args:
        data: store and corpus.
        config: how forms of input are chosen.
    """
    flat = {split: _flat(data, split) for split in SPLITS}
    constant = [f"{target} ({value:g})" for target, value in flat["train"].items()]
    tested = _rated(data, "test")
    unrated = [target for column, target in enumerate(data.rated) if not tested[:, column].any()]
    undefined = len(flat["validation"]) == len(data.rated)
    found = {
        "all training scores are the same, so that there is nothing to learn": constant,
        "all validation scores are the same, so that no correlation is defined": list(flat["validation"]),
        "all test scores are the same, so that no correlation is defined; means leave it out": list(flat["test"]),
        "nobody rated it in the test split, so that it is not tested; means leave it out": unrated,
    }
    said = [f"{_listed(targets)}: {what}" for what, targets in found.items() if targets]
    if undefined and len(config.inputs) > 1 and config.select_by == "pearson":
        label = METRICS[config.select_by].label
        said.append(f"{label} cannot choose between forms of input: it is undefined; {config.inputs[0]} is taken")
    return said


def require_correlation(data: HeadsData) -> None:
    """Check that a correlation on validation clips is defined for some target.

    Raises:
        RequestError: if it is for none.
    """
    flat = _flat(data, "validation")
    if len(flat) == len(data.rated):
        raise RequestError(
            "the objective pearson is undefined: no target has different scores on the validation clips",
            where=data.store.path,
            expected="two different scores of a target, at least, in the validation split",
            found=_listed([f"{target} always {value:g}" for target, value in flat.items()]),
            hint="--objectives mae; or put other speakers into the validation split",
        )


def _rated(data: HeadsData, split: Split) -> Bool[np.ndarray, "clips experts"]:
    """Which scores of a split's usable clips count; in training those of weight 0 do not."""
    rated: np.ndarray = ~np.isnan(data.truth(split))
    weights = data.weights()
    return rated if split != "train" or weights is None else rated & (weights[data.store.rows(split)] > 0)


def _flat(data: HeadsData, split: Split) -> dict[str, float]:
    """Targets that were always given the same score in a split -> that score."""
    rated, truth = _rated(data, split), data.truth(split)
    columns = {target: truth[rated[:, column], column] for column, target in enumerate(data.rated)}
    return {target: float(given[0]) for target, given in columns.items() if len(given) and np.ptp(given) == 0}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
