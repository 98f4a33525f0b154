from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from emonet.registry import VOICE, version_of
from emonet.tracking import client, default_uri, lineage
from experiments.cli import verbs as cli
from tests.experiments.model_registry import register


@pytest.fixture
def registered(runs: Path, voice: Path, tmp_path: Path) -> Path:
    """Three versions; the second one says what it was trained on."""
    told = tmp_path / "of-another-name"
    shutil.copytree(voice, told)
    (told / "README.md").write_text("# a card")
    clips = pd.DataFrame({"id": ["a"], "split": ["train"], "speaker": ["ann"], "seconds": [1.0]})
    digests = {"corpus_fingerprint": "c" * 64, "store_fingerprint": "d" * 64, "encoder_digest": "e" * 64}
    origin = lineage.Lineage.of(
        clips,
        experiment="mini",
        corpus="manifest:data/m.csv",
        window_seconds=1.0,
        encoder="x",
        seed=0,
        settings={},
        **digests,
    )
    lineage.write(told, origin, clips)
    assert [register(folder, runs) for folder in (voice, told, voice)] == [1, 2, 3]
    return runs


def emonet(runs: Path, *words: str) -> int:
    return cli.main(["registry", *words, "--runs", str(runs)])


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_the_list_shows_versions_with_their_origin_and_those_without_files(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = version_of(VOICE, 1, default_uri(registered)).source.removeprefix("file://")
    shutil.rmtree(place)
    assert emonet(registered, "list") == 0
    shown = lines(capsys)
    for words in ("@candidate", "@champion", "m.csv", "mini", f"version 1: not found at {place}"):
        assert words in shown
    assert "prune" not in shown
    assert emonet(registered, "list", "--json") == 0
    found = json.loads(capsys.readouterr().out)["versions"]
    assert [(one["version"], one["megabytes"] is None) for one in found] == [(3, False), (2, False), (1, True)]


def test_an_empty_registry_and_none(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emonet(runs, "list") == 0
    assert "an empty registry" in lines(capsys)
    assert emonet(tmp_path / "none", "list") == 2
    assert "there is no registry here" in lines(capsys)


def test_show_tells_all_of_a_version(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emonet(registered, "show", "2") == 0
    shown = lines(capsys)
    for words in ("manifest:data/m.csv (fingerprint cccccccccccccccc)", "1 train", "README.md", "tag test_mae:"):
        assert words in shown
    client(default_uri(registered)).set_model_version_tag(VOICE, "1", "a key of more than twenty letters", "its value")
    assert emonet(registered, "show", "champion") == 0
    shown = lines(capsys)
    assert "unknown: what it was trained on was not recorded" in shown
    assert "letters: its value" in shown
    assert emonet(registered, "show", "9") == 2
    assert "has no version 9" in lines(capsys)


def test_promote_by_hand_and_back(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = default_uri(registered)
    assert emonet(registered, "promote", "candidate") == 0
    assert "nothing was changed: --yes does it" in lines(capsys)
    assert emonet(registered, "promote", "candidate", "--yes") == 0
    assert "version 3 is @champion now, in place of 1" in lines(capsys)
    assert "by hand" in version_of(VOICE, 3, uri).tags["promoted"]
    assert emonet(registered, "rollback", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": VOICE, "champion": 1, "former": 3, "changed": True}
    assert emonet(registered, "rollback") == 2
    assert "there is nothing to undo" in lines(capsys)
    shutil.rmtree(version_of(VOICE, 3, uri).source.removeprefix("file://"))
    assert emonet(registered, "promote", "3", "--yes") == 2
    assert "it cannot be champion" in lines(capsys)


def test_prune_lists_first_and_deletes_with_yes(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = default_uri(registered)
    assert emonet(registered, "prune") == 0
    assert "every version is needed" in lines(capsys)
    version = version_of(VOICE, 2, uri)
    assert emonet(registered, "prune", "--keep", "0") == 0
    assert "would go: 1 version" in lines(capsys)
    assert version_of(VOICE, 2, uri) == version
    assert emonet(registered, "prune", "--keep", "0", "--yes") == 0
    assert "deleted: 1 version" in lines(capsys)
    assert not list(Path(version.source.removeprefix("file://")).glob("**/*.safetensors"))
    assert {int(one.version) for one in MlflowClient(uri).search_model_versions(f"name='{VOICE}'")} == {1, 3}
