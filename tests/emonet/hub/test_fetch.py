"""Models fetched from a small hub on this machine by the real client."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from emonet import EmotionPipeline
from emonet.errors import EmonetError, RequestError
from emonet.hub import CONFIG, fetch_from_hub, fetch_model, hub_address, prepare, push
from emonet.hub.failures import AwayError, explained
from emonet.serving.models import local_folder
from tests.hub_server import TOKEN, Hub, Repository

NAME = "me/voice"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the hub's library uploads so


def never(text: str) -> None:
    raise AssertionError(text)


@pytest.fixture
def there(voice: Path, hub: Hub) -> Repository:
    """A model that somebody has pushed."""
    push(prepare(voice, NAME), replace=lambda _: False, say=print)
    hub.asked.clear()
    return hub.repositories[NAME]


def test_a_pipeline_from_the_hub_scores_as_at_home(voice: Path, there: Repository, make_wav: object) -> None:
    audio = make_wav()
    assert EmotionPipeline.from_pretrained(NAME)(audio) == EmotionPipeline.from_folder(voice)(audio)
    assert Path(local_folder("hf://me/voice", Path("runs"))) == fetch_model(NAME, say=never)  # as the server takes it
    assert hub_address("hf://me/voice@v2") == ("me/voice", "v2")
    assert hub_address("hf://me/voice") == ("me/voice", None)
    assert hub_address("models:/me") is None
    for wrong in ("hf://", "hf://me", "hf://me/", "hf:///tmp/voice", "hf://a/b/c", "hf://@v2"):
        with pytest.raises(RequestError, match="no name of a model on the hub"):
            hub_address(wrong)


def test_an_address_is_never_a_folder(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me" / "nothing").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for fetch in (
        lambda: local_folder("hf://me/nothing", Path("runs")),
        lambda: fetch_from_hub("me/nothing", say=never),
    ):
        with pytest.raises(RequestError, match="no such model on the hub"):
            fetch()
    with pytest.raises(RequestError, match=r"no name of a model on the hub"):
        fetch_from_hub("../nothing", say=never)


@pytest.mark.slow
def test_what_could_run_is_not_downloaded(there: Repository) -> None:
    there.commit("main", {**there.files(), "encoder/pytorch_model.bin": b"evil", "x.py": b"evil"})
    folder = fetch_model(NAME, say=never)
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".py")]


def test_without_a_network_the_copy_is_used_and_said(there: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch_model(NAME, say=never)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    assert fetch_model(NAME, say=said.append) == first
    assert said == [
        f"the hub does not answer: the copy of me/voice that was downloaded before is used, commit {first.name[:12]}"
    ]
    with pytest.warns(UserWarning, match="the copy of me/voice that was downloaded before is used"):
        EmotionPipeline.from_pretrained(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch_model(NAME, first.name, say=said.append) == first
    with pytest.raises(EmonetError, match=r"(?s)the hub does not answer.*try again"):
        fetch_model("me/another", say=never)


def test_an_update_that_breaks_leaves_the_copy(there: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch_model(NAME, say=never)
    there.commit("main", {**there.files(), CONFIG: there.files()[CONFIG] + b"\n", "experts/anger.safetensors": b"new"})

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "snapshot_download", broken)
        assert fetch_model(NAME, say=print) == first
    with pytest.raises(RequestError, match=r"(?s)not whole.*anger.safetensors has 3 of"):
        fetch_model(NAME, say=never)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch_model(NAME, say=print) == first


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "full"), r"(?s)read or written here.*hub\n.*No space left"),
        (OSError(errno.EDQUOT, "full"), "Disk quota exceeded"),
        (PermissionError(errno.EACCES, "no", "/x/blob"), r"(?s)/x/blob.*Permission denied"),
        (OSError(errno.EROFS, "no", "/x/blob"), "Read-only file system"),
        (FileNotFoundError(errno.ENOENT, "no", "/x/blob"), "No such file"),
        (RuntimeError("Xet: I/O error: No space left on device (os error 28)"), "No space left"),
    ],
)
def test_a_fault_of_the_disk_is_told_and_no_copy_used(
    there: Repository, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    fetch_model(NAME, say=never)

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(EmonetError, match=told) as caught:
        fetch_model(NAME, say=never)
    assert not isinstance(caught.value, AwayError)


def test_only_errors_of_the_hubs_library_are_the_hubs() -> None:
    with pytest.raises(RuntimeError, match="a fault of ours"), explained(NAME):
        raise RuntimeError("a fault of ours")
    library = {"__name__": "huggingface_hub.file_download"}
    exec("def download(): raise RuntimeError('CAS service error')", library)
    with pytest.raises(AwayError, match=r"(?s)does not answer.*CAS service"), explained(NAME):
        library["download"]()


def test_an_encoder_of_a_plug_in_is_refused(there: Repository, hub: Hub) -> None:
    folder = fetch_model(NAME, say=never)
    there.commit("main", {**there.files(), "encoder/plugin.json": b"{}"})
    hub.asked.clear()
    with pytest.raises(RequestError, match="encoder is a plug-in's, whose weights do not travel"):
        fetch_model(NAME, say=never)
    assert not [one for one in hub.asked if "/resolve/" in one]
    (folder / "encoder" / "plugin.json").write_text("{}")
    with pytest.raises(RequestError, match="encoder is a plug-in's"):
        fetch_model(str(folder), say=never)


@pytest.mark.slow
def test_a_copy_that_is_not_whole_is_not_used(there: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch_model(NAME, say=never)
    (folder / "experts" / "fear.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        EmonetError, match="the hub does not answer, and of the model only a part was downloaded so far"
    ):
        fetch_model(NAME, say=never)


@pytest.mark.slow
def test_half_a_file_is_told_and_the_rest_comes_next_time(
    there: Repository, hub: Hub, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.halves.add("experts/anger.safetensors")
    with pytest.raises(EmonetError, match="the hub does not answer"):
        fetch_model(NAME, say=never)
    hub.halves.clear()
    folder = fetch_model(NAME, say=never)
    content = (folder / "experts" / "anger.safetensors").read_bytes()
    assert content == (voice / "experts" / "anger.safetensors").read_bytes()


@pytest.mark.slow
def test_half_a_file_that_was_pushed_is_told(there: Repository) -> None:
    files = there.files()
    half = files["experts/anger.safetensors"][:100]
    there.commit("main", {**files, "experts/anger.safetensors": half})
    with pytest.raises(RequestError, match=r"(?s)not whole.*anger.safetensors has 100 of [\d,]+ bytes"):
        fetch_model(NAME, say=never)


def test_there_is_no_such_model_or_revision(there: Repository) -> None:
    with pytest.raises(RequestError, match="there is no such model on the hub, or it is private"):
        fetch_model("me/nothing", say=never)
    with pytest.raises(RequestError, match="has no revision 'v9'"):
        fetch_model(NAME, "v9", say=never)
    for name in ("nothing", "./me/voice", "/me", "a/b/c"):
        with pytest.raises(RequestError, match="no such folder, and this is no name"):
            fetch_model(name, say=never)
    with pytest.raises(RequestError, match="no name of a model on the hub"):
        fetch_model("me/voice model", say=never)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"pytorch_model.bin": b"x"}, "found: +pytorch_model.bin"),
        ({CONFIG: b'{"model_type": "bert"}', "model.safetensors": b""}, "found: +a config.json for bert, model.safe"),
        ({CONFIG: b"[]"}, "a config.json for something else"),
        ({CONFIG: b"{"}, "config.json cannot be read"),
        ({CONFIG: b'{"library_name": "emonet", "model_type": "emonet-voice", "format_version": 1}'}, "is damaged"),
        ({CONFIG: b'{"library_name": "emonet", "model_type": "emonet-voice", "format_version": 7}'}, "newer emonet"),
        ({}, "found: +no files"),
    ],
)
def test_what_is_not_ours_says_what_it_lacks(hub: Hub, tmp_path: Path, files: dict[str, bytes], told: str) -> None:
    hub.add("me/other", files)
    with pytest.raises(RequestError, match=f"(?s){told}"):
        fetch_model("me/other", say=never)
    folder = tmp_path / "local"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(RequestError, match=f"(?s){told}"):
        fetch_model(str(folder), say=never)


@pytest.mark.slow
def test_a_wrong_token_and_a_gated_model(there: Repository, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.trouble["GET /api/models"] = [(403, {"X-Error-Code": "GatedRepo"})]
    with pytest.raises(RequestError, match="only to those whom its owner has admitted"):
        fetch_model(NAME, say=never)
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}wrong")
    with pytest.raises(RequestError, match="does not accept the token") as caught:
        fetch_model(NAME, say=never)
    assert "wrong" not in str(caught.value)


@pytest.mark.slow
def test_a_busy_hub_is_waited_for(there: Repository, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.trouble["GET /api/models"] = [(429, {"Retry-After": "5"})]
    said: list[str] = []
    fetch_model(NAME, say=said.append)
    assert (waits[:1], said) == ([5], ["the hub is busy (HTTP 429); asked again in 5 s"])


def test_a_folder_of_that_form(voice: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(voice, tmp_path / "voice")
    with pytest.raises(RequestError, match=r"(?s)no emonet model.*encoder, experts"):
        fetch_model(str(mine), say=never)
    config = prepare(voice, NAME).config
    (mine / CONFIG).write_text(config.model_dump_json())
    assert fetch_model(str(mine), say=never) == mine
    with pytest.raises(RequestError, match="a folder has no revisions"):
        fetch_model(str(mine), "v1", say=never)
    outside = {**config.model_dump(mode="json"), "files": {"experts/../../x.json": 2}}
    (mine / CONFIG).write_text(json.dumps(outside))
    with pytest.raises(RequestError, match="is no file of a voice model"):
        fetch_model(str(mine), say=never)
