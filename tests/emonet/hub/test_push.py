"""Models pushed to a small hub on this machine by the real client."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from emonet import EmotionPipeline
from emonet.encoders.plugged import NOTE
from emonet.errors import EmonetError, RequestError
from emonet.hub import CONFIG, fetch_model, prepare, push
from emonet.hub.cards import hub_card
from tests.hub_server import TOKEN, Hub

NAME = "me/voice"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the hub's library uploads so


def never(question: str) -> bool:
    raise AssertionError(question)


def pushed(voice: Path, hub: Hub, **options: object) -> str:
    return push(prepare(voice, NAME), **{"replace": never, "say": print, **options})


def test_a_model_goes_up_in_one_commit_and_comes_down_whole(voice: Path, hub: Hub) -> None:
    commit = pushed(voice, hub)
    there = hub.repositories[NAME]
    assert there.branches["main"] == commit
    assert len(there.commits) == 2  # the repository's own, and ours
    config = json.loads(there.files()[CONFIG])
    assert (config["library_name"], config["targets"]) == ("emonet", list(EmotionPipeline.from_folder(voice).targets))
    assert there.files()["experts/anger.safetensors"] == (voice / "experts" / "anger.safetensors").read_bytes()
    assert sorted(there.files()) == [".gitattributes", "README.md", *sorted([CONFIG, *config["files"]])]
    folder = fetch_model(NAME, say=never)
    assert {path: (folder / path).read_bytes() for path in config["files"]} == {
        path: (voice / path).read_bytes() for path in config["files"]
    }
    assert fetch_model(str(folder), say=never) == folder  # a local folder of that form


def test_tables_of_clips_lineage_and_what_runs_when_read_stay_here(voice: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(voice, tmp_path / "voice")
    for path in ("clips.parquet", "lineage.json", "experts/predictions.parquet", "encoder/x.bin", "experts/.x.json"):
        (mine / path).write_text("{}")
    assert prepare(mine, NAME).sizes.keys() == prepare(voice, NAME).sizes.keys()


def test_an_update_takes_experts_away_that_the_model_has_no_more(voice: Path, hub: Hub) -> None:
    pushed(voice, hub)
    files = hub.repositories[NAME].files()
    theirs = dict.fromkeys(("notes.txt", "experts/NOTICE", "encoder/LICENSE.md", "experts/mine.safetensors"), b"theirs")
    config = json.loads(files[CONFIG])
    config["files"] |= {"experts/old.safetensors": 3, "experts/NOTICE": 6, "notes.txt": 6}
    old = {CONFIG: json.dumps(config).encode(), "experts/old.safetensors": b"old"}
    hub.repositories[NAME].commit("main", {**files, **theirs, **old})
    pushed(voice, hub)
    assert hub.repositories[NAME].files() == {**files, **theirs}


def test_an_encoder_of_a_plug_in_stays_here(voice: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(voice, tmp_path / "voice")
    (mine / "encoder" / NOTE).write_text("{}")
    with pytest.raises(RequestError, match="encoder is a plug-in's, whose weights do not travel"):
        prepare(mine, NAME)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("there", ["license: mit", "license:\n- mit\n- apache-2.0", "license:\n  - mit"])
def test_the_licence_of_a_card_is_replaced_whole(voice: Path, tmp_path: Path, there: str, newline: str) -> None:
    mine = shutil.copytree(voice, tmp_path / "voice")
    card = f"---\nlanguage:\n- en\n{there}\ntags:\n- audio\n---\n\n# mine\n"
    (mine / "README.md").write_bytes(card.replace("\n", newline).encode())
    assert str(prepare(mine, NAME).licence).startswith("mit")
    changed = prepare(mine, NAME, "cc-by-4.0")
    assert changed.card == "---\nlanguage:\n- en\nlicense: cc-by-4.0\ntags:\n- audio\n---\n\n# mine\n"
    assert changed.licence == "cc-by-4.0"
    assert hub_card(card.replace("\n", newline), NAME, "cc-by-4.0") == changed.card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "held"),
    [
        ({"pytorch_model.bin": b"x", "README.md": b"#"}, "pytorch_model.bin"),
        (
            {CONFIG: b'{"model_type": "bert"}', "model.safetensors": b"x"},
            "config.json, model.safetensors (this is no emonet model)",
        ),
        ({CONFIG: b'{"library_name": "emonet", "model_type": "emonet-voice", "format_version": 2}'}, "form that this"),
    ],
)
def test_another_model_is_replaced_only_by_consent(voice: Path, hub: Hub, files: dict[str, bytes], held: str) -> None:
    before = hub.add(NAME, files)
    asked: list[str] = []
    with pytest.raises(RequestError, match=r"(?s)another model is there, and it stays.*--force") as caught:
        pushed(voice, hub, replace=lambda question: asked.append(question) or False)
    assert held in str(caught.value)
    assert held in asked[0]
    assert len(before.commits) == 1
    pushed(voice, hub, replace=lambda _: True)
    assert CONFIG in before.files()


@pytest.mark.slow
def test_an_emonet_model_of_another_name_is_another_model(voice: Path, hub: Hub, tmp_path: Path) -> None:
    mine = shutil.copytree(voice, tmp_path / "voice")
    (mine / "README.md").write_text("---\nlicense: mit\n---\n\n# emonet-voice, experiment mine\n")
    push(prepare(mine, NAME), replace=never, say=print)
    push(prepare(mine, NAME), replace=never, say=print)  # an update is no other model
    with pytest.raises(RequestError, match="the emonet model 'emonet-voice, experiment mine'"):
        pushed(voice, hub, replace=lambda _: False)


@pytest.mark.slow
def test_a_branch_is_made_and_main_left_alone(voice: Path, hub: Hub) -> None:
    hub.add(NAME, {".gitattributes": b""})
    commit = pushed(voice, hub, revision="v2")
    there = hub.repositories[NAME]
    assert (there.branches["v2"], list(there.files("main"))) == (commit, [".gitattributes"])
    assert fetch_model(NAME, "v2", say=never).name == commit


def test_no_branch_is_made_of_anothers_model(voice: Path, hub: Hub) -> None:
    there = hub.add(NAME, {"pytorch_model.bin": b"x"})
    with pytest.raises(RequestError, match="another model is there"):
        pushed(voice, hub, revision="new", replace=lambda _: False)
    assert list(there.branches) == ["main"]


def test_a_commit_that_had_gone_through_is_done(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.late.append("POST .*/commit/")
    commit = pushed(voice, hub)
    assert hub.repositories[NAME].branches["main"] == commit
    assert len([one for one in hub.asked if "/commit/" in one]) == 2


def test_a_commit_of_somebody_else_is_not_ours(voice: Path, hub: Hub, tmp_path: Path) -> None:
    pushed(voice, hub)
    mine, there = shutil.copytree(voice, tmp_path / "voice"), hub.repositories[NAME]
    weights = mine / "experts" / "anger.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # config.json stays the same
    hub.trouble["POST .*/commit/"] = [(412, {})]
    with pytest.raises(EmonetError, match="changed by somebody else"):
        pushed(mine, hub)
    assert len(there.commits) == 2


@pytest.mark.slow
def test_private_repositories(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(voice, hub, private=True)
    assert hub.repositories[NAME].private
    hub.add("me/open", {".gitattributes": b""})
    with pytest.raises(RequestError, match="everybody can read it"):
        push(prepare(voice, "me/open"), private=True, replace=never, say=print)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RequestError, match=r"(?s)no such model on the hub, or it is private.*hf auth login"):
        fetch_model(NAME, say=never)


def test_without_a_token_nobody_is_asked(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RequestError, match="wants a token that may write"):
        pushed(voice, hub)
    assert hub.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, RequestError, "does not accept the token"),
        (403, RequestError, "(?s)does not allow this with the token.*may write to me"),
        (409, EmonetError, "changed by somebody else"),
        (500, EmonetError, "does not answer"),
    ],
)
def test_refusals_of_a_commit_in_words(voice: Path, hub: Hub, status: int, kind: type, told: str) -> None:
    hub.trouble["POST .*/commit/"] = [(status, {"X-Error-Message": f"the token {TOKEN} is bad"})] * 9
    with pytest.raises(kind, match=told) as caught:
        pushed(voice, hub)
    assert TOKEN not in str(caught.value)
    assert CONFIG not in hub.repositories[NAME].files()


@pytest.mark.slow
def test_somebody_else_at_the_same_time(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(voice, hub)

    def meanwhile(_: str) -> bool:
        hub.repositories[NAME].commit("main", {CONFIG: b"{}"})
        return True

    hub.repositories[NAME].commit("main", {"pytorch_model.bin": b""})
    with pytest.raises(EmonetError, match=r"(?s)changed by somebody else.*A commit has happened since"):
        pushed(voice, hub, replace=meanwhile)


def test_a_busy_hub_is_asked_again_after_as_long_as_it_says(
    voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.trouble |= {
        "POST .*/commit/": [(429, {"Retry-After": "7"})],
        "POST /api/repos/create": [(503, {"Retry-After": "3"})],
        "GET /api/models": [(429, {})],
    }
    said: list[str] = []
    pushed(voice, hub, say=said.append)
    assert waits == [2, 3, 7]
    assert said[-1] == "the hub is busy (HTTP 429); asked again in 7 s"
    hub.trouble["GET /api/models"] = [(429, {"Retry-After": "4000"})]
    with pytest.raises(EmonetError, match=r"(?s)takes no more requests for now.*wait 4000 s"):
        pushed(voice, hub)


def test_names_and_licences_that_cannot_be(voice: Path) -> None:
    for name in ("voice", "a/b/c", "me/voice model", "../x", "me/"):
        with pytest.raises(RequestError, match="no name of a model on the hub"):
            prepare(voice, name)
    with pytest.raises(RequestError, match="no id of a licence"):
        prepare(voice, NAME, "CC BY 4.0\nx: y")


@pytest.mark.slow
def test_without_a_network(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EmonetError, match=r"(?s)the hub does not answer.*http://127.0.0.1:9.*is there a network"):
        pushed(voice, hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EmonetError, match="the hub does not answer"):
        pushed(voice, hub)


@pytest.mark.slow
def test_an_upload_that_breaks_leaves_nothing(voice: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.trouble["PUT /lfs/"] = [(403, {})] * 4
    with pytest.raises(RequestError, match="does not allow this with the token"):
        pushed(voice, hub)
    assert list(hub.repositories[NAME].files()) == [".gitattributes"]
    pushed(voice, hub)  # the same command again
    assert CONFIG in hub.repositories[NAME].files()
