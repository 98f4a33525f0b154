from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from emonet.baselines import Wanted, baseline_predictions, median_scores
from emonet.baselines.names import OPENSMILE
from emonet.clips import Clip, Split
from emonet.errors import AudioError
from emonet.runtime import ignore
from emonet.targets import EMOTIONS
from emonet.windows import Window

pytestmark = pytest.mark.numeric

NAN = float("nan")
WINDOW = Window(1.0)
Parts = tuple[dict[Split, list[Clip]], dict[Split, np.ndarray]]


def test_the_median_leaves_out_missing_scores() -> None:
    train = np.array([[0, NAN], [1, 4], [5, 2]], np.float32)
    assert median_scores(train, 2).tolist() == [[1, 3], [1, 3]]


def parts(make_wav: Callable[..., Path], *, validated: bool = True) -> Parts:
    splits: dict[Split, str] = {"train": "abcij", "validation": "de" if validated else "", "test": "fg"}
    clips = {
        split: [Clip(n, make_wav(f"{n}.wav", hertz=100.0 * ord(n) - 9000), n, split) for n in letters]
        for split, letters in splits.items()
    }
    truth = {split: np.arange(len(letters), dtype=np.float32)[:, None] for split, letters in splits.items()}
    return clips, truth


def predicted(found: Parts, wanted: Wanted) -> dict[str, np.ndarray]:
    return baseline_predictions(*found, EMOTIONS.subset(["anger"]), wanted, lambda name: nullcontext(ignore))


@pytest.mark.parametrize(("validated", "names"), [(True, ["median", "mel_ridge"]), (False, ["median"])])
def test_regressions_need_clips_to_validate_by(
    make_wav: Callable[..., Path], validated: bool, names: list[str]
) -> None:
    found = predicted(parts(make_wav, validated=validated), Wanted(["median", "mel_ridge"], WINDOW))
    assert list(found) == names
    assert found["median"].tolist() == [[2.0], [2.0]]
    assert all(scores.shape == (2, 1) and np.isfinite(scores).all() for scores in found.values())


def test_kept_features_give_the_same_and_are_not_measured_again(
    make_wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, wanted = parts(make_wav), Wanted(["median", "mel_ridge"], WINDOW, tmp_path / "kept")
    first = predicted(clips, wanted)
    monkeypatch.setattr("emonet.baselines.feature_tables.shared_decoders", lambda: pytest.fail("it decodes"))
    np.testing.assert_array_equal(predicted(clips, wanted)["mel_ridge"], first["mel_ridge"])


def test_a_clip_that_cannot_be_decoded_is_an_error(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    clips, truth = parts(make_wav)
    (tmp_path / "f.wav").unlink()
    with pytest.raises(AudioError, match="no such file"):
        predicted((clips, truth), Wanted(["median", "mel_ridge"], WINDOW))


def test_opensmile_gives_ridge_and_support_vectors_out_of_one_table(
    make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is an extra, and not open")
    found = predicted(parts(make_wav), Wanted(["median", *OPENSMILE], WINDOW, tmp_path / "kept"))
    assert list(found) == ["median", *OPENSMILE]
    assert all(scores.shape == (2, 1) and np.isfinite(scores).all() for scores in found.values())
    shapes = {}
    for path in (tmp_path / "kept").iterdir():
        with np.load(path) as file:
            shapes[path.name] = file["values"].shape
    assert shapes == {f"egemaps-{WINDOW.seconds:g}s.npz": (9, 88), f"compare2016-{WINDOW.seconds:g}s.npz": (9, 6373)}
