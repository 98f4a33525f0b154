"""Nothing that happens after a training costs it: not a picture, a page, a card, a log or the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emonet.errors import EmonetError, RequestError
from experiments import extract, predict
from experiments.arguments import PredictArguments
from experiments.core import Experiment
from experiments.core.stage import read_result
from experiments.heads import verb as heads
from experiments.heads.verb import HeadsResult
from experiments.sweep import verb as sweep

QUICK = {"inputs": ["statistics"], "epochs": 1}


def of(experiment: Experiment, change: Callable[[dict], dict | None], **sections: object) -> Experiment:
    """The experiment with every row of its manifest changed, or left out, and with little to train."""
    manifest = Path(experiment.corpus.removeprefix("manifest:"))
    rows = [change(json.loads(line)) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))
    values = experiment.model_dump() | {"heads": experiment.heads.model_dump() | QUICK} | sections
    return Experiment.model_validate(values | {"evaluation": {"resamples": 5}})


def unrated(row: dict) -> dict:
    """Nobody rated the test split."""
    return {key: value for key, value in row.items() if row["split"] != "test" or key not in {"anger", "fear", "awe"}}


def flat(row: dict) -> dict:
    """No score varies anywhere."""
    return row | {"anger": 2.0, "fear": 0.0}


def single(row: dict) -> dict | None:
    """One clip and one speaker in validation and test, one target."""
    kept = row["split"] == "train" or ("d2.wav" in row["audio"] or "e2.wav" in row["audio"])
    return {key: value for key, value in row.items() if key not in {"fear", "awe"}} if kept else None


@pytest.mark.slow
@pytest.mark.parametrize("change", [unrated, flat, single])
def test_odd_corpora_give_a_result_and_a_page(
    mini_experiment: Experiment, change: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = of(mini_experiment, change)
    extract.run(experiment)
    capsys.readouterr()
    result = heads.run(experiment)
    heads.show(result)
    err = " ".join(capsys.readouterr().err.split())
    assert "could not be made" not in err
    assert result.settled
    assert read_result(experiment, "heads", HeadsResult) == result
    page = (experiment.folder / "report" / "index.html").read_text()
    assert result.test.averaged("rated targets") in page
    assert result.test.averaged("rated targets") in err
    assert {
        unrated: "fear, anger: nobody rated it in the test split, so that it is not tested",
        flat: "fear (0), anger (2): all training scores are the same, so that there is nothing to learn",
        single: "anger: all test scores are the same, so that no correlation is defined",
    }[change] in err


@pytest.mark.slow
def test_what_follows_the_training_fails_and_the_same_command_goes_on_from_there(
    mini_experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = of(mini_experiment, dict)
    extract.run(experiment)
    report = experiment.folder / "report"
    report.write_text("in the way")

    def gone(*_: object) -> None:
        raise EmonetError("the server is gone")

    monkeypatch.setattr("emonet.registry.register_voice", gone)
    with pytest.raises(EmonetError, match="the server is gone"):
        heads.run(experiment)
    monkeypatch.undo()
    assert "the report could not be made (FileExistsError" in capsys.readouterr().err
    kept = read_result(experiment, "heads", HeadsResult)
    assert kept is not None
    assert (kept.settled, set(kept.baselines)) == (False, {"median", "mel_ridge", "states_ridge"})
    experts = sorted((experiment.folder / "heads").glob("*"))
    written = [path.stat().st_mtime_ns for path in experts]
    assert len(experts) == 4

    result = heads.run(experiment)
    assert "its work is done and safe" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in experts] == written, "nothing is trained again"
    assert result.registered is not None
    assert (result.registered.version, result.test, result.run_id) == (1, kept.test, kept.run_id)
    assert [path.name for path in (experiment.folder / "voice").rglob("*.parquet")] == ["clips.parquet"]
    assert heads.run(experiment) == result, "and the picture that failed does not make it start anew"


def test_a_sweep_for_an_undefined_figure_is_refused_first(mini_experiment: Experiment) -> None:
    experiment = of(mini_experiment, flat, sweep={"objectives": ["mae", "pearson"], "trials": 2})
    extract.run(experiment)
    with pytest.raises(
        RequestError, match=r"(?s)objective pearson is undefined.*fear always 0, anger always 2.*--objectives mae"
    ):
        sweep.run(experiment)
    assert not (experiment.runs / "optuna.db").exists(), "before a study is made"


def test_a_plot_that_fails_leaves_the_scores(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = predict.run(
        PredictArguments(files=(make_wav(),), model=str(voice), csv=tmp_path / "a.csv", plot=tmp_path / "a.nonsense")
    )
    assert result.predictions[0].scores
    assert (tmp_path / "a.csv").is_file()
    assert "the plot" in (err := capsys.readouterr().err)
    assert "could not be made (ValueError: Format 'nonsense' is not supported" in err
