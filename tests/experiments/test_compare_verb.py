from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from mlflow import MlflowClient

from cache.extraction import extract
from cache.store import FeatureStore
from emonet import lineage
from emonet.configs import ExtractionConfig
from emonet.corpora import open_corpus
from emonet.encoder import FrozenEncoder
from emonet.errors import EmonetError, RequestError
from emonet.registry import CHAMPION, VOICE
from emonet.tracking import default_uri
from emonet.versions import find, metrics_of, promote, version_of, versions
from experiments import cli, compare, compare_report, heads
from experiments import extract as extract_stage
from experiments.compare import CompareResult
from experiments.compare_promotion import carry_out, verdict_of
from experiments.compare_report import dataset_of
from experiments.compare_states import STATES
from experiments.compare_work import Compared
from experiments.config import Experiment
from experiments.registry_arguments import CompareArguments
from tests.databases import Postgres
from tests.experiments.model_registry import TARGETS, World, make_world, register


def write_wav(path: Path, seconds: float, hertz: float) -> None:
    time = np.arange(round(seconds * 16_000)) / 16_000
    sf.write(path, 0.3 * np.sin(2 * np.pi * hertz * time), 16_000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), write_wav)


@pytest.fixture(scope="module")
def poor(world: World) -> Path:
    return world.voice(world.folder / "poor", 4.0)


@pytest.fixture(scope="module")
def good(world: World) -> Path:
    return world.voice(world.folder / "good", 1.5)


Compare = Callable[..., CompareResult]
Examine = Callable[..., Compared]


@pytest.fixture
def flags_of(world: World, runs: Path) -> Callable[..., CompareArguments]:
    def arguments(*models: object, on: object = None, **flags: object) -> CompareArguments:
        defaults = {"resamples": 20, "baselines": False, "runs": runs, "on": str(on or world.store)}
        return CompareArguments(models=tuple(map(str, models)), **{**defaults, **flags})

    return arguments


@pytest.fixture
def comparing(flags_of: Callable[..., CompareArguments]) -> Compare:
    """The whole verb: figures, page, MLflow."""
    return lambda *models, **flags: compare.run(flags_of(*models, **flags))


@pytest.fixture
def examining(flags_of: Callable[..., CompareArguments]) -> Examine:
    """The figures alone."""
    return lambda *models, **flags: compare.examine(flags_of(*models, **flags))[0]


def test_two_folders_on_a_store(
    comparing: Compare, good: Path, poor: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = comparing(good, poor, baselines=True)
    comparison = result.comparison
    assert (comparison.clips, comparison.speakers, comparison.targets) == (18, 6, ("fear", "anger"))
    truth = np.array([1 + take / 2 for take in range(3)])
    assert comparison.scores["good/voice"].mae.per_target["anger"].value == pytest.approx(np.abs(1.5 - truth).mean())
    assert list(comparison.scores) == ["good/voice", "poor/voice", "median", "mel_ridge"]
    pair = comparison.pair("good/voice", "poor/voice")
    assert (pair.mean["mae"].high or 0) < 0
    assert (result.forced, result.promoted, result.decision) == (False, None, ())
    facts = comparison.facts["good/voice"]
    assert (facts.parameters or 0) > 1000
    assert (facts.milliseconds or 0) > 0
    assert (facts.memory_mib or 0) > 0
    assert facts.seen_clips == 0
    assert "left out, since nobody rated it" not in str(result.warnings)

    files = {path.name for path in result.folder.iterdir()}
    assert files == {"index.html", "comparison.json", "metrics.csv", "differences.csv"}
    assert not (runs / STATES).exists()
    compare.show(result)
    shown = capsys.readouterr().err
    for words in ("18 clips of 6 speakers", "mel_ridge", "is better than", str(result.folder / "index.html")):
        assert words in shown.replace("\n", "")

    client = MlflowClient(default_uri(runs))
    run = client.get_run(result.run_id)
    assert run.data.tags["forced"] == "false"
    assert {file.path for file in client.list_artifacts(result.run_id, "comparison")} == {
        f"comparison/{name}" for name in files
    }


def test_states_of_another_encoder_are_extracted_once_and_kept(
    examining: Examine, world: World, good: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other, third = (world.voice(tmp_path / name, 2.0, encoder="second") for name in ("other", "third"))
    read: dict[str, int] = {}
    original = FeatureStore.read

    def counted(store: FeatureStore, rows: object, **options: object) -> np.ndarray:
        read[store.path.name] = read.get(store.path.name, 0) + len(rows)
        return original(store, rows, **options)

    monkeypatch.setattr(FeatureStore, "read", counted)
    first = examining(good, other, third)
    (kept,) = (runs / STATES).glob("*.zarr")
    assert read == {"store.zarr": 18, kept.name: 18}, "each clip once for all models of an encoder"
    assert len(FeatureStore.open(kept)) == 18, "of this split only"
    changed = (kept / "zarr.json").stat().st_mtime_ns
    again = examining(good, other, third)
    assert (kept / "zarr.json").stat().st_mtime_ns == changed
    assert again.comparison.scores == first.comparison.scores


def test_models_that_memory_does_not_hold_together_run_one_after_the_other(
    examining: Examine, world: World, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = world.voice(tmp_path / "wide", 1.5, form="flatten")
    together = examining(good, wide, experts_precision="bf16")
    read: list[int] = []
    original = FeatureStore.read
    monkeypatch.setattr(FeatureStore, "read", lambda store, rows: read.append(len(rows)) or original(store, rows))
    monkeypatch.setattr("emonet.plan.free_bytes", lambda device: 0)
    apart = examining(good, wide, experts_precision="bf16")
    assert sum(read) == 2 * 18
    assert apart.comparison.scores == together.comparison.scores
    assert apart.comparison.facts["wide/voice"].details["held in"] == "bf16"


def test_states_that_are_not_as_computed_are_named(
    examining: Examine, world: World, good: Path, tmp_path: Path
) -> None:
    lossy = tmp_path / "lossy.zarr"
    config = ExtractionConfig(codec="int8", workers=1)
    extract(open_corpus(world.spec), FrozenEncoder.load(str(world.encoder("first"))), lossy, config, source="x")
    assert f"states in {lossy} are not as computed: codec int8, frames all" in examining(good, on=lossy).warnings


def test_a_half_done_extraction_goes_on(examining: Examine, world: World, good: Path, runs: Path) -> None:
    examining(good, on=world.spec)
    (kept,) = (runs / STATES).glob("*.zarr")
    (kept / "clips.parquet").unlink()  # killed before the end
    marker = next((kept / "shards").iterdir())
    changed = marker.stat().st_mtime_ns
    assert examining(good, on=world.spec).comparison.clips == 18
    assert marker.stat().st_mtime_ns == changed


def test_an_experiments_store_serves_its_corpus(examining: Examine, world: World, good: Path, runs: Path) -> None:
    (runs / "mini").mkdir()
    (runs / "mini" / "store.zarr").symlink_to(world.store)
    assert examining(good, on=world.spec).comparison.clips == 18
    assert not (runs / STATES).exists()


def test_clips_that_a_model_was_trained_on_are_refused(
    comparing: Compare, good: Path, poor: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        r"(?s)trained on.*good.*trained on 6 of these clips: a0.wav, a1.wav, a2.wav, \.\.\..*split train.*--split test"
    )
    with pytest.raises(RequestError, match=words):
        comparing(good, poor, split="train")
    with pytest.raises(RequestError, match="chosen by 3 of these clips"):
        comparing(good, split="validation")
    result = comparing(good, poor, split="train", force=True)
    assert result.forced
    assert result.warnings[0].startswith("FORCED")
    assert "heard 2 speakers of these clips in training: a, b" in "\n".join(result.warnings)
    assert "FORCED" in (result.folder / "index.html").read_text()
    written = json.loads((result.folder / "comparison.json").read_text())
    assert written["facts"]["good/voice"]["seen_clips"] == 6
    for name in ("metrics.csv", "differences.csv"):
        rows = list(csv.DictReader((result.folder / name).read_text().splitlines()))
        assert {row[key] for row in rows for key in row if key.endswith("seen_clips")} == {"6"}
    compare.show(result)
    assert capsys.readouterr().err.count("FORCED") >= 3
    assert MlflowClient(default_uri(runs)).get_run(result.run_id).data.tags["forced"] == "true"


def test_speakers_that_training_heard_are_named(examining: Examine, world: World, poor: Path, tmp_path: Path) -> None:
    voice = world.voice(tmp_path / "a", 1.0)
    clips = FeatureStore.open(world.store).clips
    lineage.write(voice, world.lineage(clips, "e" * 64), clips.assign(id="other/" + clips["id"], split="train"))
    result = examining(voice, poor)
    assert not result.forced
    assert "a/voice heard 6 speakers of these clips in training: d, e, f, ..." in "\n".join(result.warnings)


def test_an_unknown_origin_is_never_called_clean(examining: Examine, world: World, tmp_path: Path) -> None:
    voice = world.voice(tmp_path / "a", 1.0, origin=False)
    result = examining(voice)
    assert result.origins[result.models[0].label].known == "unknown"
    assert "of unknown origin" in "\n".join(result.warnings)
    assert result.comparison.facts["a/voice"].seen_clips is None


def test_an_older_model_is_known_where_its_store_is_still_there(
    examining: Examine, world: World, runs: Path, tmp_path: Path
) -> None:
    voice = world.voice(tmp_path / "x", 1.0, origin=False)
    described = voice / "experts" / "experts.json"
    fingerprint = FeatureStore.open(world.store).fingerprint
    described.write_text(described.read_text().replace("0" * 64, fingerprint))
    with pytest.raises(RequestError, match="trained on 6 of these clips"):
        examining(voice, split="train")
    assert examining(voice).origins["x/voice"].known == "store"
    assert examining(voice, on=world.spec).origins["x/voice"].known == "unknown", "the store is elsewhere"
    (runs / "mini").mkdir()
    (runs / "mini" / "store.zarr").symlink_to(world.store)
    (runs / "other" / "store.zarr").mkdir(parents=True)  # no store
    with pytest.raises(RequestError, match="chosen by 3 of these clips"):
        examining(voice, on=world.spec, split="validation")


def test_folders_of_experts_take_their_encoder_from_beside_them(
    examining: Examine, world: World, good: Path, poor: Path, tmp_path: Path
) -> None:
    result = examining(good.parent / "heads", poor, on=world.spec)
    assert result.origins[result.models[0].label].known == "lineage"
    alone = tmp_path / "alone"
    shutil.copytree(good.parent / "heads", alone)
    assert examining(alone, poor).comparison.clips == 18, "the store has its states"
    with pytest.raises(RequestError, match=r"(?s)experts without their encoder.*expected: +encoder weights"):
        examining(alone, on=world.spec, split="validation", force=True)


def test_only_what_all_score_is_compared(examining: Examine, world: World, good: Path, tmp_path: Path) -> None:
    one = world.voice(tmp_path / "one", 1.0, targets=("anger", "awe"))
    result = examining(good, one)
    assert result.comparison.targets == ("anger",)
    assert dataset_of(result) == "manifest m.jsonl test 1 of 2 emotions", "no mean over one beside one over both"
    assert dataset_of(examining(good)) == "manifest m.jsonl test"
    assert "left out, since one/voice has no expert for it: 1 emotion (fear)" in result.warnings
    other = world.voice(tmp_path / "other", 1.0, targets=("awe",))
    with pytest.raises(RequestError, match=r"(?s)no emotion that every model scores.*2 emotions \(fear, anger\)"):
        examining(good, other)


@pytest.mark.parametrize(
    ("models", "flags", "message"),
    [
        ((), {}, "no model was named"),
        (("{good}", "{good}"), {}, "given more than once"),
        (("nowhere/voice",), {}, "no voice model"),
        (("models:/emonet-captioner/1",), {}, "this is no voice model"),
        (("7",), {}, "emonet-voice has no version 7"),
        (("@best",), {}, "no version of emonet-voice is @best"),
        (("best",), {}, "neither a folder 'best' nor a version of emonet-voice that is @best"),
        (("0" * 32,), {}, "there is no such run"),
        (("runs:/" + "ab" * 16,), {}, "there is no such run"),
        (("{good}",), {"on": "nowhere.zarr"}, "no store|no such|is no"),
        (("{good}",), {"promote": True}, "no @champion that could be challenged"),
        (("{good}",), {"out": Path(__file__)}, "--out names a file, not a folder to write"),
    ],
)
def test_what_cannot_be_compared(
    examining: Examine, good: Path, models: tuple[str, ...], flags: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        examining(*(model.format(good=good) for model in models), **flags)


def test_without_audio_there_is_the_median_and_no_time_of_the_encoder(
    examining: Examine, world: World, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "store.zarr"
    shutil.copytree(world.store, elsewhere)
    attributes = elsewhere / "zarr.json"
    attributes.write_text(attributes.read_text().replace(str(world.manifest), "/gone/m.jsonl"))
    result = examining(good, on=elsewhere, baselines=True)
    assert list(result.comparison.scores) == ["good/voice", "median"]
    assert "ridge baselines are left out: they need the corpus' audio" in result.warnings
    assert "not measured" in result.comparison.facts["good/voice"].details["encoder"]
    assert "cannot be opened" in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_versions(good: Path, poor: Path, empty_tracking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a registry with a poor champion and a good candidate; not to be changed, nor its files."""
    runs = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_tracking, runs / "mlflow.db")
    assert [register(poor, runs), register(good, runs)] == [1, 2]
    return runs / "mlflow.db"


@pytest.fixture
def registered(two_versions: Path, runs: Path) -> Path:
    shutil.copy(two_versions, runs / "mlflow.db")
    return runs


def test_the_challenger_is_promoted_by_the_rule_and_versions_show_it(
    registered: Path, comparing: Compare, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = default_uri(registered)
    result = comparing("candidate", promote=True)
    assert (result.promoted, [model.version for model in result.models]) == (True, [2, 1])
    assert "version 2 is @champion now, in place of 1" in result.decision[-1]
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
    assert result.decision[-1] == "version 2 stays @champion"


def test_a_forced_comparison_promotes_nobody(registered: Path, flags_of: Callable[..., CompareArguments]) -> None:
    compared, challenge = compare.examine(flags_of("2", promote=True, force=True, split="train"))
    assert challenge is not None
    verdict = verdict_of(challenge, compared, 0.05)
    assert (verdict.promote, verdict.reasons[0].rpartition(": ")[2]) == (False, "it proves nothing")


def test_what_is_not_known_is_said_beside_the_verdict(
    registered: Path, world: World, flags_of: Callable[..., CompareArguments]
) -> None:
    register(world.voice(registered / "unknown", 1.0, targets=("anger",), origin=False), registered)
    compared, challenge = compare.examine(flags_of("3", promote=True))
    assert challenge is not None
    verdict = verdict_of(challenge, compared, 0.05)
    assert not verdict.promote
    assert "has no expert for what v1 @champion scores: fear" in verdict.reasons[0]
    assert verdict.reasons[-1] == "that v3 @candidate was not trained on these clips is not known"


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    registered: Path, flags_of: Callable[..., CompareArguments], good: Path
) -> None:
    uri = default_uri(registered)
    assert register(good, registered) == 3
    arguments = flags_of("2", promote=True)
    compared, challenge = compare.examine(arguments)
    assert challenge is not None
    promote(version_of(VOICE, 3, uri), uri, registered, expected=1, why="another comparison")
    promoted, decision = carry_out(challenge, verdict_of(challenge, compared, 0.05), arguments, uri, "0" * 32)
    assert not promoted
    moved = "@champion has moved meanwhile; nothing was changed: version 3 is champion in place of 1"
    assert decision[-1] == f"{moved}; compare with that one"
    champion = find(VOICE, CHAMPION, uri)
    assert champion is not None
    assert (champion.version, champion.former) == (3, (1,))


def test_only_registered_versions_can_be_promoted(registered: Path, examining: Examine, good: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)only a registered version can be promoted.*found: .*good/voice"):
        examining(good, promote=True)


def test_models_are_named_in_many_ways(registered: Path, examining: Examine) -> None:
    run_id = version_of(VOICE, 2, default_uri(registered)).run_id
    for name in ("models:/emonet-voice/2", "@candidate", run_id, f"runs:/{run_id}/voice"):
        assert [model.label for model in examining(name).models] == ["v2 @candidate"]


def test_a_version_whose_files_were_deleted_says_so(registered: Path, examining: Examine, good: Path) -> None:
    assert register(good, registered) == 3
    source = version_of(VOICE, 3, default_uri(registered)).source
    shutil.rmtree(source.removeprefix("file://"))
    with pytest.raises(RequestError, match="its files are gone or cannot be read"):
        examining("3")


def test_what_was_computed_is_kept_when_the_server_is_gone(
    comparing: Compare, good: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "mlflow.db").write_text("this is no database")
    with pytest.raises(EmonetError, match="tracking server cannot be used"):
        comparing(good)
    assert "the comparison itself is done and lies in" in capsys.readouterr().err
    assert list((runs / "compare").glob("*/index.html"))


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


def test_what_cannot_be_logged_lies_on_disk_all_the_same(comparing: Compare, good: Path, runs: Path) -> None:
    (runs / "mlartifacts").write_text("in the way")
    with pytest.raises(EmonetError, match=r"(?s)is done, but it could not be logged.*its files lie in .*compare/"):
        comparing(good)
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
    assert [one.version for one in versions(VOICE, uri)] == [4, 2, 1]
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
