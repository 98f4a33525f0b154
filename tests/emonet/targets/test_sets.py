from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cache.store import TEXTS
from emonet.corpora.manifest.columns import FIELDS
from emonet.errors import RequestError
from emonet.tables import AUDIO_NAMES
from emonet.targets import ATTRIBUTES, CLASSES, EMOTIONS, PUBLISHED, QUALITY, SETS, Target, TargetSpec, open_targets
from emonet.targets.sets import RESERVED

STRESS = {"id": "stress", "low": 1, "high": 5, "meaning": "how stressed: 1 not, 5 very"}


def write(folder: Path, content: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    return str(path)


def told(folder: Path, *rows: object) -> str:
    with pytest.raises(RequestError) as caught:
        open_targets(write(folder, list(rows)))
    return str(caught.value)


def test_named_sets() -> None:
    assert [open_targets(name) for name in SETS] == [EMOTIONS, ATTRIBUTES, QUALITY, PUBLISHED, CLASSES]
    assert PUBLISHED.ranked == EMOTIONS.ids
    assert PUBLISHED.apart == ATTRIBUTES.ids + QUALITY.ids


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"id": "clear_speech", "name": "Clarity", "low": -0.5, "high": 1, "meaning": "how\n  clear", "group": "speech",
            "aliases": ["Clearness"]}  # fmt: skip
    write(tmp_path, [STRESS, more])
    monkeypatch.chdir(tmp_path)
    spec = open_targets("mine.yaml")
    assert spec.targets == (
        Target("stress", "Stress", 1.0, 5.0, "how stressed: 1 not, 5 very"),
        Target("clear_speech", "Clarity", -0.5, 1.0, "how clear", aliases=("Clearness",), group="speech"),
    )
    assert spec.index("clearness") == 1
    assert TargetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert not spec.ranked


def test_own_targets_called_as_published_ones_stay_ones_own(tmp_path: Path) -> None:
    rows = [{"id": name, "low": 0, "high": 4, "meaning": "mine"} for name in ("anger", "valence")]
    spec = open_targets(write(tmp_path, rows))
    assert TargetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec["anger"].meaning == "mine"


def test_rows_of_older_stores_are_read_and_written_as_they_were() -> None:
    fields = ("id", "name", "low", "high", "meaning")
    for spec in SETS.values():
        rows = [{name: getattr(target, name) for name in fields} for target in spec]
        assert spec.to_json() == rows
        assert TargetSpec.from_json(rows) == spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "emotion",
            r"(?s)no target set called 'emotion'.*emotions, attributes, quality, published, classes, or a YAML.*did you",
        ),
        ("Qualitty", r"(?s)no target set.*did you mean quality\?"),
        ("xyz", r"(?s)no target set called 'xyz'.*docs/targets\.md"),
        ("", r"no target set called ''"),
        ("none.yaml", r"(?s)no such file of targets.*/none\.yaml.*no such file.*from the working folder"),
    ],
)
def test_wrong_names_suggest_near_ones(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message):
        open_targets(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"(?s)holds no list of targets.*entries such as - \{id: arousal.*nothing"),
        ("[]", r"(?s)holds no list of targets.*found: +\[\]"),
        ("targets: [{id: a}]", r"(?s)holds no list of targets.*\{'targets'"),
        ("stress", r"(?s)holds no list of targets.*'stress'"),
        ("- {id: a", r"(?s)the file of targets cannot be read.*mine\.yaml"),
        ("[" * 3000, r"the file of targets cannot be read"),
        ("- !!python/object:os.system {}", r"the file of targets cannot be read"),
    ],
)
def test_files_that_are_no_list(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        open_targets(write(tmp_path, content))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(RequestError, match="cannot be read"):
        open_targets(str(tmp_path / "bytes.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RequestError, match=r"(?s)no such file of targets.*a folder"):
        open_targets(str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lowest": 1}, "target 1 (stress): lowest: no such field; did you mean low?"),
        ({"groups": ["x"]}, "groups: no such field; did you mean group?"),
        ({"xyz": 1}, "xyz: no such field; there are id, name, low,"),
        ({"low": 5}, "target 1 (stress): low 5 is not below high 5"),
        ({"low": 6}, "low 6 is not below high 5"),
        ({"low": "1"}, "low: input should be a valid number; found '1'"),
        ({"low": True}, "low: input should be a valid number; found True"),
        ({"high": float("inf")}, "high: input should be"),
        ({"high": float("nan")}, "high: input should be"),
        ({"high": 1e9}, "high: input should be less than or equal to 1000000; found 1000000000.0"),
        ({"id": "über"}, "letters (a to z), digits and _, a letter first; found 'über'"),
        ({"id": "a/b"}, "it names columns and files"),
        ({"id": "../x"}, "it names columns and files"),
        ({"id": ""}, "it names columns and files"),
        ({"id": "stress\n"}, "it names columns and files"),
        ({"id": 7}, "id: input should be a valid string; found 7"),
        ({"id": "x" * 65}, "id: string should have at most 64"),
        ({"id": "speaker"}, "'speaker' is what another column is called"),
        ({"name": "Seconds"}, "'Seconds' is what another column is called"),
        ({"aliases": ["label"]}, "'label' is what another column is called"),
        ({"name": "a\nb"}, "a name is one line with a letter or digit in it; found 'a\\nb'"),
        ({"name": "?!"}, "a name is one line"),
        ({"meaning": ""}, "meaning: string should match"),
        ({"meaning": None}, "meaning: input should be a valid string; found None"),
        ({"aliases": "x"}, "aliases: input should be"),
        ({"aliases": [1]}, "aliases.0: input should be a valid string; found 1"),
    ],
)
def test_what_is_wrong_with_a_target(change: dict[str, object], message: str, tmp_path: Path) -> None:
    assert message in told(tmp_path, {**STRESS, **change})


def test_all_problems_of_a_file_come_together(tmp_path: Path) -> None:
    text = told(
        tmp_path,
        STRESS,
        {"id": "stress", "low": 3, "high": 2, "meaning": "again"},
        "calm",
        {"id": "joy", "name": "S-t-r-e-s-s", "low": 0, "high": 1},
        {"id": "grief", "low": 0, "high": 1, "meaning": "g", "aliases": ["JOY"]},
    )
    assert "mine.yaml" in text
    assert "target 2 (stress): low 3 is not below high 2" in text
    assert "target 3: a mapping with id, name, low, high, meaning, aliases, group is expected; found 'calm'" in text
    assert "target 4 (joy): meaning is missing" in text
    assert "target 2 (stress): 'stress' already names target 1 (stress)" in text
    assert "target 4 (joy): 'S-t-r-e-s-s' already names target 1 (stress), as 'stress'" in text
    assert "target 5 (grief): 'JOY' already names target 4 (joy), as 'joy'" in text


def test_no_target_is_called_as_a_column_beside_the_targets() -> None:
    columns = {*FIELDS, *AUDIO_NAMES, *TEXTS, "id", "split", "speaker", "language", "seconds", "speech_frames", "label"}
    assert columns <= RESERVED
    assert not RESERVED & {name for target in PUBLISHED for name in (target.id, target.name.casefold())}
