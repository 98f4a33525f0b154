from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emonet.clips import Rejection
from emonet.configs import ExtractionConfig
from emonet.errors import EmonetError, RequestError
from experiments import extract, store
from experiments.config import Experiment


@pytest.fixture
def experiment(tmp_path: Path, runs: Path, make_wav: Callable[..., Path]) -> Experiment:
    """Four recordings in a manifest, one of them broken, and an encoder of 1 s in a folder."""
    rows = []
    for row, split in enumerate(("train", "train", "validation", "test")):
        path = make_wav(f"{row}.wav", seconds=0.5, hertz=150 + 40 * row)
        rows.append({"audio": str(path), "speaker": split, "split": split, "anger": row})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64, max_source_positions=50
    )
    WhisperEncoder(config).save_pretrained(tmp_path / "encoder")
    extraction = ExtractionConfig(captioner=str(tmp_path / "encoder"), batch_size=2, shard_clips=2, workers=1)
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
    folder = Path(str(experiment.extraction.captioner))
    module = WhisperEncoder.from_pretrained(folder)
    with torch.no_grad():
        module.layer_norm.bias.add_(0.5)
    module.save_pretrained(folder)
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
    assert "ended early cuda:1: ended" in shown


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
    assert "a process on each of cpu, cpu" in capsys.readouterr().err
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
