from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.peers import open_peer
from emonet.peers.regression import Regression
from emonet.targets import EMOTIONS

SMILE = importlib.util.find_spec("opensmile") is not None


@pytest.fixture
def corpus(make_wav: Callable[..., Path], tmp_path: Path) -> str:
    """Louder is angrier: two speakers to train on, one to validate by, one for the test."""
    rows = []
    for n, (speaker, split) in enumerate([("a", "train"), ("b", "train"), ("c", "validation"), ("d", "test")]):
        for level in range(4):
            name = f"{speaker}{level}"
            wav = make_wav(f"{name}.wav", seconds=0.6, hertz=150 + 60 * level + n).name
            rows.append(f"{name},{wav},{speaker},{split},{level}")
    (tmp_path / "m.csv").write_text("\n".join(["id,audio,speaker,split,anger", *rows]))
    return f"manifest:{tmp_path / 'm.csv'}"


def test_a_regression_is_fitted_on_a_corpus_and_refuses_its_speakers(
    corpus: str, make_wav: Callable[..., Path]
) -> None:
    scorer = _mel(corpus)
    assert scorer.target_spec.ids == ("anger",)
    new = [Clip(f"new{n}", make_wav(f"n{n}.wav", seconds=0.6, hertz=155 + 60 * n), "x", "test") for n in range(4)]
    known = Clip("a0", make_wav("again.wav"), _speaker(corpus, "a"), "test")
    scored = scorer.score([new[3], known, *new[:3]])
    assert scored.refusals == {"a0": "it was fitted on this speaker"}
    assert scored.scores.loc[[f"new{n}" for n in range(4)], "anger"].is_monotonic_increasing
    assert scored.scores.index.tolist() == ["new3", "a0", "new0", "new1", "new2"]


def test_ratings_that_were_corrected_fit_another_regression(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openSMILE need not be here: which features it would give is no matter."""
    monkeypatch.setattr("emonet.peers.regression.Regression", lambda _, *more: Regression("mel_ridge", *more))
    before = open_peer(f"egemaps_ridge:{corpus}").identity
    assert open_peer(f"egemaps_ridge:{corpus}").identity == before
    table = tmp_path / "m.csv"
    table.write_text(table.read_text().replace("a0.wav,a,train,0", "a0.wav,a,train,1"))
    after = open_peer(f"egemaps_ridge:{corpus}").identity
    assert after != before, "scores are kept by it"
    assert open_peer(f"compare2016_ridge:{corpus}").identity != after


def _mel(corpus: str) -> Regression:
    return Regression("mel_ridge", corpus, EMOTIONS.subset(["anger", "fear"]))


def _speaker(corpus: str, name: str) -> str:
    from emonet.corpora import open_corpus

    return next(clip.speaker for clip in open_corpus(corpus).clips if clip.id.endswith(f"{name}0"))


def test_a_corpus_without_clips_to_fit_on(tmp_path: Path, make_wav: Callable[..., Path]) -> None:
    (tmp_path / "m.csv").write_text(f"id,audio,speaker,split,anger\na,{make_wav().name},s,test,1")
    with pytest.raises(RequestError, match=r"(?s)no clips to fit on.*0 in train, 0 in validation"):
        _mel(f"manifest:{tmp_path / 'm.csv'}")


def test_opensmile_is_said_to_be_missing_or_needs_a_corpus(corpus: str) -> None:
    if not SMILE:
        with pytest.raises(RequestError, match=r"(?s)openSMILE is not installed.*pip install 'emonet\[opensmile\]'"):
            open_peer(f"egemaps_ridge:{corpus}")
        return
    with pytest.raises(RequestError, match=r"egemaps_ridge:CORPUS"):
        open_peer("egemaps_ridge")
    peer = open_peer(f"egemaps_ridge:{corpus}")
    assert peer.about["trained on"] == corpus
