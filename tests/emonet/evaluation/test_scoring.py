from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emonet.baselines.fitting import Wanted, fit_baselines
from emonet.clips import Clip
from emonet.errors import EmonetError, RequestError
from emonet.evaluation import PluggedScorer, Scored, Scorer, open_scorer
from emonet.inference import EmotionPipeline
from emonet.runtime import ignore
from emonet.targets import EMOTIONS
from emonet.windows import Window
from tests.installed import install

MakeWav = Callable[..., Path]
CODE = """
import numpy as np, pandas as pd
from emonet import EMOTIONS, Scored
class Toy:
    target_spec = EMOTIONS.subset(["anger", "fear"])
    def __init__(self, argument, *, device): self.argument = argument
    def score(self, clips, *, progress):
        found = [self.refuse(clip) or [1.0, 2.0] for clip in clips]
        return self.change(Scored.of(clips, self.target_spec, found))
    def refuse(self, clip): return "too\\nsad" if clip.id == self.argument else None
    def change(self, scored): return scored
"""


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PluggedScorer]:
    """The plug-in `toy`, with more code in its class."""

    def make(more: str = "", argument: str = "") -> PluggedScorer:
        points = {"emonet.scorers": {"toy": "Toy"}}
        monkeypatch.syspath_prepend(install(tmp_path / "site", "toy_scorer", f"{CODE}    {more}\n", points))
        monkeypatch.delitem(sys.modules, "toy_scorer", raising=False)
        return open_scorer(f"toy:{argument}", device="cpu")

    return make


def some(*ids: str) -> list[Clip]:
    return [Clip(name, b"", "s", "test", scores={"anger": 4.0}, caption="angry") for name in ids]


def test_a_table_has_a_row_a_clip_and_reasons_for_those_refused() -> None:
    scored = Scored.of(some("a", "b"), EMOTIONS.subset(["anger", "fear"]), ["silence", [1.0, 2.0]])
    assert scored.scores.index.tolist() == ["a", "b"]
    assert list(scored.scores.columns) == list(EMOTIONS.subset(["anger", "fear"]).ids)
    assert scored.scores.loc["a"].isna().all()
    assert scored.scores.loc["b"].tolist() == [1.0, 2.0]
    assert scored.refusals == {"a": "silence"}
    for found in ([[1.0, 2.0]], [[1.0], [2.0, 3.0]], [[1.0, 2.0, 3.0], "x"]):
        with pytest.raises(ValueError):  # noqa: PT011 - numpy's and zip's own
            Scored.of(some("a", "b"), EMOTIONS.subset(["anger", "fear"]), found)  # type: ignore[arg-type]


def test_a_plug_ins_scores_and_refusals(scorer: Callable[..., PluggedScorer]) -> None:
    toy = scorer(argument="b")
    scored = toy.score(some("a", "b"))
    assert scored.scores.loc["a"].tolist() == [1.0, 2.0]
    assert scored.scores.loc["b"].isna().all()
    assert scored.refusals == {"b": r"too\nsad"}
    assert isinstance(toy, Scorer)


def test_a_plug_in_sees_no_scores_that_people_gave(scorer: Callable[..., PluggedScorer]) -> None:
    toy = scorer("def refuse(self, clip): return None if not clip.scores and clip.caption is None else 'I peeped'")
    assert toy.score(some("a")).refusals == {}


def test_a_plug_in_sees_no_class_labels(scorer: Callable[..., PluggedScorer]) -> None:
    toy = scorer("def refuse(self, clip): return None if clip.label is None else 'I peeped'")
    assert toy.score([replace(clip, label="angry") for clip in some("a")]).refusals == {}


WRONG = {
    "none": ("return None", RequestError, r"gives no table.*NoneType"),
    "frame": ("return scored.scores", RequestError, r"gives no table.*DataFrame"),
    "array": ("return Scored(scored.scores.to_numpy(), {})", RequestError, r"other columns.*found: +ndarray"),
    "columns": ("return Scored(scored.scores[['anger']], {})", RequestError, r"other columns than it has targets.*anger"),
    "order": ("return Scored(scored.scores[::-1], {})", RequestError, r"scores of other clips.*2 rows: b, a"),
    "rows": ("return Scored(scored.scores[:1], {})", RequestError, r"scores of other clips.*1 rows: a"),
    "unknown": ("return Scored(scored.scores, {'c': 'x'})", RequestError, r"scores of other clips.*found: +c"),
    "nan": ("return Scored(scored.scores * np.nan, {})", EmonetError, r"not finite.*where: +a.*nan, nan"),
    "infinite": ("return Scored(scored.scores + np.inf, {'a': 'x'})", EmonetError, r"not finite.*where: +b.*inf"),
    "fails": ("return scored.nothing", EmonetError, r"failed.*AttributeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_plug_in_gives_is_checked(scorer: Callable[..., PluggedScorer], name: str) -> None:
    body, error, message = WRONG[name]
    toy = scorer(f"def change(self, scored): {body}")
    with pytest.raises(error, match=rf"(?s)scorer plug-in 'toy' \(toy-scorer 0\.1\).*{message}"):
        toy.score(some("a", "b"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("score = None", r"is no Scorer.*Toy without score"),
        ("target_spec = None", r"is no Scorer.*Toy without target_spec"),
        ("target_spec = ['anger']", r"does not say what it scores.*list"),
    ],
)
def test_a_plug_in_that_is_no_scorer_is_refused(scorer: Callable[..., PluggedScorer], more: str, message: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s)scorer plug-in 'toy'.*{message}"):
        scorer(more)


def test_the_pipeline_is_a_scorer(voice: Path, make_wav: MakeWav, tmp_path: Path) -> None:
    pipeline = EmotionPipeline.from_folder(voice, device="cpu")
    assert isinstance(pipeline, Scorer)
    whole = Clip("a", make_wav("a.wav", seconds=0.8), "s", "test")
    clips = [whole, replace(whole, id="b", audio=tmp_path / "none.wav"), replace(whole, id="c", start=0.2, end=0.6)]
    calls: list[tuple[int, int]] = []
    scored = pipeline.score(clips, progress=lambda *call: calls.append(call))
    assert scored.refusals == {"b": "no such file"}
    expected = pipeline(whole.audio)
    assert scored.scores.loc["a"].to_dict() == pytest.approx(expected, abs=1e-5)
    assert scored.scores.loc["b"].isna().all()
    assert not np.allclose(scored.scores.loc["c"], scored.scores.loc["a"])
    assert (calls[0], calls[-1]) == ((0, 3), (3, 3))


def test_baselines_are_scorers_that_refuse_what_cannot_be_decoded(make_wav: MakeWav, tmp_path: Path) -> None:
    def clip(name: str, hertz: float) -> Clip:
        return Clip(name, make_wav(f"{name}.wav", hertz=hertz), name, "train")

    spec = EMOTIONS.subset(["anger"])
    clips: Any = {
        "train": [clip(n, 200.0 + 50 * n_ord) for n_ord, n in enumerate("abcd")],
        "validation": [clip("e", 310)],
    }
    truth: Any = {"train": np.array([[0], [1], [2], [4]], np.float32), "validation": np.ones((1, 1), np.float32)}
    fitted = fit_baselines(
        clips, truth, spec, Wanted(["median", "mel_ridge"], Window(1.0)), lambda name: nullcontext(ignore)
    )
    wanted = [clips["train"][0], Clip("gone", tmp_path / "none.wav", "s", "test")]
    for name, baseline in fitted.items():
        assert isinstance(baseline, Scorer)
        scored = baseline.score(wanted)
        assert baseline.target_spec == spec
        assert np.isfinite(scored.scores.loc["a"]).all()
        assert scored.refusals == ({} if name == "median" else {"gone": "no such file"})
    assert list(fitted)[:2] == ["median", "mel_ridge"]
    assert fitted["median"].score(wanted).scores["anger"].tolist() == [1.5, 1.5]
    assert isinstance(fitted["mel_ridge"].score([]).scores, pd.DataFrame)
