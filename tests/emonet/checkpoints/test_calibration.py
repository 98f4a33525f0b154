from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression

from emonet import EmotionPipeline
from emonet.checkpoints import Calibration, fit_calibration, read_calibration
from emonet.checkpoints.calibration import FEWEST, Curve
from emonet.errors import RequestError
from emonet.targets import EMOTIONS, TargetSpec

pytestmark = pytest.mark.numeric

SPEC = EMOTIONS.subset(["anger"])
KINDS = ("affine", "isotonic")
BROAD = np.linspace(-10, 20, 301)[:, None]


def fitted(kind: str, x: np.ndarray, y: np.ndarray, spec: TargetSpec = SPEC) -> Calibration:
    return fit_calibration(kind, x.reshape(-1, len(spec)), y.reshape(-1, len(spec)), spec)  # type: ignore[arg-type]


def scores(low: float, high: float, count: int = 60):
    return arrays(np.float64, count, elements=st.floats(low, high, width=32))


@pytest.mark.parametrize("kind", KINDS)
@given(x=scores(-1, 6), y=scores(0, 4))
def test_curves_are_monotone_and_stay_in_range(kind: str, x: np.ndarray, y: np.ndarray) -> None:
    calibration = fitted(kind, x, y)
    found = calibration.apply(BROAD, SPEC.ids)[:, 0]
    assert (np.diff(found) >= 0).all()
    if not calibration.notes:
        assert found.min() >= 0
        assert found.max() <= 4


@given(x=scores(0.5, 3.5), slope=st.floats(0.1, 3), shift=st.floats(-1, 1))
def test_affine_recovers_a_line(x: np.ndarray, slope: float, shift: float) -> None:
    line = slope * x + shift
    if np.ptp(x) < 1e-2 or line.min() < 0 or line.max() > 4:
        return
    np.testing.assert_allclose(fitted("affine", x, line).apply(x[:, None], SPEC.ids)[:, 0], line, atol=1e-6)


@given(x=scores(0, 4), y=scores(0, 4))
def test_isotonic_is_scikit_learns(x: np.ndarray, y: np.ndarray) -> None:
    calibration = fitted("isotonic", x, y)
    if calibration.notes:
        return
    wanted = IsotonicRegression(y_min=0, y_max=4, out_of_bounds="clip").fit(x, y).predict(BROAD[:, 0])
    np.testing.assert_allclose(calibration.apply(BROAD, SPEC.ids)[:, 0], wanted, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(x=scores(0, 4), y=scores(0, 4))
def test_json_keeps_every_digit(kind: str, x: np.ndarray, y: np.ndarray) -> None:
    calibration = fitted(kind, x, y)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


@pytest.mark.parametrize("kind", KINDS)
def test_it_helps_where_scores_are_off(kind: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 4, 400)
    seen = 0.3 * truth + 1.2 + rng.normal(0, 0.05, 400)
    calibration = fitted(kind, seen[:200], truth[:200])
    after = calibration.apply(seen[200:, None], SPEC.ids)[:, 0]
    assert np.abs(after - truth[200:]).mean() < 0.3 * np.abs(seen[200:] - truth[200:]).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        (np.arange(5.0), np.arange(5.0), "5 rated validation clips, fewer than"),
        (np.ones(60), np.linspace(0, 4, 60), "all predictions are the same"),
        (np.linspace(0, 4, 60), np.ones(60), "all ratings are the same"),
        (np.linspace(0, 4, 60), np.linspace(4, 0, 60), "ratings do not rise with predictions"),
        (np.linspace(0, 4, 60), np.where(np.arange(60) < 50, np.nan, 1.0), "10 rated validation clips"),
    ],
)
def test_what_cannot_be_fitted_stays_as_it_is(kind: str, x: np.ndarray, y: np.ndarray, note: str) -> None:
    calibration = fitted(kind, x, y)
    assert note in calibration.notes["anger"]
    assert calibration.curves["anger"].predicted == ()
    np.testing.assert_array_equal(calibration.apply(BROAD, SPEC.ids), BROAD)


def test_each_target_has_its_own_curve_and_missing_ratings_are_left_out() -> None:
    spec = TargetSpec((EMOTIONS["anger"], EMOTIONS["fear"]))
    x = np.linspace(0, 4, 120).reshape(60, 2)
    y = np.stack([0.5 * x[:, 0], np.where(np.arange(60) % 2, 0.25 * x[:, 1], np.nan)], 1)
    before = x.copy()
    found = fitted("affine", x, y, spec)
    calibrated = found.apply(x, ("fear", "awe"))
    np.testing.assert_allclose(found.apply(x, spec.ids), x * [0.5, 0.25], atol=1e-9)
    np.testing.assert_allclose(calibrated[:, 0], np.interp(x[:, 0], *_knots(found, "fear")))
    np.testing.assert_array_equal(calibrated[:, 1], x[:, 1])  # there is no curve for it
    assert (found.curves["anger"].clips, found.curves["fear"].clips) == (60, 30)
    np.testing.assert_array_equal(x, before)
    assert FEWEST["affine"] < FEWEST["isotonic"]


def _knots(calibration: Calibration, target: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return calibration.curves[target].predicted, calibration.curves[target].calibrated


@pytest.mark.parametrize(
    ("predicted", "calibrated", "message"),
    [
        ((1, 0), (0, 1), "not in order"),
        ((0, 1), (1, 0), "not in order"),
        ((0, 1), (1,), "2 knots, but 1 values"),
        ((0, 1), (1, np.nan), "finite number"),
    ],
)
def test_a_curve_that_is_none(predicted: tuple[float, ...], calibrated: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Curve(predicted=predicted, calibrated=calibrated, clips=9)


@pytest.fixture
def calibrated(voice: Path, tmp_path: Path) -> Path:
    """A voice model of which anger always is 1 more than it says, and 4 at most."""
    folder = tmp_path / "voice"
    shutil.copytree(voice, folder)
    curve = Curve(predicted=(-9, 3), calibrated=(-8, 4), clips=60)
    Calibration(kind="affine", curves={"anger": curve}).write(folder / "experts")
    return folder


def test_a_pipeline_applies_it(voice: Path, calibrated: Path, make_wav: Callable[..., Path]) -> None:
    plain, after = EmotionPipeline.from_folder(voice), EmotionPipeline.from_folder(calibrated)
    assert (plain.calibrated, after.calibrated) == (False, True)
    path = make_wav()
    before, found = plain(path), after(path)
    assert found == pytest.approx(before | {"anger": before["anger"] + 1})
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert EmotionPipeline.from_experts(calibrated / "experts", str(voice / "encoder"))(path) == found


@pytest.mark.slow
def test_serving_needs_nothing_of_training(calibrated: Path) -> None:
    absent = ("sklearn", "torchaudio", "mlflow", "lightning", "cache", "lightningmodules", "experiments")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); from emonet.serving import _load_pyfunc;"
        f"assert _load_pyfunc({str(calibrated)!r}).pipeline.calibrated"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_is_none_of_ours(calibrated: Path, voice: Path) -> None:
    path = calibrated / "experts" / "calibration.json"
    other = Calibration(kind="affine", curves={"awe": Curve(clips=0)})
    other.write(calibrated / "experts")
    with pytest.raises(RequestError, match=r"(?s)curves of targets without an expert.*- awe"):
        EmotionPipeline.from_folder(calibrated)
    path.write_text("{")
    with pytest.raises(RequestError, match=r"(?s)the calibration cannot be read.*calibration\.json"):
        EmotionPipeline.from_folder(calibrated)
    assert read_calibration(voice / "experts") is None
