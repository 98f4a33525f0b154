from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from emonet.errors import EmonetError, RequestError
from emonet.registry import CANDIDATE, CAPTIONER, CHAMPION, find_version, register_captioner, resolve
from emonet.registry.models import VOICE_REQUIREMENTS
from emonet.tracking import default_uri, start_run


@pytest.fixture
def uri(runs: Path) -> str:
    return default_uri(runs)


def register(runs: Path, text: str) -> int:
    folder = runs / "captioner"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)
    with start_run(
        default_uri(runs), experiment="toy", name="pretrain", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        return register_captioner(run, folder, {"val_loss": 1.5}).version


def test_first_version_is_champion_and_each_new_one_candidate(runs: Path, uri: str) -> None:
    assert find_version(CAPTIONER, CHAMPION, uri) is None
    assert [register(runs, "first"), register(runs, "second")] == [1, 2]
    champion, candidate = find_version(CAPTIONER, CHAMPION, uri), find_version(CAPTIONER, CANDIDATE, uri)
    assert champion is not None
    assert candidate is not None
    assert (champion.version, candidate.version, champion.experiment) == (1, 2, "toy")
    for source, text in (("@champion", "first"), ("@candidate", "second"), ("/2", "second")):
        assert (Path(resolve(f"models:/{CAPTIONER}{source}", uri)) / "config.json").read_text() == text


def test_other_sources_are_left_as_they_are(uri: str) -> None:
    assert resolve("openai/whisper-small", uri) == "openai/whisper-small"


def test_unknown_version_lists_what_there_is(runs: Path, uri: str) -> None:
    with pytest.raises(RequestError, match="an empty registry"):
        resolve("models:/emonet-captioner@champion", uri)
    register(runs, "first")
    with pytest.raises(RequestError, match=r"(?s)no model 'models:/emonet-captioner@best'.*emonet-captioner version 1"):
        resolve("models:/emonet-captioner@best", uri)


def test_requirements_are_installed_packages() -> None:
    assert all(metadata.version(name) for name in VOICE_REQUIREMENTS)


def test_an_unknown_alias_lists_those_that_there_are(runs: Path, uri: str) -> None:
    register(runs, "first")
    with pytest.raises(RequestError, match=r"(?s)found: .*version 1; aliases candidate, champion\n") as told:
        resolve("models:/emonet-captioner@candiate", uri)
    assert str(told.value).endswith("try:      models:/emonet-captioner@candidate")


def test_a_registry_that_the_environment_names_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/none.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    hint = rf"try: +MLFLOW_TRACKING_URI={uri} is set; unset it or correct it"
    with pytest.raises(RequestError, match=rf"(?s)no registry here.*where: +{tmp_path}/none\.db.*{hint}"):
        resolve("models:/emonet-voice@champion", default_uri(tmp_path))
    (tmp_path / "none.db").write_text("this is no database")
    with pytest.raises(EmonetError, match=rf"(?s)the registry cannot be used.*{hint}"):
        resolve("models:/emonet-voice@champion", default_uri(tmp_path))


def test_the_environment_is_not_blamed_for_a_model_that_a_registry_lacks(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"(?s)no model.*an empty registry.*emonet pretrain, extract and heads"):
        resolve("models:/emonet-voice@champion", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RequestError, match=r"(?s)no model.*an empty registry.*MLFLOW_TRACKING_URI=.* is set"):
        resolve("models:/emonet-voice@champion", uri)
