from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emonet.errors import EmonetError, RequestError
from emonet.registry import (
    CANDIDATE,
    CAPTIONER,
    CHAMPION,
    ChampionMovedError,
    Version,
    delete_version,
    find_version,
    logged_by,
    named_version,
    of_run,
    promote,
    prunable,
    register_captioner,
    rollback,
    tag_version,
    version_files,
    version_of,
    versions_of,
)
from emonet.registry import versions as registry
from emonet.registry.pruning import DELETED
from emonet.tracking import client, default_uri, start_run


@pytest.fixture
def uri(runs: Path) -> str:
    """A registry with versions 1 to 4; the first is the champion, the last the candidate."""
    folder = runs / "captioner"
    folder.mkdir()
    for number in range(4):
        (folder / "config.json").write_text("x" * (number + 1))
        with start_run(
            default_uri(runs), experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}
        ) as run:
            register_captioner(run, folder, {"val_loss": 1.5})
    return default_uri(runs)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("3", 3), ("@3", 3), ("models:/emonet-voice/3", 3), ("champion", "champion"), ("@champion", "champion"),
        ("models:/emonet-voice@champion", "champion"), ("@2026-best", "2026-best"), ("a" * 32, None), ("1" * 32, None),
        ("models:/emonet-captioner/3", None), ("models:/emonet-voice-2/3", None), ("models:/emonet-voice/best", None),
        ("models:/emonet-voice/3/experts", None), ("runs/mine/voice", None), ("./mine", None), ("²", None), ("@", None),
        ("", None), ("runs:/x", None),
    ],
)  # fmt: skip
def test_versions_are_named_by_number_alias_or_uri(given: str, named: int | str | None) -> None:
    assert named_version(given, "emonet-voice") == named


def numbered(number: int, uri: str) -> Version:
    return version_of(CAPTIONER, number, uri)


def champion(uri: str) -> tuple[int, tuple[int, ...]]:
    found = find_version(CAPTIONER, CHAMPION, uri)
    assert found is not None
    return found.version, found.former


def goes_and_stays(uri: str, runs: Path, keep: int) -> tuple[list[int], list[int]]:
    goes, stays = prunable(CAPTIONER, uri, runs, keep=keep)
    return [one.version for one in goes], [one.version for one in stays]


def move(number: int, uri: str, runs: Path) -> None:
    promote(numbered(number, uri), uri, runs, expected=champion(uri)[0], why="test")


def test_versions_are_told_newest_first(uri: str) -> None:
    found = versions_of(CAPTIONER, uri)
    assert [one.version for one in found] == [4, 3, 2, 1]
    assert (found[0].aliases, found[-1].aliases) == ((CANDIDATE,), (CHAMPION,))
    assert found[0].experiment == "toy"
    assert found[0].tags == {"val_loss": "1.5"}
    assert [version_files(one, uri).size for one in found] == [4, 3, 2, 1]
    assert of_run(found[1].run_id, CAPTIONER, uri) == found[1]
    assert versions_of("nothing", uri) == ()
    with pytest.raises(RequestError, match=r"(?s)has no version 9.*version 4 @candidate, 3, 2, 1 @champion"):
        numbered(9, uri)
    with pytest.raises(RequestError, match="this run has logged no voice model"):
        logged_by(found[0].run_id, uri)


def test_rollback_undoes_promotions_one_by_one(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    move(3, uri, runs)
    move(2, uri, runs)
    assert champion(uri) == (2, (3, 2, 1))
    for expected in ((3, (2, 1)), (2, (1,)), (1, ())):
        rollback(CAPTIONER, uri, runs)
        assert champion(uri) == expected
    with pytest.raises(RequestError, match="version 1 of emonet-captioner replaced no other champion"):
        rollback(CAPTIONER, uri, runs)


def test_the_tag_says_what_a_promotion_goes_by_as_long_as_it_holds(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    tags = numbered(2, uri).tags
    assert (tags["former_champion"], tags["promoted"].split()[1:]) == ("1", ["test"])
    rollback(CAPTIONER, uri, runs)
    assert set(numbered(2, uri).tags) == {"val_loss"}


def test_a_champion_that_has_moved_meanwhile_stays(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    with pytest.raises(ChampionMovedError, match=r"(?s)nothing was changed.*expected: +version 1\n.*found: +version 2"):
        promote(numbered(3, uri), uri, runs, expected=1, why="compare")
    with pytest.raises(RequestError, match="version 2 of emonet-captioner is @champion already"):
        promote(numbered(2, uri), uri, runs, expected=2, why="compare")
    assert champion(uri) == (2, (1,))


def test_of_two_promotions_at_once_one_wins(uri: str, runs: Path) -> None:
    def attempt(number: int) -> bool:
        try:
            promote(numbered(number, uri), uri, runs, expected=1, why="test")
        except ChampionMovedError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(attempt, (2, 3, 4)))
    assert sum(won) == 1
    assert champion(uri) == (2 + won.index(True), (1,))


def test_a_former_champion_without_files_is_no_champion_again(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    shutil.rmtree(numbered(1, uri).source.removeprefix("file://"))
    with pytest.raises(
        RequestError, match="former champion, version 1 of emonet-captioner, cannot be used: its files are not found"
    ):
        rollback(CAPTIONER, uri, runs)
    client(uri).delete_model_version(CAPTIONER, "1")
    with pytest.raises(RequestError, match="former champion, version 1 of emonet-captioner, was deleted"):
        rollback(CAPTIONER, uri, runs)
    assert champion(uri) == (2, (1,))


def test_only_what_nobody_needs_may_go(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    assert goes_and_stays(uri, runs, keep=0) == ([3], [])
    assert goes_and_stays(uri, runs, keep=2) == ([], [])
    delete_version(numbered(3, uri), uri, runs)
    assert [one.version for one in versions_of(CAPTIONER, uri)] == [4, 2, 1]


def test_a_version_whose_files_are_not_found_stays_unless_we_have_deleted_them(uri: str, runs: Path) -> None:
    move(2, uri, runs)
    place = Path(numbered(3, uri).source.removeprefix("file://"))
    place.rename(runs / "elsewhere")
    assert goes_and_stays(uri, runs, keep=0) == ([], [3])
    assert goes_and_stays(uri, runs, keep=1) == ([], [3]), "it is none of the newest, either"
    with pytest.raises(RequestError, match=rf"(?s)version 3 .*is kept: its files are not found.*where: +{place}\n"):
        delete_version(numbered(3, uri), uri, runs)
    tag_version(numbered(3, uri), uri, {DELETED: "by a pruning that was killed"})
    assert goes_and_stays(uri, runs, keep=0) == ([3], [])
    delete_version(numbered(3, uri), uri, runs)
    assert [one.version for one in versions_of(CAPTIONER, uri)] == [4, 2, 1]
    assert (runs / "elsewhere").is_dir()


def test_files_outside_of_the_project_are_never_deleted(uri: str, runs: Path, tmp_path: Path) -> None:
    place = Path(numbered(3, uri).source.removeprefix("file://"))
    outside = tmp_path / "outside"
    place.rename(outside)
    place.symlink_to(outside)
    assert version_files(numbered(3, uri), uri).size == 3
    assert goes_and_stays(uri, runs, keep=0) == ([2], [3])
    with pytest.raises(RequestError, match="version 3 of emonet-captioner is kept"):
        delete_version(numbered(3, uri), uri, runs)
    assert goes_and_stays(uri, tmp_path / "another" / "runs", keep=0) == ([], [3, 2])
    assert (outside / "config.json").read_text() == "xxx"


def test_a_version_goes_with_its_files_unless_it_bears_an_alias(uri: str, runs: Path) -> None:
    version = numbered(3, uri)
    delete_version(version, uri, runs)
    assert not Path(version.source.removeprefix("file://")).exists()
    with pytest.raises(RequestError, match="is @candidate by now and is kept"):
        delete_version(numbered(4, uri), uri, runs)


def test_files_that_another_version_has_as_well_stay(uri: str, runs: Path) -> None:
    version = numbered(3, uri)
    again = client(uri).create_model_version(CAPTIONER, version.source, run_id=version.run_id)
    delete_version(version, uri, runs)
    twin = numbered(int(again.version), uri)
    assert version_files(twin, uri).size == 3
    delete_version(twin, uri, runs)
    assert not Path(twin.source.removeprefix("file://")).exists()


def test_a_former_champion_is_kept_also_if_it_became_one_after_the_list_was_made(uri: str, runs: Path) -> None:
    version = numbered(2, uri)
    move(2, uri, runs)
    move(3, uri, runs)
    with pytest.raises(RequestError, match="is a former champion by now and is kept"):
        delete_version(version, uri, runs)


def test_a_registry_that_cannot_be_used(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no registry here"):
        versions_of(CAPTIONER, default_uri(tmp_path / "none"))
    (runs / "mlflow.db").write_text("this is no database")
    with pytest.raises(EmonetError, match=r"(?s)the registry cannot be used.*--runs"):
        versions_of(CAPTIONER, default_uri(runs))


def test_no_message_shows_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_version", lambda *_: None)
    uri = "postgresql://me:secret@host/db"
    version = Version.model_construct(name="emonet-voice", version=2)
    with pytest.raises(EmonetError, match=r"me:\*\*\*@host") as told:
        promote(version, uri, tmp_path, expected=1, why="")
    assert "secret" not in str(told.value)
