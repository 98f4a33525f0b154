from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.evaluation import Scorer
from emonet.peers import PEERS, Terms, open_peer
from emonet.peers.labels import open_labels
from emonet.targets import EMOTIONS, PUBLISHED
from tests.conftest import ROOT
from tests.installed import install

TOY = """
from emonet import EMOTIONS, Scored
class Toy:
    target_spec = EMOTIONS.subset(["anger"])
    def __init__(self, argument, *, device): self.value = float(argument)
    def score(self, clips, *, progress): return Scored.of(clips, self.target_spec, [[self.value]] * len(clips))
"""


def some(*ids: str) -> list[Clip]:
    return [Clip(name, b"", "s", "test") for name in ids]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "p.csv") -> str:
        (tmp_path / name).write_text(text)
        return f"table:{tmp_path / name}"

    return write


def test_plug_ins_are_peers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "toy_peer", TOY, {"emonet.scorers": {"toy": "Toy"}}))
    monkeypatch.delitem(sys.modules, "toy_peer", raising=False)
    peer = open_peer("toy:2", device="cpu")
    assert isinstance(peer, Scorer)
    assert peer.score(some("a")).scores.to_numpy().tolist() == [[2.0]]
    assert peer.about == {"plug-in": "toy-peer 0.1", "trained on": "unknown"}
    assert peer.identity != open_peer("toy:3", device="cpu").identity, "scores are kept by it"


def test_a_plug_in_does_not_take_a_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "site", "toy_hume", TOY, {"emonet.scorers": {"hume": "Toy"}}))
    with pytest.raises(RequestError, match=r"(?s)scorer 'hume' is emonet's own.*pip uninstall toy-hume"):
        open_peer("hume")


def test_names_that_nobody_has() -> None:
    with pytest.raises(RequestError, match=r"(?s)there is no scorer 'gemni'.*gemini, openai.*did you mean gemini\?"):
        open_peer("gemni:x")
    with pytest.raises(RequestError, match="no installed package registers the scorer 'xyzzy'"):
        open_peer("xyzzy")


def test_the_documents_name_every_peer() -> None:
    text = (ROOT / "docs" / "benchmark-peers.md").read_text("utf-8")
    assert not [name for name in PEERS if f"`{name}" not in text]


@pytest.mark.slow
def test_opening_imports_no_http_client(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from emonet.peers import open_peer; open_peer('gemini:m'); open_peer('hume');"
        "print([name for name in ('requests', 'tenacity', 'funasr', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predictions_of_somebody_else(table: Callable[..., str]) -> None:
    name = table("id,Anger,fear,notes,refusal\na,1,0.5,x,\nb,,2,y,\nc,3,4,z,too loud\n01,4,4.2,,\n")
    peer = open_peer(name)
    scored = peer.score(some("a", "b", "c", "d", "01"))
    assert set(peer.target_spec.ids) == {"anger", "fear"}
    assert scored.scores.loc["a", ["anger", "fear"]].tolist() == [1.0, 0.5]
    assert scored.scores.loc["01", "fear"] == 4.2, "unclamped scores leave their scale a little"
    assert scored.refusals == {
        "b": "p.csv has no score of anger",
        "c": "too loud",
        "d": "p.csv has no row of it, but of a, b and 2 more",
    }
    only = open_peer(name, targets=EMOTIONS.subset(["fear"])).score(some("b"))
    assert only.scores.loc["b"].tolist() == [2.0]


def test_predictions_in_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["a", "b"], "valence": [-3.0, np.nan]}).to_parquet(tmp_path / "p.parquet")
    scored = open_peer(f"table:{tmp_path / 'p.parquet'}").score(some("a", "b"))
    assert scored.scores.loc["a", "valence"] == -3
    assert list(scored.refusals) == ["b"]


def test_predictions_as_json_lines_and_out_of_a_spreadsheet(tmp_path: Path, table: Callable[..., str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": 7, "anger": 1}\n{"id": 8, "fear": 2, "refusal": "no"}\n')
    scored = open_peer(f"table:{tmp_path / 'p.jsonl'}").score(some("7", "8"))
    assert scored.refusals == {"7": "p.jsonl has no score of fear", "8": "no"}
    scored = open_peer(table("\ufeffid,anger\na,n/a\nb,2\n")).score(some("a", "b"))
    assert (scored.scores.loc["b", "anger"], list(scored.refusals)) == (2.0, ["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,angr\na,1\n", "(?s)none of predictions.*the column id, and a column for each target.*id, angr"),
        ("clip,anger\na,1\n", "none of predictions"),
        ("id,anger\na,1\na,2\n", "line 3: a occurs a second time"),
        ("id,anger\na,high\n", "line 2: a: anger is no number: 'high'"),
        ("id,anger\na,inf\n", "a: anger is no number"),
        ("id,anger\na,1,2\n", "line 2: 3 cells where the header has 2"),
        ("id,anger\n,1\n", "line 2: there is no id"),
        ("id,anger,Anger\na,1,2\n", "2 columns stand for anger"),
        ("id;anger\na;1\n", r"(?s)cannot be read.*separated by semicolons"),
        ("", r"(?s)none of predictions.*no rows"),
    ],
)
def test_tables_that_are_wrong(table: Callable[..., str], text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_peer(table(text))


def test_predictions_of_other_clips(table: Callable[..., str]) -> None:
    peer = open_peer(table("id,anger\nx,1\ny,2\n"))
    assert peer.score(some("a")).refusals == {"a": "p.csv has no row of it, but of x, y"}
    assert peer.score([]).scores.empty


@pytest.mark.parametrize("name", ["hume", "emotion2vec", "sensevoice", "audeering"])
def test_shipped_labels(name: str) -> None:
    labels = open_labels(name)
    assert set(labels.labels.values()) == set(labels.target_spec.ids)
    low = labels.scores({})
    assert low == [one.low for one in labels.target_spec]
    high = labels.scores(dict.fromkeys(labels.labels, 1.0))
    assert high == [one.high for one in labels.target_spec]


def test_labels_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("label,target\nRage,Anger\nirritation,impatience\nnothing,\n")
    labels = open_labels(str(path)).within(PUBLISHED.subset(["anger"]))
    assert labels.scores({" RAGE ": 0.5, "nothing": 0.9, "irritation": 1}) == [2.0]
    path.write_text("label,target\nRage,angr\nHate,anger\nhate,fear\n")
    with pytest.raises(RequestError, match=r"(?s)line 2: Rage stands for 'angr'.*line 4: hate stands for another"):
        open_labels(str(path))
    path.write_text("name,emotion\nx,y\n")
    with pytest.raises(RequestError, match=r"(?s)holds no labels.*name, emotion"):
        open_labels(str(path))
    with pytest.raises(RequestError, match="the file of labels cannot be read"):
        open_labels("humee")


def test_files_of_answers_have_names_that_every_system_takes(tmp_path: Path) -> None:
    peer = open_peer("openai:org/model:free..", terms=Terms(tmp_path))
    assert re.fullmatch(r"[A-Za-z0-9.-]+\.jsonl", Path(peer.about["answers"]).name)
    assert Path(peer.about["answers"]).parent == tmp_path
