"""The verb `push`, against a small hub on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.core import console
from tests.hub_server import TOKEN, Hub

NAME = "me/voice"
CARD = """---
license: "other"
---

# emonet-voice, experiment mine

## How to load it

from_folder("FOLDER OF THIS FILE")

## Data

Corpus `manifest:/home/ann/clips.csv`.
"""
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the hub's library uploads so


@pytest.fixture
def mine(voice: Path, tmp_path: Path) -> Path:
    """A voice model with a card."""
    folder = shutil.copytree(voice, tmp_path / "mine")
    (folder / "README.md").write_text(CARD)
    return folder


def test_a_dry_run_tells_all_and_asks_nobody(mine: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(mine), NAME, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "would be uploaded to me/voice, branch main (8 files" in said
    assert "names no licence of the weights" in said
    assert "the card names paths of this machine, for everybody to read: /home/ann/clips.csv" in said
    assert hub.asked == []


def test_the_card_on_the_hub(mine: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(mine), NAME, "--licence", "cc-by-nc-4.0", "--revision", "v2", "--json"]) == 0
    out = capsys.readouterr()
    result = json.loads(out.out)
    assert (result["licence"], result["revision"]) == ("cc-by-nc-4.0", "v2")
    assert result["commit"] == hub.repositories[NAME].branches["v2"]
    card = hub.repositories[NAME].files("v2")["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n---\n\n# emonet-voice, experiment mine\n")
    assert 'from_pretrained("me/voice")' in card
    assert "FOLDER OF THIS FILE" not in card
    assert card.endswith(CARD.partition("## Data")[2])  # what is said of the data stays what it was
    assert (mine / "README.md").read_text() == CARD
    assert TOKEN not in out.out + out.err


def test_a_licence_is_asked_for_and_never_invented(
    mine: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["", "mit"])
    monkeypatch.setattr(console, "can_ask", lambda: True)
    monkeypatch.setattr(console, "answered", lambda _: next(answers))
    for licence in (None, "mit"):
        assert main(["push", str(mine), NAME, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["licence"] == licence


@pytest.mark.slow
def test_another_model_stays_without_consent(
    mine: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(NAME, {"pytorch_model.bin": b"x"})
    assert main(["push", str(mine), NAME]) == 2
    assert "another model is there, and it stays" in capsys.readouterr().err
    asked: list[str] = []
    monkeypatch.setattr(console, "can_ask", lambda: True)
    monkeypatch.setattr(console, "agreed", lambda question: asked.append(question) or True)
    assert main(["push", str(mine), NAME, "--licence", "mit"]) == 0
    assert asked == ["me/voice holds pytorch_model.bin. Replace it by 'emonet-voice, experiment mine'?"]
    hub.repositories[NAME].commit("main", {"model.onnx": b"x"})
    assert main(["push", str(mine), NAME, "--force", "--licence", "mit"]) == 0


@pytest.mark.slow
def test_predict_by_the_models_name_on_the_hub(
    mine: Path, hub: Hub, make_wav: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(mine), NAME, "--revision", "v2"]) == 0
    capsys.readouterr()
    assert main(["predict", str(make_wav()), "--model", f"hf://{NAME}@v2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == f"hf://{NAME}@v2"
    assert set(result["predictions"][0]["scores"]) == {"anger", "fear", "sadness"}
    assert main(["predict", str(make_wav()), "--model", f"hf://{NAME}@v3"]) == 2
    assert "has no revision 'v3'" in capsys.readouterr().err


def test_a_model_that_is_none(tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(tmp_path), NAME]) == 2
    assert "this folder holds no voice model" in capsys.readouterr().err
    assert hub.asked == []
