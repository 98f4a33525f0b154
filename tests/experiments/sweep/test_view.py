from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from experiments.core import console
from experiments.sweep.records import TrialRecord
from experiments.sweep.view import MOST, View, line, standing

PARAMS = {"heads.learning_rate": 0.00312, "heads.inputs": ["flatten"], "heads.rank": 0.9}
DONE: dict[str, Any] = {"params": PARAMS, "started": 1000.0, "ended": 1012.0}
RECORDS = [
    TrialRecord(0, "complete", values={"mae": 0.4123456, "parameters": 12345}, curve=(0.5, 0.41), **DONE),
    TrialRecord(1, "pruned", curve=(0.7, 0.65), **DONE),
    TrialRecord(2, "failed", reason="RuntimeError: no [weather]", **DONE),
    TrialRecord(3, "running", PARAMS, curve=(0.6,), started=1090.0),
    TrialRecord(4, "running", PARAMS, started=1100.0),
]
MANY = [TrialRecord(number, "running", PARAMS, started=1090.0) for number in range(MOST + 1)]


@pytest.fixture
def stderr(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal (the parameter) or a log of 60 columns gets."""
    file = io.StringIO()
    terminal = {"force_terminal": request.param, "width": 60, "color_system": None}
    monkeypatch.setattr(console, "console", Console(file=file, highlight=False, soft_wrap=True, **terminal))
    monkeypatch.setattr(console, "LOG_EVERY", -1.0)
    return file


def test_how_far_it_is() -> None:
    assert standing(RECORDS, RECORDS[0]) == (
        "best mae 0.4123, parameters 12,345, 1 failed, running: 3 (epoch 1), 4 (epoch 0)"
    )
    assert standing(MANY, None) == "5 running"
    assert standing([], None) == ""


def test_a_trial_in_a_line() -> None:
    complete, pruned, failed = RECORDS[:3]
    assert line(complete, complete) == (
        "trial 0: mae 0.4123, parameters 12,345, 12 s, [bold]best so far[/]; "
        "learning_rate 0.00312, inputs flatten, rank 0.9"
    )
    assert line(pruned, complete) == "trial 1: pruned after 2 epochs at 0.65, 12 s"
    assert line(failed, complete) == r"trial 2: [yellow]failed[/], RuntimeError: no \[weather]"


@pytest.mark.parametrize("stderr", [True, False], indirect=True)
def test_finished_trials_are_told_once(stderr: io.StringIO, request: pytest.FixtureRequest) -> None:
    with console.progress("sweep", "trials") as progress:
        view = View(progress, 10, RECORDS[:1])
        view.update(RECORDS, RECORDS[0])
        view.update(RECORDS, RECORDS[0])
    text = stderr.getvalue()
    assert text.count("trial 1: pruned after 2 epochs at 0.65") == 1
    assert "trial 0: " not in text, "it was there before"
    if request.node.callspec.params["stderr"]:
        words = set(text.split())
        assert {"2/10", "0.4123,", "12,345,", "running:"} <= words, "a narrow terminal cuts nothing off"
    else:
        assert "sweep: 2 of 10 trials, best mae 0.4123" in text


@pytest.mark.parametrize("stderr", [False], indirect=True)
def test_trials_of_before_say_nothing_about_the_speed(stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with console.progress("sweep", "trials") as progress:
        for clock.now, finished in ((0.0, 40), (60.0, 40), (120.0, 41)):
            progress(finished, 50)
    assert stderr.getvalue().splitlines()[1:] == [
        "sweep: 40 of 50 trials",
        "sweep: 41 of 50 trials, 120.0 s per trial, 18 min 0 s left",
    ]
