"""Calibration: what a score should have been, as fitted on validation clips; a monotone curve per target.

`affine` is the least-squares line of the true scores on the predicted ones, cut to the range of the scores; `isotonic`
the least-squares non-decreasing curve (Barlow et al. 1972), by scikit-learn. Both are kept as knots between which
`numpy.interp` draws straight lines, so that what loads and serves a model needs no scikit-learn. Within a target the
order of clips does not change, but for ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from emonet.configs import CalibrationKind
from emonet.errors import RequestError, raise_collected
from emonet.runtime import durable
from emonet.schema import Schema
from emonet.targets import Target, TargetSpec

FILE = "calibration.json"
FEWEST: Mapping[CalibrationKind, int] = {"affine": 20, "isotonic": 50}
"""Rated validation clips (count) below which a curve would be noise."""


class Curve(Schema):
    """Calibrated scores of one target."""

    predicted: tuple[FiniteFloat, ...] = ()
    """Knots: scores as predicted, increasing; none where scores stay as they are."""
    calibrated: tuple[FiniteFloat, ...] = ()
    """What becomes of each; before the first and after the last knot it stays at their values."""
    clips: int = Field(ge=0)
    """Rated validation clips that it was fitted on (count)."""
    note: str | None = None
    """Why scores stay as they are, if they do."""

    @model_validator(mode="after")
    def _is_monotone(self) -> Curve:
        rises = all(before < after for before, after in pairwise(self.predicted))
        if not rises or any(before > after for before, after in pairwise(self.calibrated)):
            raise ValueError("knots are not in order")
        if len(self.predicted) != len(self.calibrated):
            raise ValueError(f"{len(self.predicted)} knots, but {len(self.calibrated)} values")
        return self


class Calibration(Schema):
    """Curves of the targets of a model."""

    format_version: Literal[1] = 1
    """Of this file (count)."""
    kind: CalibrationKind
    """How curves were fitted."""
    curves: dict[str, Curve]
    """By target id."""

    def apply(
        self, scores: Float[np.ndarray, "clips targets"], targets: Sequence[str]
    ) -> Float64[np.ndarray, "clips targets"]:
        """Calibrated scores.

        Args:
            scores: as predicted, shape (clips, targets).
            targets: ids, one per column; those without a curve stay as they are.
        """
        found = np.array(scores, np.float64)
        for column, target in enumerate(targets):
            curve = self.curves.get(target)
            if curve is not None and curve.predicted:
                found[:, column] = np.interp(found[:, column], curve.predicted, curve.calibrated)
        return found

    @property
    def notes(self) -> dict[str, str]:
        """Targets whose scores stay as they are, and why."""
        return {target: curve.note for target, curve in self.curves.items() if curve.note is not None}

    def write(self, folder: Path) -> None:
        """Write it beside the experts of `folder`."""
        durable.write(folder / FILE, (self.model_dump_json(indent=2) + "\n").encode())


def fit_calibration(
    kind: CalibrationKind,
    predictions: Float[np.ndarray, "clips targets"],
    truth: Float[np.ndarray, "clips targets"],
    spec: TargetSpec,
) -> Calibration:
    """Fit one curve per target on clips that no expert was trained on.

    Args:
        kind: affine or isotonic.
        predictions: of the validation clips, shape (clips, targets).
        truth: their scores; NaN where nobody rated.
        spec: the targets, one per column.
    """
    curves = {
        target.id: _curve(kind, predictions[:, column].astype(np.float64), truth[:, column].astype(np.float64), target)
        for column, target in enumerate(spec)
    }
    return Calibration(kind=kind, curves=curves)


def read_calibration(experts: Path) -> Calibration | None:
    """The calibration of a folder of experts, all banks of it together; None where scores are as predicted.

    Raises:
        RequestError: if the file cannot be read, or its curves are not monotone, or it names targets without expert.
    """
    from emonet.checkpoints.files import bank_folders  # which imports torch: a calibration that is known needs none

    found = [one for folder in bank_folders(experts) if (one := _read(folder / FILE)) is not None]
    if not found:
        return None
    return Calibration(kind=found[0].kind, curves={key: curve for one in found for key, curve in one.curves.items()})


def check_targets(calibration: Calibration, targets: Sequence[str], where: object = None) -> None:
    """Check that every curve has its expert.

    Raises:
        RequestError: if one has none.
    """
    unknown = sorted(set(calibration.curves) - set(targets))
    raise_collected("the calibration has curves of targets without an expert", unknown, where=where)


def _read(path: Path) -> Calibration | None:
    try:
        return Calibration.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RequestError("the calibration cannot be read", where=path, found=error) from error


def _curve(
    kind: CalibrationKind,
    predicted: Float64[np.ndarray, " clips"],
    truth: Float64[np.ndarray, " clips"],
    target: Target,
) -> Curve:
    rated = np.isfinite(truth) & np.isfinite(predicted)
    x, y = predicted[rated], np.clip(truth[rated], target.low, target.high)
    clips = len(x)
    if clips < FEWEST[kind]:
        return Curve(clips=clips, note=f"{clips} rated validation clips, fewer than {FEWEST[kind]}")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Curve(clips=clips, note=f"all {'predictions' if np.ptp(x) == 0 else 'ratings'} are the same")
    knots = _affine(x, y, target) if kind == "affine" else _isotonic(x, y, target)
    if knots is None:
        return Curve(clips=clips, note="ratings do not rise with predictions")
    return Curve(predicted=tuple(knots[0].tolist()), calibrated=tuple(knots[1].tolist()), clips=clips)


Knots = tuple[Float64[np.ndarray, " knots"], Float64[np.ndarray, " knots"]]


def _affine(x: Float64[np.ndarray, " clips"], y: Float64[np.ndarray, " clips"], target: Target) -> Knots | None:
    """The line, from where it enters the range of scores to where it leaves it."""
    middle, level = x.mean(), y.mean()
    slope = float(((x - middle) * (y - level)).sum() / np.square(x - middle).sum())
    ends = np.array([target.low, target.high], np.float64)
    # A line that hardly rises has its ends beyond what floats tell apart.
    if not slope > 1e-6:
        return None
    return middle + (ends - level) / slope, ends


def _isotonic(x: Float64[np.ndarray, " clips"], y: Float64[np.ndarray, " clips"], target: Target) -> Knots | None:
    from sklearn.isotonic import IsotonicRegression

    fitted: Any = IsotonicRegression(y_min=target.low, y_max=target.high, increasing=True).fit(x, y)
    if np.ptp(fitted.y_thresholds_) == 0:
        return None
    return np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64)
