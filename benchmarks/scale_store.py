"""A store of a million clips, by simulation with tiny states: open it, shuffle it, verify it, export it, describe it.

Every file is real, written by the store's own writer: a shard and a marker for every 64 clips, and the table. Each act
is a process of its own, which has imported what it needs; its memory is what the act takes beyond that, at its peak.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Memory
from benchmarks.rows import Row
from emonet.clips import SPLITS, Clip, Corpus
from emonet.targets import EMOTIONS

CLIPS, QUICK_CLIPS = 1_000_000, 20_000
FRAMES, WIDTH, SHARD = 4, 4, 64  # tiny states; shards as they are by default
SPEAKERS = 1000
KINDS = 97  # sets of scores that clips share
BATCH = 64
OPENING, FIRST_BATCH = 1.0, 5.0  # aims: seconds
GIB = 1 << 30


@dataclass(frozen=True)
class Act:
    """What an act took.

    Args:
        seconds: from its beginning to its end.
        peak: memory beyond what its process held before (bytes).
    """

    seconds: float
    peak: int


def measure(out: Path, *, quick: bool) -> list[Row]:
    """Make a store in `out`, and do with it what people do.

    Args:
        out: an empty folder for the store and its export.
        quick: 20,000 clips in place of a million.
    """
    clips = QUICK_CLIPS if quick else CLIPS
    store, size = out / "store.zarr", f"{clips:,} clips"
    acts: dict[str, Callable[[Path], object]] = {
        "open a store": opened,
        "first batch of a shuffled epoch": first_batch,
        "rows of a split": rows_of_train,
        "scores of a split": scores_of_train,
        "the whole table": whole_table,
        "info": info,
        "verify": verified,
        "verify, every chunk": verified_deep,
        "export": exported,
    }
    aims = {"open a store": OPENING, "first batch of a shuffled epoch": FIRST_BATCH}
    rows = _rows(f"write a store (corpus and table included), {size}", in_a_process(write, store, clips), None, clips)
    for name, act in acts.items():
        rows += _rows(f"{name}, {size}", in_a_process(act, store), aims.get(name), clips)
    return rows


def in_a_process(act: Callable[..., object], *arguments: object) -> Act:
    """Do something in a process of its own, not forked, that has imported everything."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_act, act, arguments).result()


def _act(act: Callable[..., object], arguments: tuple[object, ...]) -> Act:
    import cache.maintenance
    import datamodules.experts  # noqa: F401 - whatever it imports is not the act's

    _ = cache.maintenance.describe, cache.maintenance.verify, cache.maintenance.export
    memory = Memory()
    started = time.perf_counter()
    done = act(*arguments)
    seconds = time.perf_counter() - started
    peak, _ = memory.grown()
    del done
    return Act(seconds, peak)


def _rows(name: str, act: Act, aim: float | None, clips: int) -> list[Row]:
    peer, ratio, reach = ("", None, None) if aim is None else (f"aim {aim:g} s", aim / act.seconds, 1.0)
    return [
        Row(name, act.seconds, "s", peer, ratio, reach),
        Row(f"{name}: memory", act.peak / GIB, "GiB", f"{act.peak / clips:,.0f} bytes a clip"),
    ]


def corpus_of(clips: int) -> Corpus:
    """Clips without sound, as many as asked for: ids, 1,000 speakers in three splits, scores for every target."""
    rng = np.random.default_rng(0)
    scores = [
        {target.id: float(rng.integers(int(target.low), int(target.high) + 1)) for target in EMOTIONS}
        for _ in range(KINDS)
    ]
    speakers = [f"s/{number:04d}" for number in range(SPEAKERS)]
    splits = [SPLITS[0] if number % 10 < 8 else SPLITS[1 + number % 2] for number in range(SPEAKERS)]
    audio = [Path(f"/nowhere/{number}.wav") for number in range(SPEAKERS)]
    return Corpus(
        f"{clips} clips of nothing",
        tuple(
            Clip(
                f"clip/{row:07d}", audio[row % SPEAKERS], speakers[row % SPEAKERS], splits[row % SPEAKERS],
                start=float(row), end=row + 1.0, scores=scores[row % KINDS], seconds=1.0,
            )
            for row in range(clips)
        ),
    )  # fmt: skip


def write(path: Path, clips: int) -> None:
    """A store of `clips` clips, through the store's own writer."""
    from cache.store import ExtractionRecord
    from cache.writing import StoreWriter

    corpus = corpus_of(clips)
    record = ExtractionRecord(
        corpus=corpus.name, corpus_fingerprint="0" * 64, clips=clips, encoder="none", encoder_digest="0" * 64,
        window_seconds=1.0, frames=FRAMES, width=WIDTH, mels=80, precision="float32", batch_size=16,
        shard_clips=SHARD,
    )  # fmt: skip
    states = np.random.default_rng(0).normal(size=(SHARD, FRAMES, WIDTH)).astype(np.float16)
    digests = [f"{number:032x}" for number in range(SHARD)]
    with StoreWriter(path, record, corpus) as writer:
        for shard in writer.claims():
            sink = writer.begin(shard)
            for position, row in enumerate(sink.rows):
                sink.put(position, states[position], 0.5 + row % 7 / 100, content=f"{row:07x}{digests[position]}")
            sink.commit()
        writer.finish()


def opened(path: Path) -> object:
    """Open it."""
    from cache.store import FeatureStore

    return FeatureStore.open(path)


def first_batch(path: Path) -> object:
    """Open it, and take the first batch of a shuffled epoch of 40 experts, as a training does."""
    from cache.store import FeatureStore
    from datamodules import expert_inputs
    from datamodules.experts import ExpertsDataModule
    from emonet.configs import HeadsConfig

    store = FeatureStore.open(path)
    spec = expert_inputs.spec_of(store, "flatten", HeadsConfig())
    inputs = expert_inputs.read_inputs(store, spec, memory_gib=1 / 1024)  # too little to hold them
    data = ExpertsDataModule(inputs, store.targets.ids, batch_size=BATCH, seed=0)
    return next(iter(data.train_dataloader()))


def rows_of_train(path: Path) -> object:
    """Which clips are to be trained on."""
    from cache.store import FeatureStore

    return FeatureStore.open(path).rows("train")


def scores_of_train(path: Path) -> object:
    """What they are to be trained to."""
    from cache.store import FeatureStore

    store = FeatureStore.open(path)
    return store.scores(store.rows("train"))


def whole_table(path: Path) -> object:
    """All that is known about every clip."""
    from cache.store import FeatureStore

    return FeatureStore.open(path).clips


def info(path: Path) -> object:
    """`emonet store info`."""
    from cache.maintenance import describe

    return describe(path)


def verified(path: Path) -> object:
    """`emonet store verify`."""
    return _verified(path, deep=False)


def verified_deep(path: Path) -> object:
    """`emonet store verify --deep`."""
    return _verified(path, deep=True)


def _verified(path: Path, *, deep: bool) -> object:
    from cache.maintenance import verify

    report = verify(path, deep=deep)
    assert not report.problems, report.problems[:3]
    return report


def exported(path: Path) -> object:
    """`emonet store export`."""
    from cache.maintenance import export
    from cache.store import FeatureStore

    out = path.parent / "export"
    try:
        return export(FeatureStore.open(path), out, "npy")
    finally:
        shutil.rmtree(out, ignore_errors=True)
