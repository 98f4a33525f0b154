from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emonet.clips import Rejection
from emonet.configs import ExtractionConfig
from emonet.errors import RequestError
from experiments import extract, verify
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
    extraction = ExtractionConfig(captioner=str(tmp_path / "encoder"), batch_size=2, shard_clips=2)
    return Experiment(name="mini", corpus=f"manifest:{manifest}", runs=runs, extraction=extraction)


def test_extract_then_again_then_verify(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = extract.run(experiment)
    assert (result.stage, result.clips, result.failed, result.shape) == ("extract", 4, 0, (4, 50, 32))
    written = json.loads((experiment.folder / "extract.json").read_text())
    assert written["fingerprint"] == result.fingerprint
    extract.show(result)
    assert extract.run(experiment) == result
    assert "up to date" in capsys.readouterr().err

    report = verify.run(SimpleNamespace(store=result.store, deep=True))
    assert report.exit_code == 0
    verify.show(report)
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
    report = verify.run(SimpleNamespace(store=result.store, deep=False))
    assert report.exit_code == 1
    verify.show(report)
    assert "marker of shard 1 cannot be read" in capsys.readouterr().err
    assert extract.run(experiment).fingerprint == result.fingerprint  # makes that shard anew
    assert verify.run(SimpleNamespace(store=result.store, deep=True)).exit_code == 0
    failures = tuple(Rejection(f"c/{row}", "0 bytes") for row in range(12))
    extract.show(result.model_copy(update={"failures": failures, "failed": 12}))
    shown = capsys.readouterr().err
    assert "c/9: 0 bytes" in shown
    assert "and 2 more" in shown


def test_the_verbs_import_nothing_heavy() -> None:
    heavy = "{'torch', 'zarr', 'pandas', 'transformers', 'mlflow', 'lightning'}"
    code = f"import sys, experiments.extract, experiments.verify, emonet.audio; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
