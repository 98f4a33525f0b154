from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from emonet.clips import Clip
from emonet.errors import AudioError
from emonet.evaluation import baseline_predictions, baselines, median_scores
from emonet.evaluation.baselines import acoustic_baselines
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS
from emonet.windows import Window

pytestmark = pytest.mark.numeric

NAN = float("nan")


def test_the_median_leaves_out_missing_scores() -> None:
    train = np.array([[0, NAN], [1, 4], [5, 2]], np.float32)
    assert median_scores(train, 2).tolist() == [[1, 3], [1, 3]]


def linear_data(seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (6, 3))
    inputs = [rng.normal(3, 2, (clips, 6)) for clips in (80, 30, 20)]
    return inputs, [(x - 3) @ weights + rng.normal(0, 0.1, (len(x), 3)) for x in inputs]


def test_ridge_finds_linear_scores() -> None:
    inputs, scores = linear_data()
    found = baselines.Ridge((inputs[0], scores[0]), (inputs[1], scores[1])).predict(inputs[2])
    assert np.abs(found - scores[2]).mean() < 0.2


def test_ridge_with_missing_scores_is_ridge_without_those_clips() -> None:
    inputs, scores = linear_data()
    full = baselines.Ridge((inputs[0], scores[0]), (inputs[1], scores[1])).predict(inputs[2])
    gaps = [part.copy() for part in scores]
    gaps[0][::3, 1] = NAN
    gaps[1][::2, 1] = NAN
    some = baselines.Ridge((inputs[0], gaps[0]), (inputs[1], gaps[1])).predict(inputs[2])
    np.testing.assert_allclose(some[:, [0, 2]], full[:, [0, 2]])
    assert np.abs(some[:, 1] - scores[2][:, 1]).mean() < 0.2
    assert not np.allclose(some[:, 1], full[:, 1])


def test_the_penalty_comes_from_validation_clips() -> None:
    """Training scores that mean nothing: validation asks for the strongest penalty."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 1, (40, 30)) for _ in range(3)]
    scores = [rng.normal(0, 1, (40, 1)), np.zeros((40, 1))]
    found = baselines.Ridge((inputs[0], scores[0]), (inputs[1], scores[1])).predict(inputs[2])
    loose = Ridge(alpha=0.1).fit(inputs[0], scores[0]).predict(inputs[2])
    assert found.std() < 0.1 * loose.std()


def mel_statistics(clips: Sequence[Clip], window: Window, progress: Progress = ignore) -> np.ndarray:
    return baselines._required(baselines._measured(baselines.mel_features, clips, window, progress))


def test_mel_statistics_do_not_see_the_padding(make_wav: Callable[..., Path]) -> None:
    clips = [Clip(f"{n}", make_wav(f"{n}.wav", seconds=s), "s", "train") for n, s in (("a", 0.6), ("b", 1.0))]
    seen: list[tuple[int, int]] = []
    short = mel_statistics(clips, Window(1.0), lambda done, total: seen.append((done, total)))
    long = mel_statistics(clips, Window(4.0))
    assert short.shape == (2, 160)
    assert short.dtype == np.float32
    np.testing.assert_allclose(short, long, atol=0.02)  # only the frame at the very end differs
    assert seen == [(0, 2), (2, 2)]


def test_a_clip_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError):
        mel_statistics([Clip("a", tmp_path / "missing.wav", "s", "train")], Window(1.0))


def test_opensmile_is_a_baseline_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(acoustic_baselines()) == ["mel_ridge"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert list(acoustic_baselines()) == ["mel_ridge", "opensmile_ridge"]


@pytest.mark.parametrize(("validated", "names"), [(True, ["median", "mel_ridge"]), (False, ["median"])])
def test_ridge_needs_clips_to_validate_by(make_wav: Callable[..., Path], validated: bool, names: list[str]) -> None:
    splits = {"train": "abc", "validation": "de" if validated else "", "test": "fg"}
    clips = {
        split: [Clip(n, make_wav(f"{n}.wav", hertz=100.0 * ord(n) - 9000), n, split) for n in letters]
        for split, letters in splits.items()
    }
    truth = {split: np.arange(len(letters), dtype=np.float32)[:, None] for split, letters in splits.items()}
    found = baseline_predictions(
        clips, truth, EMOTIONS.subset(["anger"]), Window(1.0), lambda name: nullcontext(ignore)
    )
    assert [name for name in found if name != "opensmile_ridge"] == names
    assert found["median"].tolist() == [[1.0], [1.0]]
    assert all(scores.shape == (2, 1) for scores in found.values())
