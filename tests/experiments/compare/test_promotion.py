from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from emonet.errors import EmonetError, RequestError
from emonet.registry import CHAMPION, VOICE, find_version, metrics_of, promote, version_of, versions_of
from emonet.tracking import default_uri
from experiments import extract as extract_stage
from experiments.arguments import CompareArguments
from experiments.cli import verbs as cli
from experiments.compare import report as compare_report
from experiments.compare import verb as compare
from experiments.compare.promotion import apply_verdict, verdict_of, with_champion
from experiments.compare.verb import CompareResult
from experiments.core import Experiment
from experiments.heads import verb as heads
from tests.databases import Postgres
from tests.experiments.compare.fixtures import Compare, Examine
from tests.experiments.model_registry import TARGETS, World, register


def test_the_challenger_is_promoted_by_the_rule_and_versions_show_it(
    registered: Path, comparing: Compare, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = default_uri(registered)
    result = comparing("candidate", promote=True)
    assert (result.promoted, [model.version for model in result.models]) == (True, [2, 1])
    assert "version 2 is @champion now, in place of 1" in result.decision[-1]
    assert (result.margin, result.unproven) == (0.025, ())
    champion = version_of(VOICE, CHAMPION, uri)
    assert (champion.version, champion.former) == (2, (1,))
    assert result.run_id in champion.tags["promoted"]
    assert "version 2 is @champion now" in (result.folder / "index.html").read_text()
    compare.show(result)
    assert "promoted" in capsys.readouterr().err

    client = MlflowClient(default_uri(registered))
    logged = {metric.key: metric for metric in client.get_logged_model(champion.model_id).metrics}
    found = logged["compare/manifest m.jsonl test/mae/mean"]
    assert found.value == pytest.approx(result.comparison.scores["v2 @candidate"].mae.mean.value)
    assert client.get_run(champion.run_id).data.metrics[found.key] == found.value, "MLflow compares versions by runs"
    run = client.get_run(result.run_id)
    assert run.data.tags["versions"] == "2,1"
    assert run.data.tags["promoted"] == "true"
    assert {model.model_id for model in run.inputs.model_inputs} >= {champion.model_id}
    with pytest.raises(RequestError, match=r"(?s)decides between the champion and one challenger.*found: +v1, v2"):
        comparing("1", "2", world.folder / "good" / "voice", promote=True)


@pytest.mark.slow
def test_a_poor_challenger_is_told_why_not(registered: Path, comparing: Compare) -> None:
    uri = default_uri(registered)
    promote(version_of(VOICE, 2, uri), uri, registered, expected=1, why="by hand")
    poor = version_of(VOICE, 1, uri)
    MlflowClient(uri).delete_run(poor.run_id)
    result = comparing("1", "2", promote=True)
    key = "compare/manifest m.jsonl test/mae/mean on manifest m.jsonl test"
    assert key in metrics_of(poor, uri), "without the run that trained it the model has its figures all the same"
    assert result.promoted is False
    assert "the interval lies above 0" in "\n".join(result.decision)
    assert set(result.unproven) <= set(TARGETS)
    assert result.unproven
    assert "that no target is worse is not shown" in (result.folder / "index.html").read_text()
    assert result.decision[-1] == "version 2 stays @champion"


def test_a_forced_comparison_promotes_nobody(registered: Path, flags_of: Callable[..., CompareArguments]) -> None:
    compared, challenge = compare.examine(flags_of("2", promote=True, force=True, split="train"))
    assert challenge is not None
    verdict = verdict_of(challenge, compared, 0.025)
    assert (verdict.promote, verdict.reasons[0].rpartition(": ")[2]) == (False, "it proves nothing")


def test_what_is_not_known_is_said_beside_the_verdict(
    registered: Path, world: World, flags_of: Callable[..., CompareArguments]
) -> None:
    register(world.voice(registered / "unknown", 1.0, targets=("anger",), origin=False), registered)
    compared, challenge = compare.examine(flags_of("3", promote=True))
    assert challenge is not None
    verdict = verdict_of(challenge, compared, 0.025)
    assert not verdict.promote
    assert "has no expert for what v1 @champion scores: fear" in verdict.reasons[0]
    assert verdict.reasons[-1] == "that v3 @candidate was not trained on these clips is not known"


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    registered: Path, flags_of: Callable[..., CompareArguments], good: Path
) -> None:
    uri = default_uri(registered)
    assert register(good, registered) == 3
    arguments = flags_of("2", promote=True)
    compared, challenge = compare.examine(arguments)
    assert challenge is not None
    promote(version_of(VOICE, 3, uri), uri, registered, expected=1, why="another comparison")
    promoted, decision = apply_verdict(challenge, verdict_of(challenge, compared, 0.025), arguments, uri, "0" * 32)
    assert not promoted
    moved = "@champion has moved meanwhile; nothing was changed: version 3 is champion in place of 1"
    assert decision[-1] == f"{moved}; compare with that one"
    champion = find_version(VOICE, CHAMPION, uri)
    assert champion is not None
    assert (champion.version, champion.former) == (3, (1,))


def test_only_registered_versions_can_be_promoted(registered: Path, examining: Examine, good: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)only a registered version can be promoted.*found: .*good/voice"):
        examining(good, promote=True)


@pytest.mark.slow
def test_models_are_named_in_many_ways(registered: Path, examining: Examine) -> None:
    run_id = version_of(VOICE, 2, default_uri(registered)).run_id
    for name in ("models:/emonet-voice/2", "@candidate", run_id, f"runs:/{run_id}/voice"):
        assert [model.label for model in examining(name).models] == ["v2 @candidate"]


def test_a_version_whose_files_were_deleted_says_so(registered: Path, examining: Examine, good: Path) -> None:
    assert register(good, registered) == 3
    source = version_of(VOICE, 3, default_uri(registered)).source
    shutil.rmtree(source.removeprefix("file://"))
    with pytest.raises(RequestError, match="its files are not found"):
        examining("3")


@pytest.mark.slow
def test_what_was_computed_is_kept_when_the_server_is_gone(
    comparing: Compare, good: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compare.examine

    def going(arguments: CompareArguments) -> object:
        found = original(arguments)
        (runs / "mlflow.db").write_text("this is no database")
        return found

    monkeypatch.setattr(compare, "examine", going)
    with pytest.raises(EmonetError, match="tracking server cannot be used"):
        comparing(good)
    assert "the comparison itself is done and lies in" in capsys.readouterr().err
    assert list((runs / "compare").glob("*/index.html"))


def test_a_server_that_is_away_from_the_first_is_told_before_the_work(
    comparing: Compare, good: Path, runs: Path
) -> None:
    (runs / "mlflow.db").write_text("this is no database")
    with pytest.raises(EmonetError, match="tracking server cannot be used"):
        comparing(good)
    assert not (runs / "compare").exists()


def test_nobody_is_promoted_before_the_figures_are_logged_and_a_failure_after_it_says_who_is_champion(
    registered: Path, flags_of: Callable[..., CompareArguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, uri = flags_of("2", promote=True), default_uri(registered)
    examined = compare.examine(arguments)
    monkeypatch.setattr(compare, "examine", lambda arguments: examined)
    monkeypatch.setattr(compare_report, "write", lambda folder, *more: folder.mkdir(parents=True, exist_ok=True))
    original, calls = compare_report.log_files, []

    def failing(*words: object) -> None:
        calls.append(words)
        if len(calls) != 2:
            raise OSError(28, "No space left on device")
        original(*words)

    monkeypatch.setattr(compare_report, "log_files", failing)
    with pytest.raises(EmonetError, match=r"^the comparison is done, but it could not be logged\n"):
        compare.run(arguments)
    assert version_of(VOICE, CHAMPION, uri).version == 1
    with pytest.raises(
        EmonetError, match=r"could not be logged; version 2 is @champion now, in place of 1; .*rollback"
    ):
        compare.run(arguments)
    assert version_of(VOICE, CHAMPION, uri).version == 2


def test_what_cannot_be_logged_lies_on_disk_all_the_same(
    comparing: Compare, good: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "mlartifacts").write_text("in the way")
    with pytest.raises(EmonetError, match="artefacts cannot be written"):
        comparing(good)
    assert "the comparison itself is done and lies in" in capsys.readouterr().err
    assert list((runs / "compare").glob("*/index.html"))


def test_the_command_line_gives_json(world: World, good: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--on", str(world.store), "--resamples", "20", "--no-baselines", "--runs", str(runs), "--json"]
    assert cli.main(["compare", str(good), *flags]) == 0
    result = CompareResult.model_validate_json(capsys.readouterr().out)
    assert set(result.comparison.targets) == set(TARGETS)
    assert cli.main(["compare", str(good), *flags, "--split", "train"]) == 2


@pytest.mark.slow
def test_a_registry_in_postgresql(
    postgres: Postgres, world: World, good: Path, poor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = postgres.database("compare")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    runs = tmp_path / "runs"
    assert [register(poor, runs), register(good, runs)] == [1, 2]
    flags = ["--on", str(world.store), "--resamples", "20", "--no-baselines", "--runs", str(runs)]
    assert cli.main(["compare", "candidate", "--promote", *flags]) == 0
    champion = version_of(VOICE, CHAMPION, uri)
    assert (champion.version, champion.former) == (2, (1,))
    assert any(key.startswith("compare/manifest m.jsonl test/mae/mean") for key in metrics_of(champion, uri))
    assert cli.main(["registry", "rollback", "--runs", str(runs)]) == 0
    assert version_of(VOICE, CHAMPION, uri).version == 1
    assert cli.main(["registry", "promote", "2", "--yes", "--runs", str(runs)]) == 0
    assert register(good, runs) == 3
    assert register(good, runs) == 4
    assert cli.main(["registry", "prune", "--keep", "0", "--yes", "--runs", str(runs)]) == 0
    assert [one.version for one in versions_of(VOICE, uri)] == [4, 2, 1]
    assert not Path("mlruns").exists()


@pytest.mark.slow
def test_what_heads_registers_is_compared_and_knows_its_clips(mini_experiment: Experiment) -> None:
    quick = {**mini_experiment.heads.model_dump(), "inputs": ["statistics"], "epochs": 1}
    experiment = Experiment.model_validate({**mini_experiment.model_dump(), "heads": quick})
    extracted, trained = extract_stage.run(experiment), heads.run(experiment)
    flags = {"resamples": 20, "baselines": False, "runs": experiment.runs}
    for on in (str(extracted.store), experiment.corpus):
        arguments = CompareArguments(models=("champion",), on=on, **flags)
        compared, _ = compare.examine(arguments)
        assert compared.origins["v1 @candidate @champion"].known == "lineage"
        found = compared.comparison.scores["v1 @candidate @champion"].mae.mean.value
        assert found == pytest.approx(trained.test.mae.mean.value, abs=1e-5)
        with pytest.raises(RequestError, match="trained on 12 of these clips"):
            compare.examine(CompareArguments(models=("champion",), on=on, split="train", **flags))


def test_without_a_champion_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emonet.registry.find_version", lambda *_: None)
    with pytest.raises(RequestError, match=r"(?s)no @champion.*me:\*\*\*@host") as told:
        with_champion(["3"], "postgresql://me:secret@host/db")
    assert "secret" not in str(told.value)
