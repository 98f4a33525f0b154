from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from emonet.encoders import FrozenEncoder, locate, weights_identity
from emonet.encoders.hub import ENCODERS
from emonet.errors import EmonetError, RequestError


def test_without_a_network_the_message_names_the_model_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(EmonetError, match="'nobody/nothing' cannot be fetched") as caught:
        locate("nobody/nothing")
    assert not isinstance(caught.value, RequestError)
    assert "Name or service not known" in str(caught.value)
    assert "give a folder instead" in str(caught.value)


class Cache:
    """A cache as huggingface_hub lays it out, with one model, `me/whisper`."""

    def __init__(self, folder: Path) -> None:
        self.model = folder / "models--me--whisper"

    def put(self, commit: str, weights: bytes, **names: str) -> str:
        """Add a snapshot; `names` are revisions that point to it."""
        files = {"config.json": json.dumps({"model_type": "whisper"}).encode(), "model.safetensors": weights}
        snapshot = self.model / "snapshots" / (commit * 40)
        snapshot.mkdir(parents=True)
        for name, content in files.items():
            blob = self.model / "blobs" / hashlib.sha256(content).hexdigest()
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(content)
            (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
        for name in names.values():
            (self.model / "refs").mkdir(exist_ok=True)
            (self.model / "refs" / name).write_text(commit * 40)
        return str(snapshot)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Cache(tmp_path / "hub")


def test_other_encoders_are_found_where_no_captions_are_asked_for(cache: Cache) -> None:
    snapshot = Path(cache.put("a", b"one", tag="main"))
    (snapshot / "config.json").write_text(json.dumps({"model_type": "wavlm"}))
    assert locate("me/whisper", ENCODERS) == str(snapshot)
    with pytest.raises(RequestError, match="not a captioner"):
        locate("me/whisper")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(RequestError, match=r"(?s)nor of another encoder that can be used.*data2vec-audio.*llama"):
        locate("me/whisper", ENCODERS)


def test_a_model_that_was_downloaded_needs_no_network(cache: Cache) -> None:
    first = cache.put("a", b"one", tag="v1.0")
    latest = cache.put("b", b"two", branch="main")
    assert locate("me/whisper") == latest
    assert locate("me/whisper@v1.0") == locate(f"me/whisper@{'a' * 40}") == first
    with pytest.raises(EmonetError, match=r"'me/whisper@v2\.0' cannot be fetched"):
        locate("me/whisper@v2.0")


def test_identity_of_a_hub_model_is_that_of_its_weights(cache: Cache, tmp_path: Path) -> None:
    first = cache.put("a", b"one", branch="main", tag="v1.0")
    before = weights_identity("me/whisper")
    assert before == weights_identity(first) == weights_identity("me/whisper@v1.0")
    cache.put("b", b"two", branch="main")  # an update upstream
    assert weights_identity("me/whisper") != before
    assert weights_identity("me/whisper@v1.0") == before
    shutil.copytree(first, tmp_path / "copy")
    assert weights_identity(str(tmp_path / "copy")) == before


def test_a_model_without_its_weights_counts_as_not_downloaded(cache: Cache) -> None:
    snapshot = Path(cache.put("a", b"one", branch="main"))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(EmonetError, match="'me/whisper' cannot be fetched"):
        locate("me/whisper")
    parts = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(parts))
    (snapshot / "model-1.safetensors").write_bytes(b"1")
    with pytest.raises(EmonetError, match="cannot be fetched"):
        locate("me/whisper")
    (snapshot / "model-2.safetensors").write_bytes(b"2")
    assert locate("me/whisper") == str(snapshot)


PARTS = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}}


def fill(folder: Path, files: Mapping[str, str]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    "loaded",
    [
        {"model.safetensors": "1"},
        {"model.safetensors.index.json": json.dumps(PARTS), **dict.fromkeys(PARTS["weight_map"].values(), "1")},
        {"pytorch_model.bin": "1"},
    ],
)
def test_only_the_weights_that_are_loaded_count(tmp_path: Path, loaded: Mapping[str, str]) -> None:
    others = ("model.fp32-00001-of-00002.safetensors", "._model.safetensors", "x.safetensors", "pytorch_model-1.bin")
    alone = fill(tmp_path / "a", loaded)
    among = fill(tmp_path / "b", {**dict.fromkeys(others, "other"), **loaded})
    assert weights_identity(alone) == weights_identity(among)
    for name in set(loaded) - {"model.safetensors.index.json"}:
        (tmp_path / "b" / name).write_text("2")
    assert weights_identity(alone) != weights_identity(among)


@pytest.mark.parametrize(
    ("index", "message"), [(json.dumps(PARTS), "missing"), ("{", "damaged"), ("{}", "damaged"), ("[]", "damaged")]
)
def test_weights_that_are_not_whole(tmp_path: Path, index: str, message: str) -> None:
    folder = fill(tmp_path / "a", {"model.safetensors.index.json": index})
    with pytest.raises(RequestError, match=message):
        weights_identity(folder)


def test_only_the_weights_that_are_loaded_are_fetched(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, wanted = tmp_path / "index.json", list[str]()
    index.write_text(json.dumps(PARTS))
    lfs = {"sha256": hashlib.sha256(b"1").hexdigest(), "size": 1, "pointerSize": 1}
    names = [*PARTS["weight_map"].values(), "model.fp32-00001-of-00002.safetensors", "model.safetensors.index.json"]
    siblings = [{"rfilename": name, "lfs": None if name.endswith("json") else lfs} for name in names]
    info = huggingface_hub.ModelInfo(id="me/parts", sha="a" * 40, tags=[], siblings=siblings)

    def fetched(*args: object, allow_patterns: list[str], **kwargs: object) -> str:
        wanted.extend(allow_patterns)
        files = {**dict.fromkeys(PARTS["weight_map"].values(), "1"), "model.safetensors.index.json": index.read_text()}
        return fill(tmp_path / "parts", {**files, "config.json": json.dumps({"model_type": "whisper"})})

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **kwargs: str(index))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    before = weights_identity("me/parts")
    assert weights_identity(locate("me/parts")) == before
    assert [name for name in wanted if "safetensors" in name] == sorted(PARTS["weight_map"].values())


def test_a_revision_that_the_hub_does_not_have(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        answer: Any = SimpleNamespace(headers={}, request=None)
        raise huggingface_hub.errors.RevisionNotFoundError("Revision Not Found", response=answer)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", missing)
    with pytest.raises(RequestError, match=r"no model 'me/whisper' on the hub, or it has no revision 'v9'"):
        locate("me/whisper@v9")


def test_what_the_hub_tells_of_weights_is_their_identity_before_they_are_fetched(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*args: object, **kwargs: object) -> huggingface_hub.ModelInfo:
        lfs = {"sha256": hashlib.sha256(b"one").hexdigest(), "size": 3, "pointerSize": 1}
        siblings = [{"rfilename": "model.safetensors", "lfs": lfs}, {"rfilename": "pytorch_model.bin", "lfs": lfs}]
        return huggingface_hub.ModelInfo(id="me/whisper", sha="a" * 40, tags=[], siblings=siblings)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", told)
    before = weights_identity("me/whisper")
    cache.put("a", b"one", branch="main")
    assert weights_identity("me/whisper") == before


def test_an_encoder_of_a_revision_is_loaded_without_a_network(cache: Cache, whisper30: Path) -> None:
    snapshot = Path(cache.put("a", b"other", tag="v1.0"))
    for file in whisper30.iterdir():
        (snapshot / file.name).unlink(missing_ok=True)
        shutil.copy(file, snapshot / file.name)
    assert FrozenEncoder.load("me/whisper@v1.0").digest == FrozenEncoder.load(str(whisper30)).digest


@pytest.mark.parametrize("source", ["", "nowhere", "./nowhere", "/no/where", "a/b/c", "a/b@", "a@b/c@d"])
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


def test_no_source_has_no_weights_whatever_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"a")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    monkeypatch.chdir(tmp_path)
    assert weights_identity("") == ""
    assert weights_identity("scratch:nano") == "scratch:nano"
    assert weights_identity(".") == weights_identity(str(tmp_path))
    with pytest.raises(RequestError, match="no such captioner"):
        locate("")


def test_weights_of_pytorch_tell_folders_apart_as_well(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").write_text(name)
    assert weights_identity(str(tmp_path / "a")) != weights_identity(str(tmp_path / "b"))
