"""A small world of registered models: a corpus of tones, two encoders, a store, and voice models of known scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from cache.extraction import extract
from cache.store import FeatureStore
from emonet.checkpoints import ExpertsInfo
from emonet.checkpoints.files import save_bank
from emonet.configs import ExtractionConfig, InputForm
from emonet.corpora import open_corpus
from emonet.encoders import FrozenEncoder
from emonet.experts import ExpertBank, InputSpec
from emonet.inference import assemble
from emonet.registry import register_voice
from emonet.targets import EMOTIONS
from emonet.tracking import Lineage, default_uri, lineage, start_run
from tests.tiny import write_encoder

SPLITS = {"a": "train", "b": "train", "c": "validation", **dict.fromkeys("defghi", "test")}
TARGETS = ("anger", "fear")


@dataclass(frozen=True)
class World:
    """Args:
    folder: holds all of it; nothing in it is changed.
    """

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "m.jsonl"

    @property
    def spec(self) -> str:
        return f"manifest:{self.manifest}"

    @property
    def store(self) -> Path:
        return self.folder / "store.zarr"

    def encoder(self, name: str) -> Path:
        return self.folder / name

    def voice(
        self,
        folder: Path,
        score: float | Mapping[str, float] | None,
        *,
        encoder: str = "first",
        targets: tuple[str, ...] = TARGETS,
        origin: bool = True,
        form: InputForm = "statistics",
        pool_over: Literal["all", "speech"] = "all",
    ) -> Path:
        """A voice model that gives the same score to every clip, in `folder/voice`, and its experts in `folder/heads`.

        Args:
            score: of all targets, or by target; None leaves weights at random, which hear what each clip is.
            origin: whether it says that it was trained on the world's store.
        """
        frozen = FrozenEncoder.load(str(self.encoder(encoder)))
        spec = InputSpec(form, pool_over, frozen.window.frames, frozen.width)
        bank = ExpertBank(spec, EMOTIONS.subset(targets).ids, (4, 4), seed=0)
        with torch.no_grad():
            for position, target in enumerate(bank.targets if score is not None else ()):
                *_, (_, weight), (_, bias) = bank.tensors(position)
                weight.zero_()
                bias.fill_(score if isinstance(score, float) else score[target])
        info = ExpertsInfo(
            targets=EMOTIONS.subset(targets).to_json(),
            form=form,
            pool_over=pool_over,
            queries=spec.queries,
            window_seconds=frozen.window.seconds,
            frames=spec.frames,
            width=spec.width,
            hidden=(4, 4),
            encoder_digest=frozen.digest,
            store_fingerprint="0" * 64,
        )
        save_bank(bank, info, folder / "heads")
        voice = assemble(self.encoder(encoder), folder / "heads", folder / "voice")
        if origin:
            clips = FeatureStore.open(self.store).clips
            lineage.write(voice, self.lineage(clips, frozen.digest), clips)
        return voice

    def lineage(self, clips: pd.DataFrame, encoder_digest: str) -> Lineage:
        return Lineage.of(
            clips,
            experiment="mini",
            corpus=self.spec,
            corpus_fingerprint="c" * 64,
            window_seconds=1.0,
            store_fingerprint="0" * 64,
            encoder="x",
            encoder_digest=encoder_digest,
            seed=0,
            settings={},
        )


def register(voice: Path, runs: Path) -> int:
    """Register a voice model; the first one is the champion, the latest the candidate."""
    found = lineage.read(voice)
    with start_run(
        default_uri(runs), experiment="mini", name="heads", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        return register_voice(run, voice, TARGETS, {"test_mae": 1.0}, found.tags() if found else {}).version


def make_world(folder: Path, write_wav: Callable[[Path, float, float], None]) -> World:
    """Write the corpus, the encoders and the store.

    Args:
        folder: exists.
        write_wav: called with a path, seconds and Hertz.
    """
    rows = []
    for number, (speaker, split) in enumerate(SPLITS.items()):
        for take in range(3):
            path = folder / f"{speaker}{take}.wav"
            write_wav(path, 0.2 + 0.1 * take, 150.0 + 60 * take + number)
            row = {"audio": path.name, "speaker": speaker, "split": split}
            rows.append(row | {"anger": 1 + take / 2, "fear": float(number % 4)})
    world = World(folder)
    world.manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, name in enumerate(("first", "second")):
        write_encoder(world.encoder(name), seed=seed)
    first = FrozenEncoder.load(str(world.encoder("first")))
    config = ExtractionConfig(shard_clips=16, workers=1)
    extract(open_corpus(world.spec), first, world.store, config, source=str(world.encoder("first")))
    return world
