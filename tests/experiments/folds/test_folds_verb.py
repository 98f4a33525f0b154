from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from cache.store import STATES, FeatureStore, shard_file
from emonet.errors import RequestError
from emonet.tracking import default_uri
from experiments import extract, folds, heads
from experiments.cli.verbs import main
from experiments.core import Experiment
from experiments.folds import verb
from experiments.folds.training import FoldTrainer
from experiments.sweep import Trials
from tests.tiny import write_encoder

pytestmark = pytest.mark.numeric
MOODS = ("low", "Middle one", "high", None)
QUICK = {"inputs": ["statistics"], "epochs": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, empty_tracking: Path) -> Path:
    """A folder with the store of nine speakers with four tones each, one of them broken, and its manifest."""
    import soundfile as sf

    folder = tmp_path_factory.mktemp("folds")
    (folder / "runs").mkdir()
    shutil.copy(empty_tracking, folder / "runs" / "mlflow.db")
    rows = []
    for number, speaker in enumerate("abcdefghi"):
        for take in range(4):
            audio, hertz = folder / f"{speaker}{take}.wav", 150 + 60 * take + number
            time = np.arange(8000 + 800 * take) / 16_000
            sf.write(audio, 0.3 * np.sin(2 * np.pi * hertz * time), 16_000)
            split = "test" if speaker > "f" else "validation" if speaker == "f" else "train"
            row = {"audio": str(audio), "speaker": speaker, "split": split, "anger": take, "fear": (number + take) % 5}
            rows.append(row)
    (folder / "b1.wav").write_bytes(b"")
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    moods = [{k: row[k] for k in ("audio", "speaker", "split")} | {"mood": MOODS[row["anger"]]} for row in rows]
    (folder / "moods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moods))
    write_encoder(folder / "encoder")
    extract.run(experiment_in(folder))
    return folder


def experiment_in(folder: Path, name: str = "mini", **changes: object) -> Experiment:
    settings = {
        "name": name,
        "corpus": f"manifest:{folder / 'm.jsonl'}",
        "runs": folder / "runs",
        "extraction": {"captioner": str(folder / "encoder"), "batch_size": 8, "shard_clips": 16},
        "heads": QUICK,
        "evaluation": {"resamples": 50},
    }
    return Experiment.model_validate(settings | changes)


@pytest.fixture
def experiment(extracted: Path, tmp_path: Path) -> Experiment:
    """A copy of it, for one test alone."""
    shutil.copytree(extracted / "runs", tmp_path / "runs")
    return experiment_in(extracted, runs=tmp_path / "runs")


def changed(experiment: Experiment, **changes: object) -> Experiment:
    return Experiment.model_validate({**experiment.model_dump(), **changes})


@pytest.mark.slow
def test_folds_end_to_end(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = folds.run(experiment, "3")

    assert [fold.clips["test"] for fold in result.folds] == [12, 12, 11], "one clip is broken"
    assert all(fold.speakers == {"train": 5, "validation": 1, "test": 3} for fold in result.folds)
    assert all(
        (fold.held_out, fold.input, fold.shared_speakers) == ("speakers", "statistics", ()) for fold in result.folds
    )
    assert (set(result.rated), result.transductive, result.marks) == ({"anger", "fear"}, False, ())
    assert set(result.baselines) == {"median", "states_ridge"}, "there are no classes"
    assert result.ua is None

    written = json.loads((experiment.folder / "folds.json").read_text())
    for metric in ("mae", "rmse", "pearson", "spearman", "ccc"):
        assert set(written[metric]) == {"mean", "low", "high", "per_fold", "pooled"}
        assert len(written[metric]["per_fold"]) == 3
    assert written["mae"]["low"] <= written["mae"]["mean"] <= written["mae"]["high"]
    assert written["mae"]["mean"] == pytest.approx(np.mean(written["mae"]["per_fold"]))
    assert written["mae"]["pooled"] == written["test"]["mae"]["mean"]
    assert written["baselines"]["states_ridge"]["pearson"]["mean"] is not None

    table = pd.read_parquet(experiment.folder / "folds" / "predictions.parquet")
    assert len(table) == table["id"].nunique() == 35, "every usable clip is tested once"
    for number, (_, part) in enumerate(table.groupby("fold", sort=False)):
        error = np.mean([(part[f"prediction.{t}"] - part[f"truth.{t}"]).abs().mean() for t in result.rated])
        assert error == pytest.approx(result.mae.per_fold[number], abs=1e-6)

    assert (experiment.folder / "folds" / "report" / "pearson.png").is_file()
    page = (experiment.folder / "folds" / "report" / "index.html").read_text()
    assert "3 folds (3)" in page
    assert "transductive" not in page
    assert not list(experiment.folder.glob(".folds-*"))
    assert not (experiment.folder / "voice").exists()
    run = MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data
    assert run.metrics["folds/mae"] == result.mae.mean
    assert run.metrics["folds/baseline/median/mae/pooled"] == result.baselines["median"].mae.pooled.value
    assert (run.tags["folds"], run.tags["transductive"], run.tags["speakers_shared"]) == ("3", "false", "false")

    capsys.readouterr()
    assert folds.run(experiment, "3") == result
    assert "up to date" in capsys.readouterr().err
    folds.show(result)
    shown = capsys.readouterr().err
    for words in ("3 folds (3), 35 test clips", "median", "states_ridge", "pooled", "experts", "Pearson"):
        assert words in shown


@pytest.mark.slow
def test_classes_and_sharing_and_standardised_speakers_are_said_everywhere(
    extracted: Path, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    file = experiment.runs.parent / "folds.yaml"
    ids = [clip["audio"] for clip in map(json.loads, (extracted / "m.jsonl").read_text().splitlines())]
    file.write_text("".join(f"{Path(name).stem}: {'xy'[take % 2]}\n" for take, name in enumerate(ids)))
    shared = changed(
        experiment,
        name="moods",
        corpus=f"manifest:{extracted / 'moods.jsonl'}#mood",
        targets="classes",
        heads={**QUICK, "standardise": "speaker", "calibration": "affine"},
    )
    extract.run(shared)
    assert main(["heads", "--folds", str(file), "--experiment", _yaml(shared), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["transductive"], len(written["shared_speakers"])) == (True, 9)
    assert set(written["baselines"]) == {"majority", "median", "states_ridge"}
    for metric in ("ua", "wa", "f1"):
        assert len(written[metric]["per_fold"]) == 2
    assert written["baselines"]["majority"]["mae"] is None
    assert sum(map(sum, written["classes"]["confusion"])) == written["classes"]["clips"] == 26
    table = pd.read_parquet(shared.folder / "folds" / "predictions.parquet")
    right = (table["class"] == table["predicted"])[table["class"].notna()]
    assert right.mean() == pytest.approx(written["wa"]["pooled"]["value"])

    result = verb.FoldsResult.model_validate(written)
    verb.show(result)
    shown = " ".join(capsys.readouterr().err.split())
    page = (shared.folder / "folds" / "report" / "index.html").read_text()
    tags = MlflowClient(default_uri(shared.runs)).get_run(result.run_id).data.tags
    assert (tags["transductive"], tags["speakers_shared"]) == ("true", "true")
    assert "TRANSDUCTIVE, SPEAKERS ARE SHARED" in shown
    for words in ("transductive: each speaker", "speakers are shared: 9 of those who are tested are trained on, too"):
        assert words in shown
        assert words in page.replace("&#39;", "'")


def _yaml(experiment: Experiment) -> str:
    path = experiment.runs.parent / "experiment.yaml"
    path.write_text(experiment.model_dump_json())
    return str(path)


@pytest.mark.slow
def test_what_test_speakers_were_rated_changes_no_expert(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one fold; other folds train on these speakers, and do change."""
    experiment = changed(experiment, heads=QUICK | {"loss": "mse", "learning_rate": 0.01})  # MAE sees signs alone
    before = _predictions(experiment, "3")
    tested = before["1"]["speaker"].unique()
    scores = FeatureStore.scores

    def shuffled(self: FeatureStore, rows: object) -> np.ndarray:
        numbers = self.numbers(rows)
        found = scores(self, numbers).copy()
        swap = np.isin(self.clips["speaker"].to_numpy()[numbers], tested)
        found[swap] = 4 - found[swap]
        return found

    monkeypatch.setattr(FeatureStore, "scores", shuffled)
    after = _predictions(changed(experiment, force=True), "3")
    for name in ("prediction.anger", "prediction.fear", "median.anger", "states_ridge.anger"):
        pd.testing.assert_series_equal(before["1"][name], after["1"][name])
    assert not np.allclose(before["1"]["truth.anger"], after["1"]["truth.anger"])
    assert not np.allclose(before["2"]["prediction.anger"], after["2"]["prediction.anger"])


def _predictions(experiment: Experiment, asked: str) -> dict[str, pd.DataFrame]:
    folds.run(experiment, asked)
    table = pd.read_parquet(experiment.folder / "folds" / "predictions.parquet")
    return {str(name): part.reset_index(drop=True) for name, part in table.groupby("fold")}


def killed_after_one_fold(experiment: Experiment) -> None:
    train, trained = FoldTrainer.run, 0

    def dying(self: FoldTrainer, *given: object) -> object:
        nonlocal trained
        if trained:
            raise KeyboardInterrupt
        trained += 1
        return train(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldTrainer, "run", dying)
        with pytest.raises(KeyboardInterrupt):
            folds.run(experiment, "2")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folds that are trained."""
    train, names = FoldTrainer.run, []
    monkeypatch.setattr(FoldTrainer, "run", lambda self, fold, *a: names.append(fold.name) or train(self, fold, *a))
    return names


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_after_the_last_fold(experiment: Experiment, trained: list[str]) -> None:
    whole = folds.run(experiment, "2")
    killed_after_one_fold(changed(experiment, force=True))
    assert len(list(experiment.folder.glob(".folds-*/*.json"))) == 1
    (experiment.folder / "folds.json").unlink()
    trained.clear()
    again = folds.run(experiment, "2")
    assert trained == ["2"]
    assert (again.mae, again.folds) == (whole.mae, whole.folds)


def of_other_facts(parts: Path) -> None:
    facts = json.loads((parts / "0.json").read_text())
    del facts["held_out"]
    (parts / "0.json").write_text(json.dumps(facts))


def half_a_table(parts: Path) -> None:
    content = (parts / "0.parquet").read_bytes()
    (parts / "0.parquet").write_bytes(content[: len(content) // 2])


def no_table(parts: Path) -> None:
    (parts / "0.parquet").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [of_other_facts, half_a_table, no_table])
def test_folds_that_cannot_be_read_are_trained_again(
    experiment: Experiment, trained: list[str], damage: Callable[[Path], None]
) -> None:
    killed_after_one_fold(experiment)
    (parts,) = experiment.folder.glob(".folds-*")
    damage(parts)
    trained.clear()
    folds.run(experiment, "2")
    assert trained == ["1", "2"]


@pytest.mark.slow
def test_folds_of_another_version_are_trained_again(experiment: Experiment, trained: list[str]) -> None:
    killed_after_one_fold(experiment)
    trained.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.folds.verb.__version__", "9.9")
        result = folds.run(experiment, "2")
    assert trained == ["1", "2"]
    assert not list(experiment.folder.glob(".folds-*"))
    assert folds.run(experiment, "2") == result, "the version is not among the inputs of the stage"


@pytest.mark.slow
def test_members_of_an_ensemble_hold_out_different_speakers(experiment: Experiment) -> None:
    alone, three = (
        folds.run(changed(experiment, heads={**experiment.heads.model_dump(), "ensemble": ensemble}), "2")
        for ensemble in (1, 3)
    )
    assert [fold.members for fold in (*alone.folds, *three.folds)] == [1, 1, 3, 3]
    assert [fold.clips for fold in alone.folds] == [fold.clips for fold in three.folds]
    assert three.baselines["states_ridge"].mae != alone.baselines["states_ridge"].mae, "a mean over the members' folds"
    assert three.mae != alone.mae


@pytest.mark.slow
def test_principal_coordinates_of_folds_do_not_stay_in_the_store(experiment: Experiment) -> None:
    flat = {**QUICK, "inputs": ["flatten"], "features": "principal", "epochs": 1, "hidden": [4]}
    heads.run(changed(experiment, heads=flat))
    kept = experiment.folder / "store.zarr" / "principal"
    own = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert own
    result = folds.run(changed(experiment, heads={**flat, "ensemble": 2}), "2")
    assert [fold.input for fold in result.folds] == ["flatten", "flatten"]
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == own
    assert not list(experiment.folder.glob("*unfinished*"))


@pytest.mark.slow
def test_two_speakers_hold_out_clips_and_say_so(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    file = experiment.runs.parent / "two.csv"
    file.write_text("speaker,fold\na,one\nc,two\n")
    result = folds.run(experiment, str(file))
    assert [(fold.held_out, fold.clips) for fold in result.folds] == [
        ("clips", {"train": 3, "validation": 1, "test": 4}),
        ("clips", {"train": 3, "validation": 1, "test": 4}),
    ]
    said = " ".join(capsys.readouterr().err.split())
    assert "27 clips in no fold: neither tested nor trained on" in said
    assert "one training speaker in the folds one, two: clips of that speaker are held out" in said


def test_a_fold_that_cannot_be_trained_is_named(experiment: Experiment) -> None:
    file = experiment.runs.parent / "few.csv"
    file.write_text("clip,fold\na0,one\nc0,two\nc1,two\n")
    with pytest.raises(RequestError, match=r"(?s)no target is rated in both.*where: +fold two of .*1 validation"):
        folds.run(experiment, str(file))


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        (
            {"standardise": "speaker", "inputs": ["statistics", "attention"]},
            "3",
            "standardised by themselves as statistics alone",
        ),
        ({"compare_inputs": True}, "3", "compares no forms of input"),
        ({"select_by": "ua"}, "3", "heads.select_by ua is undefined: there are no classes"),
        ({"standardise": "speaker", "states_gib": 1e-6}, "3", "speakers are standardised in memory"),
        ({}, "10", "there are not so many folds over speakers"),
        ({}, "ten", "there are no such folds"),
    ],
)
def test_what_folds_cannot_do_is_refused(
    experiment: Experiment, changes: dict[str, object], asked: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        folds.run(changed(experiment, heads=QUICK | changes), asked)
    assert not (experiment.folder / "folds.json").exists()


@pytest.mark.parametrize(
    ("form", "features"), [("flatten", "states"), ("flatten", "principal"), ("attention", "states")]
)
def test_a_form_that_a_pooled_store_does_not_serve_is_refused_before_it_is_read(
    experiment: Experiment, form: str, features: str
) -> None:
    pooled = changed(experiment, extraction={**experiment.extraction.model_dump(), "pool": "statistics"}, force=True)
    extract.run(pooled)
    store, asked = experiment.folder / "store.zarr", QUICK | {"inputs": ["statistics", form], "features": features}
    for shard in range(3):
        shard_file(store, shard, STATES).unlink()
    with pytest.raises(RequestError, match=rf"keeps statistics.*(?s:.)*found: .*--heads\.inputs {form}"):
        folds.run(changed(pooled, heads=asked | {"frames": "speech"}, force=False), "3")


def test_speakers_are_standardised_in_folds_alone(experiment: Experiment) -> None:
    alone = changed(experiment, heads=QUICK | {"standardise": "speaker"})
    with pytest.raises(RequestError, match=r"makes no experts that could be saved.*transductive"):
        heads.run(alone)
    with pytest.raises(RequestError, match="makes no experts that could be saved"):
        Trials(alone).run(alone, lambda epoch, value: None)


@pytest.mark.slow
@pytest.mark.parametrize("form", [["flatten"], ["attention"]])
def test_inputs_that_memory_does_not_hold_give_the_same(experiment: Experiment, form: list[str]) -> None:
    # One batch an epoch, without dropout: the order of its clips makes no difference.
    settings = QUICK | {"inputs": form, "epochs": 1, "batch_size": 64, "dropout": [0.0]}
    held = _predictions(changed(experiment, heads=settings), "2")
    read = _predictions(changed(experiment, heads=settings | {"states_gib": 1e-6}), "2")
    assert "states_ridge.anger" in held["1"]
    assert "states_ridge.anger" not in read["1"]
    assert np.allclose(held["1"]["prediction.anger"], read["1"]["prediction.anger"], atol=1e-3)
