"""Report of a benchmark: page, CSV, JSON and LaTeX of the same tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from emonet.evaluation import Estimate
from emonet.protocols import Column, ProtocolTable, Row
from experiments.benchmark.parts import Draft, Part, read_part, write_part
from experiments.benchmark.report import Report, figures_of, latex_of, report_of, write_report

TABLE = ProtocolTable(
    name="t_1",
    title="R & D",
    source="a paper, table 1",
    columns=(Column(name="model", label="Model"), Column(name="ua", label="UA (%)", better="higher", digits=1)),
    rows=(
        Row(cells={"model": "ours_#1", "ua": Estimate(value=71.2, low=65.0, high=78.0)}),
        Row(cells={"model": "theirs", "ua": 80.0}, kind="published"),
        Row(cells={"model": "best epoch on test", "ua": 90.0}, kind="optimistic"),
    ),
    compete=True,
    notes=("one clip was left out",),
)


def a_report(*parts: Part) -> Report:
    return report_of("mine", "what for", {"Command": "emonet benchmark run"}, parts)


def test_latex_is_escaped_bolds_the_best_and_leaves_out_what_is_too_good() -> None:
    text = latex_of(TABLE)
    assert r"R \& D" in text
    assert r"UA (\%) $\uparrow$" in text
    assert r"\textbf{71.2 [65.0, 78.0]}" in text
    assert r"ours\_\#1" in text
    assert "theirs & 80.0" in text
    assert "best epoch" not in text


def test_files_say_the_same(tmp_path: Path) -> None:
    part = Part(key="one", inputs="0", tables=(TABLE,), seconds=1.0)
    left_out = Part(key="two", inputs="", skipped="no corpus; <b>")
    report = a_report(part, left_out)
    write_report(tmp_path, report, [part, left_out], tmp_path / "parts")
    assert Report.model_validate_json((tmp_path / "benchmark.json").read_text()) == report
    assert (
        json.loads((tmp_path / "benchmark.json").read_text())["protocols"]["t_1"]["rows"][0]["cells"]["ua"]["low"] == 65
    )
    assert pd.read_csv(tmp_path / "tables" / "t_1.csv").loc[0, "ua_high"] == 78
    assert (tmp_path / "tables" / "t_1.tex").read_text() == latex_of(TABLE)
    page = (tmp_path / "index.html").read_text()
    for words in ("R &amp; D", "one clip was left out", "[65.0, 78.0]", 'class="optimistic"', "no corpus; &lt;b&gt;"):
        assert words in page
    assert page.count("http") == 0, "it needs nothing from elsewhere"


def test_names_of_models_with_points_and_slashes_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("gemini:gemini-2.5-pro", "gemini:gemini-2.5-flash", "runs/mine/voice")
    part = Part(key="one", inputs="0", tables=tuple(TABLE.renamed(name) for name in names))
    write_report(tmp_path, a_report(part), [part], tmp_path / "parts")
    assert sorted(path.name for path in (tmp_path / "tables").glob("*.csv")) == [
        "t_1-gemini-gemini-2.5-flash.csv",
        "t_1-gemini-gemini-2.5-pro.csv",
        "t_1-runs-mine-voice.csv",
    ]
    assert len(list((tmp_path / "tables").glob("*.tex"))) == 3
    write_report(tmp_path, a_report(), [], tmp_path / "parts")
    assert not list((tmp_path / "tables").iterdir()), "tables of a former plan"


def test_tables_of_the_same_name_are_told_apart_by_their_entry() -> None:
    one, other = (Part(key=key, inputs="0", tables=(TABLE,)) for key in ("one", "other"))
    assert list(a_report(one, other).protocols) == ["one/t_1", "other/t_1"]


def test_what_is_logged_is_measured(tmp_path: Path) -> None:
    part = Part(key="one", inputs="0", tables=(TABLE,))
    assert figures_of(a_report(part)) == {"t_1/ours_-1/ua": 71.2}
    elsewhere = Row(cells={"model": "../weights", "ua": 50.0})
    part = Part(key="one", inputs="0", tables=(ProtocolTable.model_validate({**dict(TABLE), "rows": [elsewhere]}),))
    assert figures_of(a_report(part)) == {"t_1/-weights/ua": 50.0}, "MLflow takes no path that leads elsewhere"


def test_a_part_is_found_again_only_as_it_was_made(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "one")
    draft.draw("picture", "What it shows.", lambda path: path.write_bytes(b"png"))
    part = Part(key="one", inputs="a", tables=(TABLE,), pictures=tuple(draft.pictures))
    write_part(tmp_path / "one", part)
    assert read_part(tmp_path / "one", "a") == part
    assert read_part(tmp_path / "one", "b") is None
    (tmp_path / "one" / "picture.png").unlink()
    assert read_part(tmp_path / "one", "a") is None


def test_a_picture_that_cannot_be_drawn_costs_itself_only(tmp_path: Path, capsys) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError("nothing to draw")

    draft = Draft(tmp_path / "one")
    draft.draw("picture", "What it shows.", fail)
    assert draft.pictures == []
    assert "the picture picture could not be made" in capsys.readouterr().err
