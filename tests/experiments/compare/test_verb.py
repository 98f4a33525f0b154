from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from cache.extraction import extract
from cache.store import FeatureStore
from emonet.configs import ExtractionConfig
from emonet.corpora import open_corpus
from emonet.encoders import FrozenEncoder
from emonet.errors import RequestError
from emonet.tracking import default_uri, lineage
from experiments.compare import verb as compare
from experiments.compare.report import dataset_of
from experiments.compare.states import STATES
from tests.experiments.compare.fixtures import Compare, Examine
from tests.experiments.model_registry import World

pytestmark = pytest.mark.numeric


def test_two_folders_on_a_store(
    comparing: Compare, good: Path, poor: Path, runs: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    result = comparing(good, poor, baselines=True)
    assert (world.store.parent / "baselines" / "mel-1s.npz").is_file(), "features are kept beside the store"
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
    monkeypatch.setattr("emonet.training.free_bytes", lambda device: 0)
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


@pytest.fixture(scope="module")
def pooled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pooled store of the world's corpus by its first encoder."""
    path = tmp_path_factory.mktemp("pooled") / "pooled.zarr"
    config, first = ExtractionConfig(pool="statistics", workers=1), world.encoder("first")
    extract(open_corpus(world.spec), FrozenEncoder.load(str(first)), path, config, source=str(first))
    return path


def test_a_pooled_store_serves_experts_on_statistics(
    examining: Examine, world: World, pooled: Path, tmp_path: Path, runs: Path
) -> None:
    voice = world.voice(tmp_path / "a", None, pool_over="speech")
    found, full = (examining(voice, on=on).comparison.scores["a/voice"].mae for on in (pooled, world.store))
    assert not (runs / STATES).exists()
    for target in ("anger", "fear"):
        assert found.per_target[target].value == pytest.approx(full.per_target[target].value, abs=0.02)
    assert found != full, "statistics are kept in float16"
    assert examining(voice, on=world.spec).comparison.scores["a/voice"].mae == found
    (kept,) = (runs / STATES).glob("*.zarr")
    assert FeatureStore.open(kept).pooled, "statistics are all that it needs"


@pytest.mark.parametrize(
    "other", [{"form": "flatten"}, {"form": "attention"}, {"pool_over": "all"}], ids=["flatten", "attention", "all"]
)
@pytest.mark.slow
def test_a_pooled_store_is_not_taken_where_a_model_of_its_encoder_needs_states(
    examining: Examine, world: World, pooled: Path, tmp_path: Path, runs: Path, other: dict[str, str]
) -> None:
    heard = world.voice(tmp_path / "a", None, pool_over="speech")
    needy = world.voice(tmp_path / "b", None, **other)  # type: ignore[arg-type]
    examining(heard, on=world.spec)  # leaves a pooled store of a comparison's own
    found = examining(heard, needy, on=pooled).comparison.scores
    assert sorted(FeatureStore.open(path).pooled for path in (runs / STATES).glob("*.zarr")) == [False, True]
    assert found == examining(heard, needy, on=world.store).comparison.scores


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


def test_a_store_that_an_experiment_has_elsewhere_serves_its_corpus_too(
    examining: Examine, world: World, good: Path, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(world.store, tmp_path / "disk" / "mini.zarr")
    for name, told in [
        ("mini", json.dumps({"store": str(tmp_path / "disk" / "mini.zarr")})),
        ("gone", json.dumps({"store": str(tmp_path / "gone.zarr")})),
        ("odd", '["no result"]'),
        ("cut", '{"store"'),
    ]:
        (runs / name).mkdir()
        (runs / name / "extract.json").write_text(told)
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
    renamed = clips.assign(id="other/" + clips["id"], split="train")
    lineage.write(voice, world.lineage(clips, "e" * 64), renamed)
    with pytest.raises(RequestError, match=r"trained on 18 of these clips"):  # known by their sound
        examining(voice, poor)
    lineage.write(voice, world.lineage(clips, "e" * 64), renamed.drop(columns="sound_digest"))  # as older models are
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
    assert dataset_of(result) == "manifest m.jsonl test 1 of 2 targets", "no mean over one beside one over both"
    assert dataset_of(examining(good)) == "manifest m.jsonl test"
    assert "left out, since one/voice has no expert for it: 1 target (fear)" in result.warnings
    other = world.voice(tmp_path / "other", 1.0, targets=("awe",))
    with pytest.raises(
        RequestError, match=r"(?s)no target that every model scores.*2 targets \(fear 0 to 4, anger 0 to 4\)"
    ):
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
        (("{good}",), {"targets": "classes", "labels": Path("x.yaml")}, "labels stand for targets by a file, or are"),
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
