from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from emonet.evaluation import Comparison
from experiments.compare import table as comparison_table
from experiments.compare.page import DIFFERENCES_CSV, JSON, METRICS_CSV, ComparisonFindings, write_page
from tests.browsers import Browser
from tests.experiments.compare.findings import HOSTILE, findings

VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """Collects what a page refers to and says, and whether its tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.words = ""
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        self.scripts += tag == "script"
        self.references += [value for key, value in attrs if key in {"href", "src", "srcset", "action"} and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def made() -> ComparisonFindings:
    return findings()


@pytest.fixture(scope="module")
def path(made: ComparisonFindings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("comparison"), made)


def test_the_page_carries_everything_within_itself(made: ComparisonFindings, path: Path) -> None:
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.references
    assert all(reference.startswith("data:") for reference in page.references)
    assert "@import" not in text
    assert "url(" not in text
    assert all(image["alt"] for image in page.images)
    assert len(page.images) == 1 + 1 + 2 + 2  # a pair, calibration, and two of each model
    assert page.scripts == 1, "a name with a script in it is text"
    for said in (HOSTILE, "a & <b>", "a stand-in <for> speech", "one was trained on these clips", "it is not better"):
        assert said in page.words
    assert "trained on 12 of these 60 clips" in page.words
    assert f"good is better than {HOSTILE} by" in page.words
    assert "2 models and 1 baseline on the same 60 clips of 15 speakers, mean over 5 of 6 targets" in page.words
    assert {"In short", "Decision", "Models", "Pairs", "Calibration", "How this was made"} <= set(page.headings)
    for label, scores in made.comparison.scores.items():
        assert f"{scores.ccc.mean.value:.3f}" in page.words, label
    assert "None" not in page.words
    assert "nan" not in page.words.replace("repugnance", "")


@pytest.mark.slow
def test_a_single_model_is_compared_with_its_baselines(tmp_path: Path) -> None:
    page = Page(write_page(tmp_path / "new" / "folder", findings(models=1, speakers=4)).read_text("utf-8"))
    assert "good is better than median by" in page.words
    assert "There are only 4 speakers" in page.words
    assert len(page.images) == 4
    alone = without_baselines(findings(models=1, speakers=4))
    page = Page(write_page(tmp_path, alone).read_text("utf-8"))
    assert "Pairs" not in page.headings
    assert "1 model on the same" in page.words


def without_baselines(made: ComparisonFindings) -> ComparisonFindings:
    dumped = made.comparison.model_dump()
    for part in ("scores", "facts", "reliability"):
        del dumped[part]["median"]
    comparison = Comparison.model_validate({**dumped, "pairs": ()})
    return ComparisonFindings(comparison, made.spec, made.truth, made.predictions, made.facts)


def test_the_files_beside_it_hold_the_same_figures(made: ComparisonFindings, path: Path) -> None:
    comparison, folder = made.comparison, path.parent
    assert Comparison.model_validate_json((folder / JSON).read_text("utf-8")) == comparison
    with (folder / METRICS_CSV).open(encoding="utf-8", newline="") as file:
        metrics = list(csv.DictReader(file))
    assert len(metrics) == 3 * 5 * (1 + 6)
    row = next(row for row in metrics if (row["model"], row["emotion"], row["metric"]) == (HOSTILE, "mean", "ccc"))
    mean = comparison.scores[HOSTILE].ccc.mean
    assert [float(row[key]) for key in ("value", "low", "high")] == [mean.value, mean.low, mean.high]
    with (folder / DIFFERENCES_CSV).open(encoding="utf-8", newline="") as file:
        differences = list(csv.DictReader(file))
    assert len(differences) == 3 * (5 + 6)
    emotion = comparison.targets[0]
    row = next(row for row in differences if row["emotion"] == emotion)
    each = comparison.pairs[0].emotions[emotion]
    assert (row["one"], row["other"], row["metric"]) == ("good", HOSTILE, "mae")
    found = [float(row[key]) for key in ("difference", "low", "high", "p", "p_holm")]
    assert found == [each.mae.value, each.mae.low, each.mae.high, each.p, each.p_holm]
    unrated = [row for row in differences if row["emotion"] == comparison.targets[2]]
    assert all(row["difference"] == row["p"] == "" for row in unrated)


@pytest.mark.slow
def test_the_page_is_the_same_each_time_and_replaces_the_old_one(made: ComparisonFindings, path: Path) -> None:
    before = path.read_bytes()
    assert write_page(path.parent, made).read_bytes() == before


SORT = """<script>
const table = document.querySelector("table.sortable"), heads = [...table.tHead.rows[0].cells];
const order = () => [...table.tBodies[0].rows].map(row => row.cells[0].dataset.value);
const click = column => { heads[column].querySelector("button").click(); return order(); };
document.title = JSON.stringify([click(1), click(1), click(6), click(6), click(0)]);
</script>"""


@pytest.mark.slow
def test_a_browser_opens_the_page_without_an_error(browser: Browser, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sorted.html"
    copy.write_text(path.read_text("utf-8").replace("</body>", f"{SORT}</body>"), "utf-8")
    for dark in (False, True):
        visit = browser.visit(copy, dark=dark, offline=True)
        assert visit.console == (), "nothing is written to the console: no error, no refused request"
    title = Page(re.search(r"<title>.*?</title>", visit.html, re.DOTALL)[0]).words
    names = [[name if name != HOSTILE else "hostile" for name in order] for order in json.loads(title)]
    best_first = ["good", "hostile", "median"]
    assert names[:2] == [best_first, best_first[::-1]], "by MAE, then the other way round"
    assert names[2][0] == names[3][0] == "good", "what is missing comes last either way"
    assert names[4] == ["hostile", "good", "median"]
    broken = tmp_path / "broken.html"
    broken.write_text("<script>nope()</script>")
    assert browser.visit(broken).errors == ("Uncaught ReferenceError: nope is not defined",)


def test_a_picture_or_a_page_that_fails_costs_itself_only(
    made: ComparisonFindings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("emonet.evaluation.confusion_figure", broken)
    page = write_page(tmp_path, made).read_text()
    assert page.count("This picture could not be drawn: Confusion matrix") == 2
    assert "a picture of the page could not be made (ZeroDivisionError: division by zero)" in capsys.readouterr().err
    monkeypatch.setattr(comparison_table, "sentence", broken)
    assert not write_page(tmp_path, made).exists(), "nor a former one, of other figures"
    assert "the page could not be made" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"comparison.json", "metrics.csv", "differences.csv"}


def test_classes_are_on_the_page_and_in_the_tables(tmp_path: Path) -> None:
    made = findings(classes=True)
    page = Page(write_page(tmp_path, made).read_text("utf-8"))
    assert {"Classes", "Confusion of classes"} <= set(page.headings)
    classes = made.comparison.classes
    for text in ("majority", "2 classes, 60 clips", "macro F1", "p (UA)", f"{classes['good'].ua.value:.3f}"):
        assert text in page.words
    assert sum("Confusion matrix of the classes" in (image["alt"] or "") for image in page.images) == len(made.models())
    rows = list(csv.reader((tmp_path / METRICS_CSV).read_text("utf-8").splitlines()))
    assert ["good", "mean", "ua", *map(str, classes["good"].ua.model_dump().values()), "0"] in rows
    assert [row[1:3] for row in rows if row[0] == "majority"][3:] == [[each, "recall"] for each in made.spec.ids[:2]]
    pair = made.comparison.pairs[0]
    assert pair.classes is not None
    differences = list(csv.reader((tmp_path / DIFFERENCES_CSV).read_text("utf-8").splitlines()))
    found = next(row for row in differences if row[:4] == [pair.one, pair.other, "mean", "ua"])
    assert found[4:8] == list(map(str, [*pair.classes.ua.model_dump().values(), pair.classes.p]))


def test_a_comparison_without_labels_has_no_classes_on_its_page(path: Path) -> None:
    assert not {"Classes", "Confusion of classes"} & set(Page(path.read_text("utf-8")).headings)
