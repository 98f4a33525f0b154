import io

import pytest
from rich.table import Table

from experiments.core import console


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(("per_second", "text"), [(12.34, "12.3 clips/s"), (0.25, "4.0 s per clip")])
def test_rate(per_second: float, text: str) -> None:
    assert console.rate(per_second, "clips") == text


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 5.0, 20.0, 25.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress("encoding") as progress:
        for completed in (0, 10, 40, 50):
            progress(completed, 100)
    assert capsys.readouterr().err.splitlines() == ["encoding: 40 of 100 clips, 2.0 clips/s, 30 s left"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 clips"), (1, "1 clip"), (2, "2 clips"), (1760, "1,760 clips")])
def test_counted(count: int, text: str) -> None:
    assert console.counted(count, "clip") == text


WORDS = (
    "experiment",
    "/a/folder/with/a/long/name/that/has/no/place/to/be/broken/store.zarr",
    "openai/whisper-small.en",
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_word_of_a_table_is_broken(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", WORDS[0], title=f"scores of {WORDS[1]}")
    table.add_row("a", WORDS[1])
    table.add_row(WORDS[2], "a sentence that may be wrapped as often as it takes")
    kept = console.console.width
    console.console.width = width
    try:
        console.console.print(table)
        console.say(f"error: {WORDS[1]} is not there; try: emonet store repair {WORDS[1]}")
    finally:
        console.console.width = kept
    shown = capsys.readouterr().err
    for word in WORDS:
        assert word in shown
    assert f"scores of {WORDS[1]}" in shown
    assert "emonet store repair /a/folder" in shown, "a command stands on one line"


def test_a_sentence_gives_way_to_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("corpus", "description")
    table.add_row(
        "manifest:data/emonet-voice/train.parquet", "a sentence that has spaces to be wrapped at, and is long"
    )
    console.console.print(table)
    shown = capsys.readouterr().err
    assert "manifest:data/emonet-voice/train.parquet" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("\n", False), ("n\n", False), ("", False), ("x\ny\n", True)]
)
def test_a_question_is_answered_at_the_terminal(
    typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert console.agreed("Spend [red]24[/] US dollars?") is agreed
    told = capsys.readouterr()
    assert "Spend [red]24[/] US dollars?" in told.err
    assert not told.out
    assert not console.can_ask(), "nobody sits at a test's terminal"
