import pytest

from experiments import console


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(("per_second", "text"), [(12.34, "12.3 clips/s"), (0.25, "4.0 s per clip")])
def test_rate(per_second: float, text: str) -> None:
    assert console.rate(per_second, "clips") == text


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 5.0, 20.0, 25.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress("encoding") as progress:
        for completed in (10, 40, 50):
            progress(completed, 100)
    assert capsys.readouterr().err.splitlines() == ["encoding: 40 of 100 clips, 2.0 clips/s, 30 s left"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 clips"), (1, "1 clip"), (2, "2 clips"), (1760, "1,760 clips")])
def test_counted(count: int, text: str) -> None:
    assert console.counted(count, "clip") == text
