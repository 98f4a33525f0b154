from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.core import console
from experiments.sweep import plan_of
from experiments.sweep import view as sweep_view
from experiments.sweep.records import Plan, TrialRecord
from experiments.sweep.view import Standing, View, line, picture
from tests.experiments.sweep.fakes import fake_experiment

PARAMS = {"heads.learning_rate": 0.00312, "heads.inputs": ["flatten"], "heads.rank": 0.9}
DONE: dict[str, Any] = {"params": PARAMS, "started": 1000.0, "ended": 1012.0}
RECORDS = [
    TrialRecord(0, "complete", values={"mae": 0.4123456, "parameters": 12345}, curve=(0.5, 0.41), **DONE),
    TrialRecord(1, "pruned", curve=(0.7, 0.65), **DONE),
    TrialRecord(2, "failed", reason="RuntimeError: no [weather]", **DONE),
    *(TrialRecord(number, "running", PARAMS, curve=(0.6,), started=1090.0) for number in range(3, 18)),
]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(fake_experiment(tmp_path), "fake-heads-1234")


def standing(finished_before: int = 0, records: list[TrialRecord] = RECORDS) -> Standing:
    return Standing(records, records[0], wanted=10, began=(940.0, finished_before), now=1120.0)


def test_counts_speed_and_time_left() -> None:
    now = standing()
    assert (now.finished, now.per_hour) == (2, pytest.approx(40))
    assert now.summary() == (
        "2 of 10 trials finished (1 pruned), 15 running, 1 failed, 40 trials an hour, 12 min 0 s left"
    )
    assert standing(finished_before=2).left == "unknown"
    assert Standing(RECORDS, None, wanted=2, began=(1000.0, 0), now=1900.0).summary().endswith(", 8 trials an hour")


def test_a_trial_in_a_line() -> None:
    complete, pruned, failed = RECORDS[:3]
    assert line(complete, complete) == (
        "trial 0: mae 0.4123, parameters 12,345, 12 s, [bold]best so far[/]; "
        "learning_rate 0.00312, inputs flatten, rank 0.9"
    )
    assert line(pruned, complete) == "trial 1: pruned after 2 epochs at 0.65, 12 s"
    assert line(failed, complete) == r"trial 2: [yellow]failed[/], RuntimeError: no \[weather]"


def test_the_live_picture(plan: Plan) -> None:
    drawn = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    drawn.print(picture(standing(), plan))
    text = drawn.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "fake-heads-1234",
        "2 of 10 trials finished",
        "best: trial 0, mae 0.4123",
        "1 of 4",
        "30 s",
        "and 3 more",
    ):
        assert words in text


def test_epochs_of_several_forms_are_not_told_as_more_than_there_are(plan: Plan) -> None:
    drawn = Console(file=io.StringIO(), width=200)
    many = TrialRecord(3, "running", PARAMS, curve=(0.6,) * 6, started=1090.0)
    drawn.print(picture(standing(records=[RECORDS[0], many]), plan))
    assert "of 4" not in drawn.file.getvalue()  # type: ignore[attr-defined]


def test_a_narrow_terminal_cuts_no_words_off(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None, soft_wrap=True)
    monkeypatch.setattr(console, "console", narrow)
    with View(plan) as view:
        view.update(standing())
    text = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "0 s left" in text
    assert "rank 0.9\n" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_finished_trials_are_told_once(plan: Plan, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(
        console,
        "console",
        Console(file=file, width=150, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True),
    )
    monkeypatch.setattr(console, "LOG_EVERY", -1.0)
    with View(plan) as view:
        view.begin(RECORDS[:1])
        view.update(standing())
        view.update(standing())
    text = file.getvalue()
    assert text.count("trial 1: pruned") == 1
    assert "trial 0: " not in text, "it was there before"
    assert ("running" in text) == (not terminal) or "best: trial 0" in text
    assert ("sweep: 2 of 10 trials" in text) == (not terminal)
    assert sweep_view.MOST < 15
