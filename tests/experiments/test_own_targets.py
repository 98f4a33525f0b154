"""Arousal, valence and dominance from 1 to 7, and three made-up targets, through every verb."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from emonet.captioner import rated_in_words
from emonet.checkpoints import read_info
from emonet.errors import RequestError
from emonet.serving import _load_pyfunc
from emonet.targets import open_targets
from experiments import extract, predict, pretrain, registry
from experiments.arguments import (
    CompareArguments,
    PredictArguments,
    RegistryArguments,
    StoreArguments,
    StoreRepairArguments,
)
from experiments.cli import verbs as cli
from experiments.compare import verb as compare
from experiments.core import Experiment
from experiments.heads import verb as heads
from experiments.store import verb as store
from experiments.sweep import verb as sweep
from tests.experiments.sweep.fakes import search_here
from tests.experiments.target_projects import make_project

VAD = [
    {"id": name, "name": name.title(), "low": 1, "high": 7, "meaning": f"{name}: 1 lowest, 7 highest"}
    for name in ("arousal", "valence", "dominance")
]
MADE_UP = [
    {"id": "stress", "low": 0, "high": 1, "meaning": "how stressed: 0 not, 1 very", "group": "emotion"},
    {"id": "clarity", "low": -5, "high": 5, "meaning": "how clear: -5 not, 5 very", "aliases": ["Clearness"]},
    {"id": "pace", "name": "Pace of speech", "low": 20, "high": 400, "meaning": "words a minute"},
]
pytestmark = pytest.mark.numeric


@pytest.fixture(params=[pytest.param(VAD, id="vad"), pytest.param(MADE_UP, id="made-up", marks=pytest.mark.slow)])
def targets(request: pytest.FixtureRequest) -> list[dict[str, object]]:
    return request.param


@pytest.fixture
def experiment(
    targets: list[dict[str, object]],
    tmp_path: Path,
    runs: Path,
    make_wav: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Experiment:
    return make_project(targets, tmp_path, runs, make_wav, monkeypatch)


def trained(experiment: Experiment) -> heads.HeadsResult:
    pretrain.run(experiment)
    extract.run(experiment)
    return heads.run(experiment)


@pytest.mark.slow
def test_from_captions_to_scores(
    experiment: Experiment, targets: list[dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [str(target["id"]) for target in targets]
    result = trained(experiment)
    heads.show(result)
    assert result.targets == result.rated == tuple(ids)
    spec = read_info(result.experts).target_spec
    assert spec == open_targets("mine.yaml"), "also its aliases and groups"
    page = (experiment.folder / "report" / "index.html").read_text()
    card = (experiment.folder / "voice" / "README.md").read_text()
    for target in spec:
        assert target.name in page
        assert f"{target.low:g} to {target.high:g}" in card
        assert target.meaning in card
    for text in (page, card, capsys.readouterr().err):
        assert "anger" not in text
        assert "40" not in [word.strip(".,:;()") for word in text.split()]
    shown = predict.run(
        PredictArguments(
            files=(Path("e0.wav"), Path("g3.wav")),
            model=str(experiment.folder / "voice"),
            csv=Path("scores.csv"),
            plot=Path("scores.png"),
        )
    )
    predict.show(shown)
    assert [set(one.scores) for one in shown.predictions] == [set(ids)] * 2
    header = next(csv.reader(Path("scores.csv").read_text().splitlines()))
    assert [name for name in header if name in ids] == ids
    said = capsys.readouterr().err
    assert all(target.name in said for target in spec)
    assert Path("scores.png").stat().st_size > 0

    captioner = pretrain.run(experiment)
    assert "up to date" in capsys.readouterr().err
    pretrain.show(captioner)
    wanted = {sample.id: sample.rated for sample in captioner.samples}
    rows = {row["audio"]: row for row in map(json.loads, Path("m.jsonl").read_text().splitlines())}
    assert wanted == {name: rated_in_words({i: rows[name][i] for i in ids}, spec) for name in wanted}
    assert 0 <= captioner.emotion_hit_rate <= 1

    Path("mine.yaml").write_text(yaml.safe_dump([{**targets[0], "high": 999}, *targets[1:]]))
    with pytest.raises(RequestError, match=rf"(?s)for other targets.*3: {ids[0]} .*mine\.yaml: 3: .*999"):
        heads.run(experiment)
    with pytest.raises(
        RequestError, match=r"(?s)made from something else.*targets: the store has 3: .*wanted 3: .*999"
    ):
        extract.run(experiment)


@pytest.mark.slow
def test_every_other_verb(
    experiment: Experiment,
    targets: list[dict[str, object]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [str(target["id"]) for target in targets]
    calibrated = {"heads": {**experiment.heads.model_dump(), "calibration": "isotonic"}}
    first = trained(experiment)
    second = heads.run(Experiment.model_validate({**experiment.model_dump(), **calibrated}))

    report = store.info(StoreArguments(store=experiment.folder / "store.zarr"))
    store.show_info(report)
    assert tuple(report.rated) == tuple(ids)
    repaired = store.repair(StoreRepairArguments(store=experiment.folder / "store.zarr", runs=experiment.runs))
    assert not repaired.problems

    voices = [str(one.registered.version) for one in (first, second) if one.registered]
    for on in (None, str(experiment.folder / "store.zarr"), "manifest:m.jsonl"):
        result = compare.run(
            CompareArguments(models=tuple(voices), on=on, resamples=20, runs=experiment.runs, force=True)
        )
        compare.show(result)
        assert result.comparison.targets == tuple(ids)
        assert set(result.names) == set(ids)
        assert (result.folder / "index.html").is_file()
    registry.show_list_(registry.list_(RegistryArguments(runs=experiment.runs)))

    model = _load_pyfunc(str(experiment.folder / "voice"))
    frame = model.predict(pd.DataFrame({"audio": ["e0.wav"]}))
    assert list(frame.columns) == [*ids, "notices", "error"]
    assert np.isfinite(frame[ids].to_numpy(np.float64)).all()

    monkeypatch.setattr("experiments.sweep.verb.search", search_here)
    space = {"heads.learning_rate": {"low": "1e-4", "high": "1e-2", "log": True}}
    searching = {"sweep": {"space": space, "trials": 2, "epochs": 1}}
    swept = sweep.run(Experiment.model_validate({**experiment.model_dump(), **searching}))
    sweep.show(swept)
    assert swept.finished == 2
    assert yaml.safe_load(swept.settings.read_text())["targets"] == "mine.yaml"

    capsys.readouterr()
    assert cli.main(["corpus", "manifest:m.jsonl", "--targets", "mine.yaml", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["emotions"]) == ids
    assert cli.main(["corpus", "manifest:m.jsonl", "--targets", "quality"]) == 2
    assert "content_enjoyment" in capsys.readouterr().err
