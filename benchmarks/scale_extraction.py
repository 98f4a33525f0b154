"""Cost of extraction against clips, 10^2 to 10^5: is it linear, and is memory flat? By the real `extract`, from WAVs.

A tiny encoder hears half a second of each clip, a part of one of three WAVs, which a process decodes; states are
compressed and written as ever. Each size has a process of its own, which has extracted a few clips before.

Cost is processor time, of this process and the decoding one: it hardly depends on what else a machine does. The time
of day is told, too. Start-up is taken out twice. The clocks start when the first pass is through the encoder: by then
the store is made, and the decoding process is up. And from what is left to the end, that of an extraction of one single
pass is subtracted: flushing, the table, the end of the decoding process. What remains is the cost of all clips but
those of that pass, and the exponent is the slope of its regression on them, log to log.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Memory
from benchmarks.rows import Row
from emonet.clips import SPLITS, Clip, Corpus

SIZES = (100, 316, 1_000, 3_162, 10_000, 31_623, 100_000)  # clips: half a power of ten apart
QUICK_SIZES = (100, 316, 1_000)
PASS, SHARD = 4, 64  # clips; few are decoded before the clocks start
WINDOW, RECORDING = 0.5, 60.0  # seconds
SMALL = 2_000  # clips up to which an extraction is done
REPEATS = 5  # times
TOLERANCE = 0.03  # of the exponent, around 1
FLAT = 0.95  # memory of a thousand clips over that of a hundred thousand
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What an extraction took.

    Args:
        clips: extracted (count).
        processor: time of all processes, from the first pass to the end (seconds).
        wall: time of day that went by meanwhile (seconds).
        corpus: memory of the clips themselves (bytes).
        peak: of the process' memory while it extracted, without that (bytes).
    """

    clips: int
    processor: float
    wall: float
    corpus: int
    peak: int


def measure(out: Path, *, quick: bool) -> list[Row]:
    """Extract corpora of growing size.

    Args:
        out: an empty folder for recordings, encoder and stores.
        quick: 10^2 to 10^3 clips alone, which says little.
    """
    prepare(out)
    sizes = QUICK_SIZES if quick else SIZES
    single, taken = costs(out, PASS), {clips: costs(out, clips) for clips in sizes}
    processor, wall = (
        {clips: _median(found, kind) - _median(single, kind) for clips, found in taken.items()}
        for kind in ("processor", "wall")
    )
    more, aim = [clips - PASS for clips in sizes], f"aim 1 ± {TOLERANCE:g}"
    rows = [
        Row(f"extraction, tiny encoder: {clips:,} clips", took / (clips - PASS) * 1e3, "ms/clip")
        for clips, took in processor.items()
    ]
    for kind, seconds in (("processor time", processor), ("time of day", wall)):
        slope = exponent(more, [*seconds.values()])
        what = f"exponent of an extraction's {kind} over clips, {sizes[0]:,} to {sizes[-1]:,}"
        rows.append(Row(what, slope, "", aim, _within(slope), 1.0))
    few, many = _median(taken[1_000], "peak"), _median(taken[sizes[-1]], "peak")
    corpus = _median(taken[sizes[-1]], "corpus")
    return [
        *rows,
        Row(f"time of day of {sizes[-1]:,} clips", wall[sizes[-1]], "s"),
        Row(f"memory of an extraction, {sizes[-1]:,} clips", many / MIB, "MiB", "1,000 clips", few / many, FLAT),
        Row(f"memory of the clips themselves, {sizes[-1]:,}", corpus / MIB, "MiB"),
    ]


def _median(found: Sequence[Cost], kind: str) -> float:
    return float(statistics.median(getattr(one, kind) for one in found))


def exponent(clips: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log clips."""
    slope, _ = np.polyfit(np.log(clips), np.log(seconds), 1)
    return float(slope)


def _within(slope: float) -> float:
    """How many times closer to 1 than it must be; far above 1 where it hits 1 exactly."""
    return TOLERANCE / max(abs(slope - 1), TOLERANCE / 100)


def prepare(out: Path) -> None:
    """Three WAVs of noise, and an encoder of a few kilobytes."""
    import soundfile as sf
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    rng = np.random.default_rng(0)
    for split in SPLITS:
        sf.write(out / f"{split}.wav", rng.uniform(-0.1, 0.1, int(RECORDING * 16_000)).astype(np.float32), 16_000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = WhisperConfig(
            d_model=16, encoder_layers=1, encoder_attention_heads=1, encoder_ffn_dim=16,
            max_source_positions=int(WINDOW * 50),
        )  # fmt: skip
        WhisperEncoder(config).eval().save_pretrained(out / "encoder")


def costs(out: Path, clips: int) -> list[Cost]:
    """Of an extraction of so many clips, several times if it is small."""
    times = REPEATS if clips <= SMALL else 1
    found = []
    for _ in range(times):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(cost, out, clips).result())
    return found


def cost(out: Path, clips: int) -> Cost:
    """Extract once, in this process, after a few clips that warm it up."""
    from emonet.encoders import open_encoder

    encoder = open_encoder(str(out / "encoder"), device="cpu")
    _extract(out, corpus_of(out, PASS), encoder)
    before = Memory()
    corpus = corpus_of(out, clips)
    corpus.fingerprint  # noqa: B018 - its numbers of files stay
    held = before.held()
    memory = Memory()
    processor, wall = _extract(out, corpus, encoder)
    return Cost(clips, processor, wall, held, memory.peak() - held)


def _extract(out: Path, corpus: Corpus, encoder: object) -> tuple[float, float]:
    """Processor time and time of day, from the first pass to the end (seconds)."""
    from cache.extraction import extract
    from emonet.configs import ExtractionConfig

    config = ExtractionConfig(batch_size=PASS, shard_clips=SHARD, workers=1, window_seconds=WINDOW)
    started: list[tuple[float, float]] = []

    def progress(done: int, *_: object) -> None:
        if done and not started:
            started.append((_spent(), time.perf_counter()))

    store = out / "store.zarr"
    try:
        extract(corpus, encoder, store, config, source="tiny", force=True, progress=progress)  # type: ignore[arg-type]
        return _spent() - started[0][0], time.perf_counter() - started[0][1]
    finally:
        shutil.rmtree(store, ignore_errors=True)


def corpus_of(out: Path, clips: int) -> Corpus:
    """Parts of the three recordings, no two of them alike."""
    room = int((RECORDING - WINDOW) * 1000)
    return Corpus(
        "parts of noise",
        tuple(
            Clip(
                f"clip/{row:07d}", out / f"{SPLITS[row % 3]}.wav", f"s/{SPLITS[row % 3]}", SPLITS[row % 3],
                start=(start := row // 3 * 37 % room / 1000), end=start + WINDOW, seconds=WINDOW,
                scores={"anger": float(row % 5)},
            )
            for row in range(clips)
        ),
    )  # fmt: skip


def _spent() -> float:
    """Processor time of this process and of all that it has started, whether they have ended or not (seconds)."""
    ended = os.times()
    living = set[int]()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            living |= {int(child) for child in (task / "children").read_text().split()}
    tick = os.sysconf("SC_CLK_TCK")
    running = 0
    for child in living:
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended since
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            running += int(fields[11]) + int(fields[12])  # in user and system mode
    return time.process_time() + ended.children_user + ended.children_system + running / tick
