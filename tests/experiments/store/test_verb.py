from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cache.extraction import extract
from cache.maintenance import RepairReport, describe, verify
from cache.store import FeatureStore, marker_file, shard_file
from emonet.clips import Rejection
from emonet.configs import ExtractionConfig
from emonet.corpora import open_corpus
from emonet.encoders import FrozenEncoder
from experiments.cli import main
from experiments.store import verb as store
from tests.tiny import write_encoder


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of six tones and a silence, an encoder of 1 s, and `s.zarr` in three shards."""
    folder = tmp_path_factory.mktemp("extracted")
    rows = []
    for row, split in enumerate(("train", "train", "validation", "test", "train", "test", "test")):
        time = np.arange(round((0.4 + 0.1 * row) * 16_000)) / 16_000
        loudness = 0.0 if row == 3 else 0.3  # digital silence is refused when it is decoded
        sf.write(folder / f"{row}.wav", loudness * np.sin(2 * np.pi * (150 + 40 * row) * time), 16_000)
        rows.append({"id": f"t/{row}", "audio": f"{row}.wav", "speaker": f"s{row}", "split": split, "anger": row % 5})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_encoder(folder / "encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        encoder = FrozenEncoder.load("./encoder")
        settings = ExtractionConfig(batch_size=2, shard_clips=3, workers=1)
        extract(open_corpus("manifest:m.jsonl"), encoder, Path("s.zarr"), settings, source="./encoder")
    return folder


@pytest.fixture
def folder(extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, which is the working folder."""
    copy = tmp_path / "copy"
    shutil.copytree(extracted, copy)
    monkeypatch.chdir(copy)
    return copy


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return " ".join(err.split())


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def test_info_tells_what_a_store_is_made_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", "s.zarr"]) == 0
    shown = said(capsys)
    fingerprint = describe(folder / "s.zarr").fingerprint
    for line in (
        "corpus manifest:m.jsonl",
        "encoder ./encoder",
        "2 clips a pass",
        "7 clips x 50 states of 20 ms x 32",
        "codec lossless",
        "clips train 3, validation 1, test 3",
        "speakers 7",
        "no states 1 clip ",
        "targets 40, rated: anger",
        "finished yes, in 3 shards",
        f"fingerprint {fingerprint}",
    ):
        assert line in shown
    assert "errors" not in shown


@pytest.mark.usefixtures("folder")
def test_info_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", "s.zarr", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["finished"], found["shards"], found["clips"], found["failed"]) == (True, 3, 7, 1)
    assert found["splits"] == {"train": 3, "validation": 1, "test": 3}
    assert found["rated"] == {"anger": 7}
    assert found["bytes_raw"] == 6 * 50 * 32 * 2
    assert found["bytes_stored"] == sum(shard_file(Path("s.zarr"), shard).stat().st_size for shard in range(3))
    assert found["share"] == pytest.approx(found["bytes_stored"] / found["bytes_raw"])
    assert found["hours"] == pytest.approx(sum((0.4, 0.5, 0.6, 0.8, 0.9, 1.0)) / 3600, rel=1e-3)
    assert found["record"]["clips"] == 7


@pytest.mark.usefixtures("folder")
def test_info_reads_no_chunk_and_takes_unfinished_stores(capsys: pytest.CaptureFixture[str]) -> None:
    for shard in range(3):
        shard_file(Path("s.zarr"), shard).unlink()
    assert main(["store", "info", "s.zarr"]) == 0
    assert "finished yes" in said(capsys)
    marker_file(Path("s.zarr"), 0).unlink()
    Path("s.zarr/clips.parquet").unlink()
    assert main(["store", "info", "s.zarr"]) == 0
    assert "finished no: 2 of 3 shards, 4 of 7 clips are there" in said(capsys)
    assert main(["store", "info", "s.zarr", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["splits"], found["speakers"], found["fingerprint"]) == ({}, None, None)


def test_info_of_a_lossy_store(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "data" / "golden-store" / "v2" / "int8.zarr"
    assert main(["store", "info", str(path)]) == 0
    shown = said(capsys)
    assert "codec int8" in shown
    assert "errors largest 0.197, RMS 0.32% of the states'" in shown
    assert str(FeatureStore.open(path).fingerprint) in shown
    assert main(["store", "info", str(path.with_name("speech.zarr"))]) == 0
    assert "only states that hear the clip are kept" in said(capsys)


@pytest.mark.usefixtures("folder")
def test_verify_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", "s.zarr"]) == 0
    assert "whole; --deep reads every chunk back" in said(capsys)
    flip(shard_file(Path("s.zarr"), 1), 30)
    assert main(["store", "verify", "s.zarr"]) == 0
    said(capsys)
    assert main(["store", "verify", "s.zarr", "--deep"]) == 1
    shown = said(capsys)
    assert "problem the states of clip" in shown
    assert "try: emonet store repair s.zarr" in shown
    assert "no states t/3: " in shown
    assert main(["store", "verify", "s.zarr", "--deep", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["damaged"] == [1]


@pytest.mark.usefixtures("folder")
def test_verify_of_a_store_without_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.zarr/clips.parquet").unlink()
    assert main(["store", "verify", "s.zarr"]) == 1
    shown = said(capsys)
    assert "the table of clips is missing, though every shard is there" in shown
    assert "try: emonet store repair s.zarr" in shown
    marker_file(Path("s.zarr"), 0).unlink()
    assert main(["store", "verify", "s.zarr"]) == 2
    assert "did not finish" in said(capsys)
    assert main(["store", "verify", "nothing.zarr"]) == 2
    assert "there is no feature store" in said(capsys)


@pytest.mark.usefixtures("folder")
def test_repair_extracts_what_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "repair", "s.zarr"]) == 0
    assert "whole: every chunk was read back; nothing was changed" in said(capsys)
    before = shard_file(Path("s.zarr"), 1).read_bytes()
    flip(shard_file(Path("s.zarr"), 1), 30)
    assert main(["store", "repair", "s.zarr"]) == 0
    shown = said(capsys)
    assert "was wrong the states of clip 't/4' cannot be read" in shown
    assert "extracted again: 3 clips (shards 1)" in shown
    assert "no states t/3: " in shown
    assert "whole: every chunk was read back" in shown
    assert shard_file(Path("s.zarr"), 1).read_bytes() == before
    shard_file(Path("s.zarr"), 2).unlink()
    assert main(["store", "repair", "s.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"] == [2]


@pytest.fixture
def pooled(folder: Path) -> Path:
    """A pooled store of two layers and a shorter window in the working folder."""
    write_encoder(folder / "deep", encoder_layers=2)
    encoder = FrozenEncoder.load("./deep", layers="all", window_seconds=0.6)
    settings = ExtractionConfig(batch_size=2, shard_clips=3, workers=1, pool="statistics")
    extract(open_corpus("manifest:m.jsonl"), encoder, Path("p.zarr"), settings, source="./deep")
    return folder / "p.zarr"


def test_a_pooled_store_is_repaired_with_its_layers_and_window(
    pooled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shard_file(pooled, 1).read_bytes()
    flip(shard_file(pooled, 1), 30)
    assert main(["store", "verify", "p.zarr", "--deep"]) == 1
    assert "p.zarr: 7 clips x 4 statistics x 64 of manifest:m.jsonl, 1 without states" in said(capsys)
    assert main(["store", "repair", "p.zarr"]) == 0
    shown = said(capsys)
    assert "extracted again: 3 clips (shards 1)" in shown
    assert "the same bits" not in shown
    assert shard_file(pooled, 1).read_bytes() == before


@pytest.mark.usefixtures("pooled")
def test_a_pooled_store_is_exported_as_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "export", "p.zarr", "out", "--format", "npy", "--split", "test"]) == 0
    assert "out: 2 clips x 4 statistics x 64, float16, in states.npy" in said(capsys)


def test_repair_from_another_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "s.zarr"
    flip(shard_file(path, 0), 30)
    damaged = shard_file(path, 0).read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main(["store", "repair", str(path)]) == 2
    shown = said(capsys)
    assert "the corpus that this store was made from cannot be opened" in shown
    assert "where: manifest:m.jsonl" in shown
    assert f"found: working folder {tmp_path}" in shown
    assert "try: --corpus SPEC if it lies elsewhere now" in shown

    corpus = f"--corpus=manifest:{folder / 'm.jsonl'}"
    assert main(["store", "repair", str(path), corpus]) == 2
    shown = said(capsys)
    assert "the captioner that this store was made from cannot be opened" in shown
    assert "--captioner SOURCE" in shown
    assert shard_file(path, 0).read_bytes() == damaged

    assert main(["store", "repair", str(path), "--corpus", "manifest:none.jsonl"]) == 2
    assert "made from" not in said(capsys)
    assert main(["store", "repair", str(path), corpus, "--captioner", "./none"]) == 2
    assert "there is no such captioner" in said(capsys)
    assert main(["store", "repair", str(path), corpus, "--captioner", str(folder / "encoder")]) == 0
    assert "shards 0" in said(capsys)


def test_repair_with_another_corpus_or_encoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(shard_file(Path("s.zarr"), 0), 30)
    lines = (folder / "m.jsonl").read_text().splitlines(keepends=True)
    (folder / "less.jsonl").write_text("".join(lines[:-1]))
    assert main(["store", "repair", "s.zarr", "--corpus", "manifest:less.jsonl"]) == 2
    assert "clips: the store has 7, wanted 6" in said(capsys)
    write_encoder(folder / "encoder", seed=1)
    assert main(["store", "repair", "s.zarr"]) == 2
    assert "encoder_digest: the store has" in said(capsys)


@pytest.mark.parametrize("named", [(), ("--captioner", "./encoder")])
def test_repair_with_an_encoder_that_hears_less(
    folder: Path, named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    flip(shard_file(Path("s.zarr"), 0), 30)
    write_encoder(folder / "encoder", max_source_positions=40)
    assert main(["store", "repair", "s.zarr", *named]) == 2
    shown = said(capsys)
    assert "this store was made from the states of another encoder" in shown
    assert "expected: the last layer and a window of 1 s" in shown
    assert "found: a window of up to 0.8 s" in shown
    assert "give the captioner that the store was extracted with" in shown
    assert "--extraction" not in shown


def test_what_could_not_be_repaired_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = RepairReport(
        store=Path("s.zarr"),
        problems=("p",),
        shards=(0, 2),
        clips=("a", "b"),
        failures=(),
        different=(2,),
        remaining=("still",),
        fingerprint="f",
    )
    assert report.exit_code == 1
    store.show_repair(report)
    shown = said(capsys)
    assert "extracted again: 2 clips (shards 0, 2)" in shown
    assert "shards 2 do not hold the same bits as before" in shown
    assert "problem still" in shown
    assert "whole" not in shown


@pytest.mark.usefixtures("folder")
def test_export(capsys: pytest.CaptureFixture[str]) -> None:
    whole = FeatureStore.open("s.zarr")
    assert main(["store", "export", "s.zarr", "out", "--format", "npy", "--split", "test"]) == 0
    shown = said(capsys)
    assert "out: 2 clips x 50 states x 32, float16, in states.npy" in shown
    assert "left out t/3: " in shown
    np.testing.assert_array_equal(np.load("out/states.npy", mmap_mode="r"), whole.read(whole.rows("test")))
    assert main(["store", "export", "s.zarr", "out"]) == 2
    assert "--force to replace it" in said(capsys)
    assert main(["store", "export", "s.zarr", "out", "--force", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["format"], report["files"]) == ("safetensors", ["states-00000-of-00001.safetensors"])
    assert main(["store", "export", "s.zarr", "out", "--format", "csv"]) == 2


@pytest.mark.usefixtures("folder")
def test_export_of_a_damaged_store(capsys: pytest.CaptureFixture[str]) -> None:
    flip(shard_file(Path("s.zarr"), 1), 30)
    assert main(["store", "export", "s.zarr", "out"]) == 1
    assert "try: emonet store repair s.zarr" in said(capsys)
    assert not Path("out").exists()


@pytest.mark.usefixtures("folder")
def test_long_lists_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    failures = tuple(Rejection(f"c/[{row}]", "0 bytes") for row in range(12))
    store.show_verify(verify(Path("s.zarr")).model_copy(update={"failures": failures}))
    shown = said(capsys)
    assert "no states c/[9]: 0 bytes ... and 2 more; --json lists all" in shown
    assert "c/[10]" not in shown


@pytest.mark.usefixtures("folder")
def test_a_store_without_its_table_is_sent_to_repair_which_says_what_it_wrote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("s.zarr/clips.parquet").unlink()
    assert main(["store", "info", "s.zarr"]) == 0
    missing = "finished no: the table of clips is missing, though every shard is there: emonet store repair s.zarr"
    assert missing in said(capsys)
    assert main(["store", "repair", "s.zarr"]) == 0
    shown = said(capsys)
    assert "s.zarr: written again: clips.parquet" in shown
    assert "0 clips" not in shown
    Path("s.zarr/states/zarr.json").write_text("{")
    Path("s.zarr/x.partial").touch()
    assert main(["store", "repair", "s.zarr"]) == 0
    assert "s.zarr: written again: states/zarr.json; removed: x.partial" in said(capsys)


@pytest.mark.parametrize("verb", ["info", "verify", "repair"])
def test_what_is_no_store_is_never_to_be_removed(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.zarr").rename("store.zarr")
    assert main(["store", verb, "encoder"]) == 2
    shown = said(capsys)
    assert "there is no feature store" in shown
    assert "did you mean store.zarr?" in shown
    assert main(["store", verb, "m.jsonl"]) == 2
    assert "found: a file" in said(capsys)
    (folder / "store.zarr" / "zarr.json").unlink()
    assert main(["store", verb, "store.zarr"]) == 1
    shown = said(capsys)
    assert "the store's zarr.json is missing" in shown
    assert "states, shards, clips.parquet are still there" in shown
    assert "remove" not in shown


def test_a_copy_that_was_there_is_not_called_read_back(
    extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["store", "copy", str(extracted / "s.zarr"), str(tmp_path / "copy.zarr")]
    assert main(command) == 0
    assert "whole: every shard was read back" in capsys.readouterr().err
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "nothing to copy: markers and sizes are right" in told
    assert "read back" not in told
