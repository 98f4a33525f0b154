from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cache.store import FeatureStore, shard_file
from emonet.audio import decode, pad
from emonet.clips import Rejection
from emonet.configs import ExtractionConfig
from emonet.encoders import FrozenEncoder, Padded, open_encoder
from emonet.errors import EmonetError, RequestError
from experiments import extract
from experiments.cli import main
from experiments.core import Experiment
from experiments.store import verb as store
from tests.media_files import media_file
from tests.tiny import write_encoder, write_wav2vec2


@pytest.fixture
def experiment(tmp_path: Path, runs: Path, make_wav: Callable[..., Path]) -> Experiment:
    """Four recordings in a manifest, one of them broken, and an encoder of 1 s in a folder."""
    rows = []
    for row, split in enumerate(("train", "train", "validation", "test")):
        path = make_wav(f"{row}.wav", seconds=0.5, hertz=150 + 40 * row)
        rows.append({"audio": str(path), "speaker": split, "split": split, "anger": row})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = write_encoder(tmp_path / "encoder")
    extraction = ExtractionConfig(captioner=str(encoder), batch_size=2, shard_clips=2, workers=1)
    return Experiment(name="mini", corpus=f"manifest:{manifest}", runs=runs, extraction=extraction)


def test_extract_then_again_then_verify(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(experiment)
    assert (result.stage, result.clips, result.failed, result.shape) == ("extract", 4, 0, (4, 50, 32))
    written = json.loads((experiment.folder / "extract.json").read_text())
    assert written["fingerprint"] == result.fingerprint
    extract.show(result)
    assert extract.run(experiment) == result
    assert "up to date" in capsys.readouterr().err

    report = store.verify(SimpleNamespace(store=result.store, deep=True))
    assert report.exit_code == 0
    store.show_verify(report)
    assert "every chunk was read back" in capsys.readouterr().err


def test_other_weights_need_force(experiment: Experiment) -> None:
    before = extract.run(experiment)
    write_encoder(Path(str(experiment.extraction.captioner)), seed=1)
    with pytest.raises(RequestError, match=r"(?s)encoder_digest: the store has .*--force"):
        extract.run(experiment)
    assert extract.ExtractResult.model_validate_json((experiment.folder / "extract.json").read_text()) == before
    forced = experiment.model_validate({**experiment.model_dump(), "force": True})
    assert extract.run(forced).fingerprint != before.fingerprint


def test_without_a_captioner_it_says_to_pretrain(runs: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no trained captioner yet.*emonet pretrain, with the same"):
        extract.run(Experiment(name="mini", runs=runs))


def test_problems_and_failures_are_shown(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(experiment)
    (result.store / "shards" / "00001.json").unlink()
    report = store.verify(SimpleNamespace(store=result.store, deep=False))
    assert report.exit_code == 1
    store.show_verify(report)
    assert "marker of shard 1 cannot be read" in capsys.readouterr().err
    assert extract.run(experiment).fingerprint == result.fingerprint  # makes that shard anew
    assert store.verify(SimpleNamespace(store=result.store, deep=True)).exit_code == 0
    failures = tuple(Rejection(f"c/{row}", "0 bytes") for row in range(12))
    extract.show(result.model_copy(update={"failures": failures, "failed": 12}))
    shown = capsys.readouterr().err
    assert "c/9: 0 bytes" in shown
    assert "and 2 more" in shown


def changed(experiment: Experiment, **extraction: Any) -> Experiment:
    values = experiment.model_dump()
    return Experiment.model_validate(values | {"extraction": values["extraction"] | extraction})


def forced(experiment: Experiment, **extraction: Any) -> Experiment:
    return Experiment.model_validate(changed(experiment, **extraction).model_dump() | {"force": True})


@pytest.mark.parametrize("devices", [["foo"], ["cuda:99"], ["cpu", "cuda:99"]])
def test_a_request_that_cannot_work_leaves_the_former_result(experiment: Experiment, devices: list[str]) -> None:
    before = extract.run(experiment)
    with pytest.raises(RequestError, match=rf"(?s)no such device.*one of cpu.*found: +{devices[-1]}") as refused:
        extract.run(forced(experiment, devices=devices))
    assert refused.value.exit_code == 2
    assert extract.run(experiment) == before


def test_weights_that_cannot_be_read_leave_the_former_result(experiment: Experiment) -> None:
    before = extract.run(experiment)
    weights = Path(str(experiment.extraction.captioner)) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(RequestError, match="the encoder of this captioner cannot be loaded"):
        extract.run(forced(experiment))
    weights.write_bytes(content)
    assert extract.run(experiment) == before


def test_a_part_that_is_to_start_anew_leaves_the_former_result(experiment: Experiment) -> None:
    before = extract.run(experiment)
    with pytest.raises(RequestError, match=r"(?s)parts of a job array cannot each start anew.*without --force"):
        extract.run(forced(experiment, num_shards=2))
    assert extract.run(experiment) == before


def test_the_former_result_goes_when_its_store_does(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    extract.run(experiment)

    def stop(path: Path) -> None:
        raise EmonetError("stopped")

    monkeypatch.setattr(extract, "_check", stop)
    with pytest.raises(EmonetError, match="stopped"):
        extract.run(forced(experiment))
    assert not (experiment.folder / "extract.json").exists()


def test_the_figures_of_a_run_are_written_and_shown(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(changed(experiment, codec="int8"))
    assert result.complete
    assert (result.codec, result.batch_size, result.workers, result.lost) == ("int8", 2, 1, ())
    assert 0 < result.rms_error < 0.02
    assert 0 < result.encoder_share <= 1
    assert result.encoder_tflops > 0
    assert result.megabytes_per_second > 0
    written = json.loads((experiment.folder / "extract.json").read_text())
    assert written["encoder_share"] == result.encoder_share
    extract.show(result.model_copy(update={"lost": ("cuda:1: ended",)}))
    shown = capsys.readouterr().err
    assert "MB stored as int8" in shown
    assert "% of the states' RMS" in shown
    assert re.search(r"encoder [\d.e-]+ TFLOP/s in (bf16|float32), at work \d+ % of the time", shown)
    assert "lost cuda:1: ended" in shown


def test_parts_of_a_job_array_complete_one_store(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    first = extract.run(changed(experiment, num_shards=2, shard_index=1))
    assert not first.complete
    assert not (experiment.folder / "extract.json").exists()
    extract.show(first)
    shown = capsys.readouterr().err
    assert "this part is done, the store is not: 2 of 4 clips are there" in shown
    assert "extract.json is written when all are done" in shown
    last = extract.run(changed(experiment, num_shards=2, shard_index=0))
    assert last.complete
    assert (experiment.folder / "extract.json").is_file()
    assert extract.run(experiment) == last  # one process alone would have made the same


def test_what_does_not_change_the_bytes_does_not_run_it_again(experiment: Experiment) -> None:
    result = extract.run(experiment)
    other = changed(experiment, workers=2, decode_timeout=5, max_failed=1, num_shards=3, shard_index=2, devices=["cpu"])
    assert extract.run(other) == result
    with pytest.raises(RequestError, match=r"(?s)codec: the store has lossless, wanted bfloat.*--force"):
        extract.run(changed(experiment, codec="bfloat"))


@pytest.mark.slow
def test_one_process_on_each_device(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(changed(experiment, devices=["cpu", "cpu"]))
    assert (result.complete, result.workers, result.lost) == (True, 2, ())
    assert "a worker on each of cpu, cpu" in capsys.readouterr().err
    assert store.verify(SimpleNamespace(store=result.store, deep=True)).exit_code == 0


@pytest.mark.slow
def test_commands_at_once_join_in_one_extraction(experiment: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "mini.yaml"
    file.write_text(json.dumps(experiment.model_dump(mode="json", exclude={"force"})))
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", "extract", "--experiment", str(file), "--json"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = []
    for command in commands:
        out, err = command.communicate()
        assert command.returncode == 0, err
        results.append(json.loads(out))
    assert results[0]["fingerprint"] == results[1]["fingerprint"]
    assert all(result["complete"] for result in results)
    assert (experiment.folder / "extract.json").is_file()


def test_the_verbs_import_nothing_heavy() -> None:
    heavy = "{'torch', 'zarr', 'pandas', 'transformers', 'mlflow', 'lightning'}"
    code = f"import sys, experiments.extract, experiments.store, emonet.audio; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_damaged_store_is_not_up_to_date(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(experiment)
    (result.store / ".zarr.json.1.partial").touch()  # another process' own affair
    assert extract.run(experiment) == result
    shards = [shard_file(result.store, shard).read_bytes() for shard in range(2)]
    for shard in range(2):
        shard_file(result.store, shard).unlink()
    message = (
        r"(?s)the store is not whole\n    - shard 0 .* is missing.*\n    - shard 1 .* is missing.*"
        rf"try: +emonet store repair {result.store}"
    )
    with pytest.raises(EmonetError, match=message) as told:
        extract.run(experiment)
    assert told.value.exit_code == 1
    for shard in range(2):
        shard_file(result.store, shard).write_bytes(shards[shard])
    table = result.store / "clips.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    capsys.readouterr()
    with pytest.raises(EmonetError, match=r"(?s)the table of clips is damaged.*emonet store repair"):
        extract.run(experiment)
    assert "up to date" not in capsys.readouterr().err


def test_a_store_that_has_lost_its_attributes_is_made_anew_with_force(experiment: Experiment) -> None:
    result = extract.run(experiment)
    (result.store / "zarr.json").unlink()
    with pytest.raises(EmonetError, match=r"(?s)zarr\.json is missing.*emonet extract --force with the same flags"):
        extract.run(experiment)
    assert extract.run(forced(experiment)).fingerprint == result.fingerprint


def test_recordings_left_out_of_the_corpus_are_told_and_kept(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    for name in ("empty", "nothing"):
        (tmp_path / f"{name}.wav").write_bytes(b"")
        row = {"audio": f"{name}.wav", "speaker": "train", "split": "train", "anger": 1}
        manifest.write_text(manifest.read_text() + json.dumps(row) + "\n")
        result = extract.run(forced(experiment))
    assert result.rejected == {"empty.wav": "0 bytes", "nothing.wav": "0 bytes"}
    assert json.loads((experiment.folder / "extract.json").read_text())["rejected"] == result.rejected
    shown = capsys.readouterr().err
    assert f"1 recording of the corpus was left out (emonet corpus manifest:{manifest} lists it)" in shown
    assert f"2 recordings of the corpus were left out (emonet corpus manifest:{manifest} lists them)" in shown


def test_what_is_lost_in_silence_is_not_the_codecs(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(changed(experiment, frames="speech"))
    assert result.kept == "speech"
    extract.show(result)
    shown = capsys.readouterr().err
    assert "stored as lossless, frames: speech (" in shown
    assert "  lost where only silence is heard: " in shown
    assert main(["store", "info", str(result.store)]) == 0
    assert "of the states': lost where only silence is heard" in capsys.readouterr().err
    assert extract.lost_where("int8", "all") == "lost by the codec"
    assert extract.lost_where("int8", "speech") == "lost by the codec and where only silence is heard"


def test_the_window_auto_is_as_long_as_the_clips(
    experiment: Experiment, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_encoder(Path(str(experiment.extraction.captioner)), max_source_positions=150)  # of 3 s
    make_wav("3.wav", seconds=1.2)
    result = extract.run(changed(experiment, window_seconds="auto"))
    assert "window: 2 s, from the lengths of 4 clips" in capsys.readouterr().err
    assert result.shape == (4, 100, 32)
    assert FeatureStore.open(result.store).record.window_seconds == 2.0
    assert extract.run(changed(experiment, window_seconds="auto")) == result
    assert extract.run(changed(experiment, window_seconds=2.0)) == result, "what it came to is what counts"
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"(?s)window_seconds: the store has 2.0, wanted 3.0"):
        extract.run(experiment)


def test_a_run_that_goes_on_says_what_was_there(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    first = extract.run(experiment)
    assert (first.shards, first.resumed, first.extracted) == (2, 0, 4)
    extract.show(first)
    shown = capsys.readouterr().err
    assert "resumed" not in shown
    assert "this run did" not in shown
    (first.store / "shards" / "00001.json").unlink()
    second = extract.run(experiment)
    assert (second.resumed, second.extracted, second.fingerprint) == (1, 2, first.fingerprint)
    extract.show(second)
    shown = capsys.readouterr().err
    assert "resumed: 1 of 2 shards were there" in shown
    assert "this run did 2 of 4 clips" in shown


def test_the_last_layer_is_refused_where_it_was_not_kept(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_encoder(tmp_path / "whole", encoder_layers=3)
    FrozenEncoder.load(str(whole), layers=(1, 2)).save(tmp_path / "kept")
    kept = changed(experiment, captioner=str(tmp_path / "kept"))
    message = (
        r"(?s)no such layer.*1 to 2 \(of 3; the others were not kept\).*found: +last.*--extraction\.layers 1 2 takes"
    )
    with pytest.raises(RequestError, match=message):
        extract.run(kept)
    assert extract.run(changed(kept, layers=(1, 2))).shape == (4, 50, 64)
    assert ", layers 1 2, " in capsys.readouterr().err


def test_a_wav2vec2_in_place_of_a_whisper(experiment: Experiment, tmp_path: Path) -> None:
    folder = write_wav2vec2(tmp_path / "wav2vec2")
    one = changed(experiment, captioner=str(folder), layers="middle", window_seconds="auto", precision="float32")
    result = extract.run(one)
    assert (result.shape, result.failed, result.precision) == ((4, 49, 48), 0, "float32")  # 3 layers of width 16
    stored = FeatureStore.open(result.store)
    assert (stored.record.layers, stored.record.mels, stored.record.window_seconds) == ((1, 2, 3), 0, 1.0)
    assert store.verify(SimpleNamespace(store=result.store, deep=True)).exit_code == 0
    encoder = open_encoder(str(folder), layers="all", window_seconds=1.0, precision="float32", device="cpu")
    assert stored.record.encoder_digest == encoder.digest
    sound = decode(tmp_path / "0.wav", seconds=1.0).samples
    assert len(sound) == 8000  # its padding is masked
    expected = encoder.states(Padded(pad([sound], encoder.window), [8000]))[0]
    torch.testing.assert_close(torch.from_numpy(stored.read([0])[0]), expected, atol=2e-3, rtol=2e-3)


def test_clips_in_containers_are_extracted_as_others(experiment: Experiment, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    for row, (suffix, form, codec) in enumerate((("m4a", "ipod", "alac"), ("webm", "webm", "libopus"))):
        path = tmp_path / f"{row}.{suffix}"
        path.write_bytes(media_file(sound, 48_000 if codec == "libopus" else 16_000, form, codec))
        rows[row]["audio"] = path.name
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (extract.run(experiment).clips, extract.run(experiment).failed) == (4, 0)
