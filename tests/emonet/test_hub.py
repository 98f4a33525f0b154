from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest

from emonet.errors import EmonetError, RequestError
from emonet.hub import locate, weights_identity


def test_without_a_network_the_message_names_the_model_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(EmonetError, match="'nobody/nothing' cannot be fetched") as caught:
        locate("nobody/nothing")
    assert not isinstance(caught.value, RequestError)
    assert "Name or service not known" in str(caught.value)
    assert "give a folder instead" in str(caught.value)


def test_a_model_that_was_downloaded_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: str(tmp_path))
    assert locate("somebody/something") == "somebody/something"


@pytest.mark.parametrize("source", ["nowhere", "./nowhere", "/no/where", "a/b/c"])
def test_no_such_folder(source: str) -> None:
    with pytest.raises(RequestError, match="no such captioner"):
        locate(source)


def test_a_file_or_a_damaged_folder_is_no_captioner(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RequestError, match="not a captioner"):
        locate(str(tmp_path))
    with pytest.raises(RequestError, match="a file"):
        locate(str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    assert locate(str(tmp_path)) == str(tmp_path)


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"a")
    first = weights_identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"b")
    assert weights_identity(str(tmp_path)) != first
    assert weights_identity("openai/whisper-small") == "openai/whisper-small"
