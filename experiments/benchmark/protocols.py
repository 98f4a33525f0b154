"""Protocols by name: what prepares and runs each kind of a plan's entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from experiments.benchmark.context import Context, Prepared
from experiments.benchmark.of_encoders import across, emobox
from experiments.benchmark.of_models import bench, fairness, robustness, sim_to_real
from experiments.benchmark.of_raters import raters

RUNNERS: Mapping[str, Callable[[Any, Context], Prepared]] = MappingProxyType(
    {
        "bench": bench,
        "raters": raters,
        "sim_to_real": sim_to_real,
        "emobox": emobox,
        "cross_corpus": across,
        "robustness": robustness,
        "fairness": fairness,
    }
)
