"""Write a golden project: models, store, registry and study as an older release of emonet makes them.

    python tools/make_golden_models.py [COMMIT]

The commit is checked out beside this one, and its own command line does the work: `pretrain`, `extract`, `heads` and
`sweep`, with settings that are as small as they can be. What it leaves is tests/data/golden-models/COMMIT.tar.xz, with
absolute paths of a folder that is gone, and among it `expected.json`: what that release predicts, lists and compares.
tests/test_golden_models.py holds every later release to it. It is run once for a release, and refuses to write over it.
It names nothing inside the packages but `emonet.EmotionPipeline`, so that their modules may move.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile as sf
import yaml
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "data" / "golden-models"
COMMIT = "559c594"  # the last one before modules moved into rooms
EXPECTED = "expected.json"
RATE, TAKES = 16_000, 5
SPEAKERS = {**dict.fromkeys("abc", "train"), **dict.fromkeys("defg", "validation"), **dict.fromkeys("hij", "test")}
HEARD = tuple(f"sounds/{speaker}{take}.wav" for speaker, take in (("a", 0), ("e", 2), ("h", 1), ("j", 4)))
SHAPE = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
HEADS = {"hidden": [4, 4], "epochs": 8, "batch_size": 8, "learning_rate": 0.01, "frames": "speech"}
SPACE = {"heads.learning_rate": {"low": 1e-3, "high": 1e-2}, "heads.inputs": {"choices": [["statistics"]]}}
COMMON = {
    "corpus": "manifest:clips.jsonl",
    "captioner": {"model": "base", "window_seconds": 1.0, "epochs": 2, "precision": "float32", "sample_captions": 1},
    "evaluation": {"resamples": 50},
}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "pooled": {
        "extraction": {"precision": "float32", "frames": "speech", "shard_clips": 32},
        "heads": {**HEADS, "inputs": ["attention"]},
        "sweep": {"trials": 3, "epochs": 2, "space": SPACE},
    },
    "flat": {
        "extraction": {
            "precision": "float32",
            "codec": "int8",
            "frames": "speech",
            "captioner": "runs/pooled/captioner",
        },
        "heads": {**HEADS, "inputs": ["flatten"], "calibration": "affine"},
    },
}
STAGES = (
    *(("pretrain", "pooled"), ("extract", "pooled"), ("heads", "pooled"), ("sweep", "pooled")),
    *(("extract", "flat"), ("heads", "flat")),
)
VOICES = ("runs/pooled/voice", "runs/pooled/sweep/voice", "runs/flat/voice")
SCORES = """
import json, sys
from emonet import EmotionPipeline
pipeline = EmotionPipeline.from_folder(sys.argv[1], precision="float32", device="cpu")
print(json.dumps({path: pipeline(path) for path in sys.argv[2:]}))
"""
PACKAGED = "whisper_merges.txt.gz"  # 225 kB that nothing makes smaller; a voice model does not read it
LEFT = (".pyc", ".lock", ".log", ".png", ".html", PACKAGED)


def main(commit: str = COMMIT, archive: Path | None = None) -> None:
    """Make the project of a commit.

    Args:
        commit: whose code makes it.
        archive: to write; by default tests/data/golden-models/COMMIT.tar.xz.

    Raises:
        SystemExit: if the archive already exists.
        subprocess.CalledProcessError: if there is no such commit, or its code fails.
    """
    archive = archive or GOLDEN / f"{commit}.tar.xz"
    if archive.exists():
        raise SystemExit(f"{archive} already exists: what a release wrote is never written again")
    with TemporaryDirectory(prefix="golden-") as scratch:
        code, project = Path(scratch, "code"), Path(scratch, "project")
        subprocess.run(["git", "worktree", "add", "--detach", str(code), commit], cwd=ROOT, check=True)
        try:
            expected = _made(_Release(code, project))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=ROOT, check=True)
        (project / EXPECTED).write_text(json.dumps(expected), "utf-8")
        _pack(project, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


def _pack(project: Path, archive: Path) -> None:
    """Files that are alike stand together, which makes the archive smaller."""
    files = (path for path in project.rglob("*") if path.is_file() and not path.name.endswith(LEFT))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(files, key=lambda path: (path.suffix, path.name, path)):
            packed.add(path, path.relative_to(project))


class _Release:
    """The code of a commit, at work in a folder of its own.

    Args:
        code: its checkout.
        project: the folder that it works in.
    """

    def __init__(self, code: Path, project: Path) -> None:
        self.project = project
        entry = tomllib.loads((code / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["emonet"]
        module, _, function = entry.partition(":")
        self._verb = f"import sys; from {module} import {function}; sys.exit({function}())"
        outer = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "EMONET_"))}
        self._environment = {**outer, "PYTHONPATH": str(code), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

    def emonet(self, *arguments: str) -> Any:
        """What a verb prints with `--json`."""
        return self.python(self._verb, *arguments, "--json")

    def python(self, program: str, *arguments: str) -> Any:
        """The JSON that a program prints."""
        command = [sys.executable, "-P", "-c", program, *arguments]
        done = subprocess.run(command, cwd=self.project, env=self._environment, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)


def _made(release: _Release) -> dict[str, Any]:
    """Fill the release's project; returns what it says of it."""
    _write_corpus(release.project)
    for name, settings in EXPERIMENTS.items():
        (release.project / f"{name}.yaml").write_text(yaml.safe_dump({**COMMON, **settings}), "utf-8")
    _write_base(release)
    for verb, name in STAGES:
        release.emonet(verb, "--experiment", f"{name}.yaml")
    on = ("--on", "runs/pooled/store.zarr", "--resamples", "50", "--no-baselines")
    return {
        "scores": {voice: release.python(SCORES, voice, *HEARD) for voice in VOICES},
        "versions": release.emonet("registry", "list")["versions"],
        "comparison": release.emonet("compare", "1", "2", "3", *on)["comparison"],
    }


def _write_corpus(project: Path) -> None:
    """Sawtooths, whose periods are whole samples, so that they need no room; anger rises with their pitch."""
    (project / "sounds").mkdir(parents=True)
    rows = []
    for number, (speaker, split) in enumerate(SPEAKERS.items()):
        for take in range(TAKES):
            name, period = f"sounds/{speaker}{take}.wav", 160 - 25 * take - number
            time = np.arange(RATE * (3 + take + number % 2) // 10)
            sf.write(project / name, (time % period - period // 2).astype(np.int16) * (40 + 20 * take), RATE)
            scores = {"anger": min(4, take), "sadness": 4 - take, "fear": 1.5 if take % 2 else number % 5}
            rows.append({"audio": name, "speaker": speaker, "split": split, "language": "en", **scores})
    (project / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _write_base(release: _Release) -> None:
    """A captioner to start from: the release's smallest one, made much smaller; weights of 8 bits need less room."""
    flags = ("--captioner.model", "scratch:nano", "--captioner.epochs", "1", "--captioner.batch-size", "16")
    made = Path(release.emonet("pretrain", "--experiment", "pooled.yaml", "--runs", "nano", *flags)["captioner"])
    nano, base = release.project / made, release.project / "base"
    config = WhisperConfig.from_pretrained(nano)
    config.update(SHAPE)
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        rounded = np.random.default_rng(parameter.numel()).integers(-24, 25, tuple(parameter.shape)) / 64
        parameter.data.copy_(parameter.data.new_tensor(rounded))
    model.generation_config = GenerationConfig.from_pretrained(nano)
    model.save_pretrained(base)
    WhisperProcessor.from_pretrained(nano).save_pretrained(base)
    shutil.rmtree(release.project / "nano")


if __name__ == "__main__":
    main(*sys.argv[1:2])
