from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emonet.corpora import describe, open_corpus
from emonet.errors import RequestError
from emonet.targets import EMOTIONS, Target, TargetSpec

MakeWav = Callable[..., Path]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sanbox", r"(?s)no corpus of the kind 'sanbox'.*ravdess:PATH.*did you mean sandbox\?"),
        ("sandbox+foo:x", r"no corpus of the kind 'foo'"),
        ("sandbox+", r"a corpus has no name"),
        ("", r"a corpus has no name"),
        ("ravdess", r"(?s)'ravdess' needs a path.*expected: +ravdess:PATH"),
        ("~nobody-of-this-name/x.csv", r"(?s)no corpus of the kind '~nobody-of-this-name/x\.csv'"),
        ("emodb: ", r"(?s)'emodb' needs a path"),
    ],
)
def test_a_wrong_spec_says_what_is_right(spec: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        open_corpus(spec, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "source"), [("ravdess", r"Audio_Speech_Actors_01-24\.zip.*1188976.*CC BY-NC-SA"), ("emodb", "bilderbar")]
)
def test_a_missing_folder_says_where_the_corpus_comes_from(kind: str, source: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"(?s)does not exist.*{tmp_path}.*no such path.*try:.*{source}"):
        open_corpus(f"{kind}:{tmp_path}/none")
    with pytest.raises(RequestError, match=r"(?s)does not exist.*~nobody-of-this-name/x"):
        open_corpus(f"{kind}:~nobody-of-this-name/x")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"(?s)does not exist.*found: +a file"):
        open_corpus(f"{kind}:{tmp_path}/file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"(?s)holds no audio.*\*\.wav or \*\.flac.*an empty folder"):
        open_corpus(f"{kind}:{tmp_path}/empty")
    with pytest.raises(RequestError, match=r"(?s)holds no audio.*1 other files, such as file"):
        open_corpus(f"{kind}:{tmp_path}")


def test_a_wrong_path_is_found_before_anything_is_synthesised(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        open_corpus(f"sandbox+ravdess:{tmp_path}/none", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_corpora_are_joined_also_where_a_path_has_a_plus(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("a+b/03-01-05-02-01-01-01.wav")
    make_wav("a+b+c/03a01Wa.wav")
    corpus = open_corpus(f"ravdess:{tmp_path}/a+b+emodb:{tmp_path}/a+b+c")
    assert [clip.id for clip in corpus.clips] == ["ravdess/03-01-05-02-01-01-01", "emodb/03a01Wa"]
    assert corpus.name == f"ravdess:{tmp_path}/a+b+emodb:{tmp_path}/a+b+c"
    assert "RAVDESS" in corpus.note
    assert "EmoDB" in corpus.note


def test_the_report_counts_what_is_there(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-05-02-01-01-01.wav", seconds=1)
    make_wav("03-01-03-01-01-01-24.wav", seconds=3)
    (tmp_path / "03-01-03-01-01-01-02.wav").touch()
    calls: list[tuple[int, int]] = []
    report = describe(open_corpus(f"ravdess:{tmp_path}", progress=lambda *call: calls.append(call)))
    assert report.clips == 2
    assert report.speakers == 2
    assert report.languages == {"en": 2}
    assert report.hours == pytest.approx(4 / 3600, abs=1e-4)
    assert report.seconds == {"min": 1, "5%": 1.1, "50%": 2, "95%": 2.9, "max": 3}
    assert report.splits["test"].model_dump() == {"clips": 1, "speakers": 1, "hours": pytest.approx(3 / 3600, abs=1e-4)}
    assert report.splits["validation"].clips == 0
    assert report.emotions["anger"].model_dump() == {"rated": 2, "nonzero": 1, "mean": 2}
    assert set(report.emotions) == {"elation", "contentment", "astonishment", "fear", "sadness", "disgust", "anger"}
    assert [(clip.id, clip.reason) for clip in report.rejected] == [("ravdess/03-01-03-01-01-01-02", "0 bytes")]
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert report.model_validate_json(report.model_dump_json()) == report


def test_opening_a_corpus_loads_no_heavy_library(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-05-02-01-01-01.wav")
    code = (
        "import sys; from emonet.corpora import *; describe(open_corpus(sys.argv[1]));"
        "heavy = {'torch', 'lightning', 'transformers', 'mlflow', 'zarr', 'sklearn', 'matplotlib', 'pandas',"
        " 'espeakng_loader', 'pyarrow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, f"ravdess:{tmp_path}"], check=True, cwd=Path(__file__).parents[3])


def test_a_corpus_of_unknown_lengths_is_described(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-05-02-01-01-01.wav")
    corpus = open_corpus(f"ravdess:{tmp_path}")
    report = describe(replace(corpus, clips=(replace(corpus.clips[0], seconds=float("nan")),)))
    assert report.seconds == {}
    assert report.hours == 0


@pytest.mark.parametrize("spec", ["../data/mine.csv", "sandbox+../data/mine.csv"])
def test_a_table_without_its_kind_says_what_to_type(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "mine.csv").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(
        RequestError, match=r"(?s)found: +'../data/mine\.csv'.*try: +--corpus manifest:../data/mine\.csv"
    ):
        open_corpus(spec)
    with pytest.raises(RequestError, match=r"no corpus of the kind '../data/other.csv'"):
        open_corpus("../data/other.csv")


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a+b",
        "a:b",
        "a+ravdess:b",
        "a+sandbox",
        "why?",
        "#1",
        "Gefühle",
        "100%",
        "$HOME",
        " a ",
        "it's",
        "\udce4",
    ],
)
def test_a_folder_may_have_any_name(name: str, make_wav: MakeWav, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    make_wav("03-01-05-02-01-01-01.wav").rename(tmp_path / name / "03-01-05-02-01-01-01.wav")
    (tmp_path / name / "m.csv").write_text("audio,id,speaker,split\n03-01-05-02-01-01-01.wav,1,a,train\n")
    spec = f"ravdess:{tmp_path / name}+manifest:{tmp_path / name / 'm.csv'}"
    corpus = open_corpus(spec)
    assert [clip.id for clip in corpus.clips] == ["ravdess/03-01-05-02-01-01-01", "1"]
    corpus.name.encode()  # it goes into stores and tracking servers
    assert open_corpus(corpus.name).fingerprint == corpus.fingerprint


def test_a_path_that_is_not_there_ends_where_a_corpus_begins(tmp_path: Path) -> None:
    for spec, where in ((f"ravdess:{tmp_path}/a+b+sandbox", "a+b"), (f"ravdess:{tmp_path}/a+emodb:b", "a")):
        with pytest.raises(RequestError, match=rf"(?s)'ravdess' does not exist.*{re.escape(str(tmp_path / where))}\n"):
            open_corpus(spec, folder=tmp_path)


VAD = TargetSpec(tuple(Target(name, name.title(), 1, 7, "") for name in ("arousal", "valence", "dominance")))


@pytest.mark.parametrize("spec", ["sandbox", "ravdess:{}", "emodb:{}", "sandbox+ravdess:{}"])
def test_acted_corpora_alone_are_refused_for_targets_that_they_cannot_rate(spec: str, tmp_path: Path) -> None:
    told = r"(?s)rates none of the targets.*a manifest with columns arousal, valence, dominance.*rates (amusement|contentment|elation|fear|anger|sadness|disgust)"
    with pytest.raises(RequestError, match=told):
        open_corpus(spec.format(tmp_path), targets=VAD, folder=tmp_path / "sandbox")
    assert not (tmp_path / "sandbox").exists(), "before anything is synthesised"


def test_acted_corpora_rate_what_a_set_shares_with_the_emotions(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    make_wav("a/03-01-05-02-01-01-01.wav")
    make_wav("b.wav")
    rows = [{"audio": "b.wav", "speaker": "b", "split": "train", "arousal": 6.5, "anger": 1}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mixed = TargetSpec((*VAD, EMOTIONS["anger"], replace(EMOTIONS["fear"], high=1)))
    alone = open_corpus(f"ravdess:{tmp_path}/a", targets=mixed)
    assert [clip.scores for clip in alone.clips] == [{"anger": 4.0}], "fear is on another scale"
    assert alone.targets == mixed
    joined = open_corpus(f"ravdess:{tmp_path}/a+manifest:{tmp_path}/m.jsonl", targets=mixed)
    assert joined.rated == ("arousal", "anger")
    with_vad = open_corpus(f"ravdess:{tmp_path}/a+manifest:{tmp_path}/m.jsonl", targets=VAD)
    assert [clip.scores for clip in with_vad.clips] == [{}, {"arousal": 6.5}]
    assert "2 of 3 targets have no column: valence, dominance" in with_vad.warnings
    assert any(line.startswith("columns of other targets are passed over: anger") for line in with_vad.warnings)


def test_a_manifest_without_a_column_of_the_targets_is_refused(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    make_wav("b.wav")
    row = {"audio": "b.wav", "speaker": "b", "split": "train", "anger": 1, "Fear": 2, "weight.fear": 1}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    spec = f"manifest:{tmp_path}/m.jsonl"
    told = r"no column for any of the targets \(arousal, valence, dominance\).*has anger, Fear, weight.fear; --targets"
    with pytest.raises(RequestError, match=told):
        open_corpus(spec, targets=VAD)
    assert open_corpus(spec).rated == ("anger", "fear") or open_corpus(spec).rated == ("fear", "anger")
    (tmp_path / "m.jsonl").write_text(json.dumps({**row, "caption": "She sounds calm."}) + "\n")
    assert open_corpus(spec, targets=VAD).clips[0].caption == "She sounds calm."
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "b.wav", "speaker": "b", "valence": 1}) + "\n")
    with pytest.raises(RequestError, match=r"no column for any of the targets .*has valence; --targets"):
        open_corpus(spec)
