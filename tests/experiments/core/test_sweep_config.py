from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from emonet.errors import RequestError
from emonet.tracking import hidden, sqlite_path, sqlite_url
from experiments.cli import verbs as cli
from experiments.core import Dimension, Experiment, SweepConfig, load, merged, shipped, space_of, storage_of
from experiments.core.sweep_config import default_space, problems_of
from experiments.sweep import Study, plan_of
from experiments.sweep.records import decoded, encoded
from experiments.sweep.verb import study_name
from tests.experiments.sweep.fakes import SPACE, fake_experiment


def with_sweep(experiment: Experiment, **sweep: Any) -> Experiment:
    return Experiment.model_validate({**experiment.model_dump(exclude={"sweep"}), "sweep": sweep})


def problems(space: dict[str, Any], **sweep: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Experiment.model_validate({"sweep": {"space": space, **sweep}})
    return str(caught.value)


@pytest.mark.parametrize("stage", ["heads", "pretrain"])
@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_default_space_fits_every_shipped_experiment(name: str, stage: Any) -> None:
    space = {path: dimension.model_dump() for path, dimension in default_space(stage).items()}
    experiment = with_sweep(load(name), stage=stage, space=space)
    assert problems_of(experiment) == []
    plan = plan_of(experiment, "study")
    assert set(plan.space) == set(default_space(stage))
    assert plan.whole == {path for path in plan.space if path.endswith("_masks")}


def test_a_file_may_write_numbers_as_people_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "sweep:\n  space:\n    heads.learning_rate: {low: 1e-4, high: 3e-2, log: true}\n"
        "    heads.inputs: {choices: [[statistics], [attention], [flatten]]}\n"
        "    heads.rank: {choices: [32, 128, 0.9, all], when: {heads.inputs: [[flatten]]}}\n"
    )
    space = load(str(path)).sweep.space
    assert (space["heads.learning_rate"].low, space["heads.learning_rate"].high) == (1e-4, 3e-2)
    assert space["heads.rank"].applies({"heads.inputs": ["flatten"]})
    assert not space["heads.rank"].applies({"heads.inputs": ["statistics"]})
    assert not space["heads.rank"].applies({})


@pytest.mark.parametrize(
    ("path", "dimension", "message"),
    [
        ("heads.learning_rat", {"low": 1, "high": 2}, "no such field of heads; did you mean heads.learning_rate?"),
        ("captioner.epochs", {"low": 1, "high": 2}, "no such field of heads"),
        ("seed", {"low": 1, "high": 2}, "no such field of heads; expected heads.FIELD"),
        ("heads", {"low": 1, "high": 2}, "no such field of heads"),
        ("heads.weight_decay", {"low": -1, "high": 2}, "greater than or equal to 0; found -1"),
        ("heads.weight_decay", {"low": 2, "high": 1}, "low must be less than high; found 2 and 1"),
        ("heads.weight_decay", {"low": 0, "high": 1, "log": True}, "log needs low above 0; found 0"),
        ("heads.weight_decay", {"low": 1, "high": 2, "log": True, "step": 0.5}, "log and step exclude each other"),
        ("heads.weight_decay", {"low": 0, "high": 1, "step": 0.3}, "step must lead from low to high; found 0.3"),
        ("heads.batch_size", {"low": 8, "high": 10, "step": 0.5}, "step must be a whole number"),
        ("heads.batch_size", {"low": 8.5, "high": 10}, "valid integer"),
        ("heads.batch_size", {"low": 8}, "expected low and high, or choices"),
        ("heads.batch_size", {"choices": [8, 16], "low": 8}, "choices leave no room"),
        ("heads.batch_size", {"choices": [8, 16, 8]}, "a choice is named twice"),
        ("heads.loss", {"choices": ["mae", "mea"]}, "found 'mea'"),
        ("heads.rank", {"choices": ["all"], "when": {"heads.loss": ["mae"]}}, "expected another field of the space"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(path: str, dimension: dict[str, Any], message: str) -> None:
    assert message in problems({path: dimension})


def test_conditions_name_choices_and_do_not_go_in_a_circle() -> None:
    inputs = {"choices": [["flatten"]]}
    wrong = {"heads.inputs": inputs, "heads.rank": {"choices": ["all"], "when": {"heads.inputs": [["flattn"]]}}}
    assert "heads.rank: when heads.inputs: ['flattn'] is none of its choices" in problems(wrong)
    circle = {
        "heads.inputs": {**inputs, "when": {"heads.rank": ["all"]}},
        "heads.rank": {"choices": ["all"], "when": {"heads.inputs": [["flatten"]]}},
    }
    assert "conditions go in a circle" in problems(circle)


def test_what_does_not_go_together_is_refused() -> None:
    assert "sweep.objectives: loss is none of the stage heads" in problems({}, objectives=["loss"])
    assert "sweep.objectives: one is named twice" in problems({}, objectives=["mae", "mae"])
    epochs = {"heads.epochs": {"low": 1, "high": 4}}
    assert "sweep.epochs: heads.epochs is varied already" in problems(epochs, epochs=3)
    assert "sweep.storage: expected a database URL; found 'optuna'" in problems({}, storage="optuna")


def test_all_problems_of_a_file_come_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "sweep:\n  objectives: [loss]\n  space:\n    heads.dropuot: {choices: [[0.1]]}\n"
        "    heads.rank: {low: 3, high: 2}\n"
    )
    with pytest.raises(RequestError) as caught:
        load(str(path))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip(" -") for line in lines[1:4]] == [
        "sweep.objectives",
        "sweep.space.heads.dropuot",
        "sweep.space.heads.rank",
    ]
    path.write_text("sweep: {space: {heads.rank: {lo: 3, high: 2}}}\n")
    with pytest.raises(RequestError, match=r"sweep.space.heads.rank.lo: no such field; did you mean low\?"):
        load(str(path))


def test_a_trials_values_are_validated_and_the_rest_stays(tmp_path: Path) -> None:
    experiment = fake_experiment(tmp_path)
    chosen = merged(experiment, {"heads.inputs": ["flatten"], "captioner.augment.gain_db": 3})
    assert chosen.heads.inputs == ("flatten",)
    assert chosen.captioner.augment.gain_db == 3.0
    assert (chosen.heads.epochs, chosen.runs) == (experiment.heads.epochs, tmp_path)
    with pytest.raises(ValidationError):
        merged(experiment, {"heads.inputs": ["nothing"]})


def test_fields_come_after_those_that_they_depend_on(tmp_path: Path) -> None:
    backwards = dict(reversed(SPACE.items()))
    order = list(space_of(fake_experiment(tmp_path, space=backwards).sweep))
    assert order.index("heads.inputs") < order.index("heads.rank")


@pytest.mark.parametrize("choice", [None, True, 3, 0.5, "all", ["a", 1], []])
def test_choices_go_through_optuna_and_come_back(choice: Any) -> None:
    dimension = Dimension(choices=("other", choice))
    assert isinstance(encoded(choice), bool | int | float | str | None)
    assert decoded(encoded(choice), dimension) == choice


def test_storages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(storage: str | None) -> str:
        return storage_of(fake_experiment(tmp_path, storage=storage).sweep, Path("runs"))

    monkeypatch.chdir(tmp_path)
    assert of(None) == f"sqlite:///{tmp_path}/runs/optuna.db"
    assert of("sqlite:///a/b.db") == of("sqlite:///./a/b.db") == f"sqlite:///{tmp_path}/a/b.db"
    assert of("sqlite:///study.journal") == f"sqlite:///{tmp_path}/study.journal", "it is a database"
    assert of("sqlite:///~nobody-of-this-name/b.db") == f"sqlite:///{tmp_path}/~nobody-of-this-name/b.db"
    url = "postgresql+psycopg2://me:secret@host:5432/db"
    assert of(url) == url
    assert hidden(url) == "postgresql+psycopg2://me:***@host:5432/db"
    assert hidden(of(None)) == of(None)


def test_trials_that_cannot_be_compared_are_in_other_studies(tmp_path: Path) -> None:
    data = {"store": "a"}

    def name(fingerprint: dict[str, Any] = data, **changes: Any) -> str:
        base = fake_experiment(tmp_path)
        sweep = {**base.sweep.model_dump(), **changes.pop("sweep", {})}
        return study_name(Experiment.model_validate({**base.model_dump(), **changes, "sweep": sweep}), fingerprint)

    same = name()
    assert same.startswith("fake-heads-")
    wider = {**SPACE, "heads.learning_rate": {"low": 1e-5, "high": 1.0, "log": True}}
    for alike in (
        name(sweep={"trials": 7, "workers": 3, "pruner": "none"}),
        name(heads={"epochs": 4, "learning_rate": 0.5}),
        name(sweep={"space": wider}),
    ):
        assert alike == same
    fewer = {path: dimension for path, dimension in SPACE.items() if path != "heads.batch_size"}
    others = [
        name({"store": "b"}),
        name(seed=1),
        name(heads={"epochs": 4, "loss": "mse"}),
        name(sweep={"epochs": 2}),
        name(sweep={"objectives": ["mae", "parameters"]}),
        name(sweep={"space": fewer}),
    ]
    assert len({same, *others}) == 7


def test_flags_leave_a_files_space_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sweep: {space: {heads.learning_rate: {low: 1e-4, high: 3e-2, log: true}}}\n")
    parsed = cli._parse("sweep", ["--experiment", str(path), "--trials", "7", "--heads.epochs", "3"]).config
    assert (parsed.sweep.trials, parsed.heads.epochs) == (7, 3)
    assert parsed.sweep.space == load(str(path)).sweep.space != {}
    with pytest.raises(RequestError, match=r"sweep.space.heads.learning_rate: no such field of captioner"):
        cli._parse("sweep", ["--experiment", str(path), "--stage", "pretrain"])
    assert cli.main(["sweep", "--experiment", str(path), "--help"]) == 0
    shown = capsys.readouterr()
    assert "--sweep.workers" in shown.out
    assert "sweep.space" not in shown.out


def test_a_password_in_an_urls_options_is_not_shown() -> None:
    url = "postgresql://db/x?user=me&password=secret&sslmode=on"
    assert hidden(url) == "postgresql://db/x?user=me&password=***&sslmode=on"


@pytest.mark.parametrize("name", ["my data", "why?", "Gefühle", "a#b", "100%", "a;b", "{x}"])
def test_a_study_lies_in_its_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    runs = tmp_path / name
    storage = storage_of(SweepConfig(), runs)
    assert sqlite_path(storage) == runs / "optuna.db"
    assert storage_of(SweepConfig(storage=storage), tmp_path) == storage
    assert storage_of(SweepConfig(storage=f"sqlite:///{runs}/x.db"), tmp_path) == sqlite_url(runs / "x.db")
    Study(plan_of(fake_experiment(runs, trials=1), "odd"))
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (runs / "optuna.db").stat().st_size > 0


@pytest.mark.parametrize("storage", ["journal:/shared/study.log", "journal:study.journal", "shared.journal"])
def test_a_journal_file_is_refused_with_the_way_out(storage: str, tmp_path: Path) -> None:
    told = (
        r"(?s)kept in a database, and no longer in a journal file.*" + storage + r'.*"Journal files" in docs/sweeps\.md'
    )
    path = tmp_path / "old.yaml"
    path.write_text(f"sweep: {{storage: '{storage}'}}\n")
    with pytest.raises(RequestError, match=told):
        load(str(path))
    with pytest.raises(RequestError, match=told):
        storage_of(SweepConfig(storage=storage), tmp_path)
