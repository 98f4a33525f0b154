from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from cache.store import STATES, shard_file
from emonet.captioner import model as captioner
from emonet.captioner.model import Size
from emonet.checkpoints.files import load_bank
from emonet.errors import EmonetError, RequestError
from emonet.experts import ExpertBank
from emonet.runtime import identity, place
from experiments import extract
from experiments.core import Experiment, merged
from experiments.heads import verb as heads
from experiments.sweep import Trials
from experiments.sweep import verb as sweep
from experiments.sweep.trials import CaptionerTrials, TrialOutcome, TrialPruned, _Curve

pytestmark = pytest.mark.numeric

Params = dict[str, Any]
EACH: list[Params] = [
    {"heads.inputs": ["statistics"]},
    {"heads.inputs": ["attention"], "heads.hidden": [8]},
    {"heads.inputs": ["flatten"], "heads.features": "principal", "heads.rank": 4},
]


def unheard(_epoch: int, _error: float) -> None:
    """Hear nothing."""


def stop_at(last: int) -> Callable[[int, float], None]:
    def report(epoch: int, _error: float) -> None:
        if epoch == last:
            raise TrialPruned

    return report


@pytest.fixture
def experiment(mini_experiment: Experiment) -> Experiment:
    extract.run(mini_experiment)
    return mini_experiment


def fresh(experiment: Experiment, params: Params) -> TrialOutcome:
    return Trials(experiment).run(merged(experiment, params), unheard)


def told(outcome: TrialOutcome) -> tuple[Any, ...]:
    """All but how long it took."""
    values = {name: value for name, value in outcome.values.items() if name != "seconds"}
    return values, outcome.epochs, outcome.curve, outcome.best


@pytest.mark.slow
def test_what_a_killed_trial_left_is_removed_and_nobody_elses(experiment: Experiment) -> None:
    left, running = (experiment.folder / f".trial-{name}" for name in ("left", "running"))
    for folder, worker in ((left, f"{place()}/{2**22 + 1}"), (running, identity())):
        (folder / "trial").mkdir(parents=True)
        (folder / "worker").write_text(worker)
    fresh(experiment, EACH[0])
    assert not left.exists()
    assert (running / "trial").is_dir()


@pytest.mark.slow
def test_a_trial_does_not_depend_on_those_before_it(experiment: Experiment) -> None:
    trials = Trials(experiment)
    found = []
    for params in (*EACH, *EACH):
        with pytest.raises(TrialPruned):
            trials.run(merged(experiment, params), stop_at(1))
        found.append(told(trials.run(merged(experiment, params), unheard)))
    assert found == [told(fresh(experiment, params)) for params in (*EACH, *EACH)]
    assert len({str(one) for one in found}) == len(EACH)


def test_a_trial_trains_on_the_device_of_its_worker_whatever_heads_is_to_use(experiment: Experiment) -> None:
    elsewhere = merged(experiment, EACH[0] | {"heads.devices": ["cuda:6", "cuda:7"]})
    found = Trials(experiment).run(elsewhere, unheard)
    assert found.values["mae"] == fresh(experiment, EACH[0]).values["mae"]
    names = {
        sweep.study_name(merged(experiment, changes), {})
        for changes in ({}, {"heads.devices": ["cuda:0", "cuda:1"]}, {"heads.memory": 3.0}, {"heads.num_shards": 2})
    }
    assert len(names) == 1
    assert names != {sweep.study_name(merged(experiment, {"heads.patience": 3}), {})}


def test_test_clips_are_never_touched(experiment: Experiment, make_wav: Callable[..., Path]) -> None:
    """Other recordings and scores of the test clips, or none at all: the trials are the same."""
    found = [told(fresh(experiment, params)) for params in EACH]
    manifest = experiment.runs.parent / "m.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    noise = make_wav("noise.wav")
    sf.write(noise, np.random.default_rng(0).normal(0, 0.3, 8000), 16_000)
    for number, row in enumerate(rows):
        if row["split"] == "test":
            row |= {"audio": str(noise), "start": 0.0, "end": 0.3 + number / 1000, "anger": number % 5, "fear": 4.0}
    other = manifest.with_name("other.jsonl")
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spoiled = Experiment.model_validate({**experiment.model_dump(), "name": "spoiled", "corpus": f"manifest:{other}"})
    store = extract.run(spoiled).store
    assert [told(fresh(spoiled, params)) for params in EACH] == found
    for shard in (1, 2):  # of 16 clips: the first one has all training and validation clips
        shard_file(store, shard, STATES).unlink()
    assert [told(fresh(spoiled, params)) for params in EACH] == found


@pytest.mark.slow
def test_what_a_trial_gives_is_what_heads_gives(experiment: Experiment) -> None:
    params: Params = {"heads.inputs": ["statistics", "attention"]}
    settings = merged(experiment, params)
    curve: list[float] = []
    outcome = Trials(experiment).run(settings, lambda epoch, error: curve.insert(epoch, error))
    result = heads.run(settings)
    validation = result.forms[result.input].validation
    assert outcome.best == {"input": result.input}
    assert outcome.values["mae"] == pytest.approx(validation.mae.mean.value, abs=1e-5)
    assert outcome.values["pearson"] == pytest.approx(validation.pearson.mean.value, abs=1e-5)
    bank, _ = load_bank(experiment.folder / "heads")
    assert outcome.values["parameters"] == sum(weight.numel() for weight in bank.parameters())
    assert outcome.curve == tuple(curve)
    assert curve == sorted(curve, reverse=True)
    assert outcome.epochs == len(curve) == 8
    assert outcome.seconds == outcome.values["seconds"] > 0
    assert not list(experiment.folder.glob(".trial-*"))


@pytest.mark.parametrize("params", EACH)
def test_a_pruned_trial_leaves_nothing_behind(
    experiment: Experiment, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = Trials(experiment)
    torch.manual_seed(3)
    state, threads, running = torch.random.get_rng_state(), torch.get_num_threads(), threading.active_count()
    capsys.readouterr()
    with pytest.raises(TrialPruned) as caught:
        trials.run(merged(experiment, params), stop_at(0))
    assert caught.value.__context__ is None
    assert not [one for one in gc.get_objects() if isinstance(one, ExpertBank)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (torch.get_num_threads(), threading.active_count()) == (threads, running)
    assert capsys.readouterr() == ("", "")
    assert not list(experiment.folder.glob(".trial-*"))


def test_a_trial_that_cannot_be_is_told_and_the_next_one_is_as_ever(experiment: Experiment) -> None:
    trials = Trials(experiment)
    with pytest.raises(EmonetError, match="training diverged"):
        trials.run(merged(experiment, {**EACH[0], "heads.learning_rate": 1e30}), unheard)
    with pytest.raises(RequestError, match="not so many principal coordinates"):
        trials.run(merged(experiment, {**EACH[2], "heads.rank": 1000}), unheard)
    assert told(trials.run(merged(experiment, EACH[0]), unheard)) == told(fresh(experiment, EACH[0]))


def test_there_must_be_a_store(mini_experiment: Experiment) -> None:
    with pytest.raises(RequestError, match=r"(?s)'extract' of experiment 'mini' has not finished.*emonet extract"):
        Trials(mini_experiment)


def test_curves_fall_over_groups_stops_and_forms() -> None:
    seen: list[tuple[int, float]] = []
    curve = _Curve(("anger", "fear"), lambda epoch, error: seen.append((epoch, error)))
    for epoch, error in enumerate((4.0, float("nan"), 2.0)):
        curve.take({"val_mae/anger": error, "train_loss": 1.0}, epoch)
    assert seen == [], "the other group has yet to come"
    for epoch, error in enumerate((2.0, 3.0)):
        curve.take({"val_mae/fear": error}, epoch)
    curve.take({"train_loss": 1.0}, 2)  # fear has stopped
    assert seen == [(0, 3.0), (1, 3.0), (2, 2.0)]
    curve.close()
    curve.take({"val_mae/anger": 9.0, "val_mae/fear": 9.0}, 0)
    curve.take({"val_mae/anger": 1.0, "val_mae/fear": 0.5}, 1)
    assert seen[3:] == [(3, 2.0), (4, 0.75)]


@pytest.fixture
def captioned(tmp_path: Path, runs: Path, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Six recordings and a captioner of 1 s."""
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    rows = []
    for row, split in enumerate(("train", "train", "train", "validation", "validation", "test")):
        path = make_wav(f"{row}.wav", seconds=0.5, hertz=150 + 40 * row)
        rows.append({"audio": str(path), "speaker": split, "split": split, "anger": row % 5, "fear": 1})
    (tmp_path / "test").write_bytes(b"")
    rows[-1]["audio"] = str(tmp_path / "test")  # no sound at all
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"window_seconds": 1.0, "epochs": 2, "batch_size": 2}
    return Experiment.model_validate(
        {"name": "mini", "corpus": f"manifest:{manifest}", "runs": runs, "captioner": settings}
    )


@pytest.mark.slow
def test_trials_of_captioners_keep_no_weights_and_can_be_pruned(captioned: Experiment) -> None:
    trials = CaptionerTrials(captioned)
    first = trials.run(captioned, unheard)
    assert set(first.values) == {"loss", "parameters", "seconds"}
    assert first.curve == tuple(sorted(first.curve, reverse=True))
    assert first.values["loss"] == pytest.approx(first.curve[-1], rel=1e-5)
    with pytest.raises(TrialPruned):
        trials.run(merged(captioned, {"captioner.learning_rate": 1e-2}), stop_at(0))
    assert told(trials.run(captioned, unheard)) == told(first)
    assert list(captioned.folder.iterdir()) == []


def test_without_classes_a_sweep_cannot_aim_at_ua(experiment: Experiment) -> None:
    settings = Experiment.model_validate({**experiment.model_dump(), "sweep": {"objectives": ["ua"]}})
    with pytest.raises(RequestError, match=r"(?s)objective ua is undefined: there are no classes.*--targets classes"):
        sweep.run(settings)


@pytest.mark.parametrize("varied", [True, False])
def test_without_classes_trials_cannot_choose_by_ua(experiment: Experiment, varied: bool) -> None:
    select = {"sweep": {"space": {"heads.select_by": {"choices": ["mae", "ua"]}}}}
    fixed = {"heads": {**experiment.heads.model_dump(), "select_by": "ua"}}
    settings = Experiment.model_validate({**experiment.model_dump(), **(select if varied else fixed)})
    wanted = r"(?s)heads.select_by ua is undefined: there are no classes.*--targets classes"
    with pytest.raises(RequestError, match=wanted):
        sweep.run(settings)
    with pytest.raises(RequestError, match=wanted):
        Trials(experiment).run(merged(experiment, {"heads.select_by": "ua"}), unheard)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"standardise": "speaker", "inputs": ["statistics"]}, "heads.standardise", "no experts that could be saved"),
        ({"layers": "mix", "inputs": ["statistics"]}, "heads.layers", "the store has a single layer"),
        ({"layers": "mix", "inputs": ["flatten"]}, "heads.inputs", "only statistics of layers can be mixed"),
        ({"layers": [9], "inputs": ["statistics"]}, "heads.layers", "does not have the states of these layers"),
        ({"select_by": "ua"}, "heads.select_by", "heads.select_by ua is undefined"),
    ],
)
def test_what_no_trial_could_train_is_refused_once(
    experiment: Experiment, changes: Params, path: str, message: str
) -> None:
    fields = experiment.model_dump() | {"heads": {**experiment.heads.model_dump(), **changes}}
    other = {"heads.dropout": {"choices": [[0.0], [0.1]]}}
    settings = Experiment.model_validate(fields | {"sweep": {"space": other}})
    with pytest.raises(RequestError, match=message):
        Trials(settings)
    with pytest.raises(RequestError, match=message):
        sweep.run(settings)
    assert not (experiment.runs / "optuna.db").exists()
    name, choices = path.removeprefix("heads."), [[["statistics"]], [True], ["mae"], ["all"]]
    fitting = {"inputs": 0, "standardise": 1, "select_by": 2, "layers": 3}[name]
    Trials(Experiment.model_validate(fields | {"sweep": {"space": {path: {"choices": choices[fitting]}}}}))
