"""What Ray costs an extraction: seconds per shard of 64 clips of Whisper base, against a plain loop.

`python -m benchmarks.scale_ray [--out FOLDER] [--quick]`. Both do the same shards with the same processors, in turn,
and what is timed lies between the first shard on disk and the last: starting is not scheduling.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile as sf

from benchmarks.rows import Row, publish
from benchmarks.surroundings import whisper_base
from cache.extraction import encoder_settings, extract, extract_on_ray
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import open_encoder
from emonet.runtime import Progress
from experiments.core import say

CLIPS = 64  # of a shard
SHARE = 0.03  # at most so much more
REACH = 1 / (1 + SHARE)
_OF_RAY = (b"raylet", b"gcs_server", b"ray/_private", b"ray/dashboard")
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(out: Path, *, quick: bool) -> list[Row]:
    """Extract the same clips both ways.

    Args:
        out: gets the clips and the stores, which are removed.
        quick: the time between three shards once, in place of four three times.

    Returns:
        No rows where Whisper base or Ray is not there, which is told.
    """
    from emonet.runtime import has_ray

    place = whisper_base()
    if place is None or not has_ray():
        say(f"left out: {'Whisper base is not at hand' if place is None else 'Ray is not installed'}")
        return []
    shards, rounds = (3, 1) if quick else (4, 3)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        corpus = _corpus(Path(folder), CLIPS * shards)
        plain, on_ray, busy = [], [], []
        for number in range(rounds):
            plain.append(_plain(corpus, place, Path(folder) / f"plain-{number}.zarr"))
            seconds, share = _on_ray(corpus, place, Path(folder) / f"ray-{number}.zarr")
            on_ray.append(seconds)
            busy.append(share)
    one, other, spent = statistics.median(plain), statistics.median(on_ray), statistics.median(busy)
    return [
        Row(f"extraction on Ray, {CLIPS} clips of Whisper base", other, "s/shard", "a plain loop", one / other, REACH),
        Row("the same in a plain loop", one, "s/shard"),
        Row(
            "processor time of Ray and of the driver",
            spent,
            "s/shard",
            f"{SHARE:.0%} of all processors in a shard's time",
            SHARE * _cores() * other / max(spent, 1e-9),
            1.0,
        ),
    ]


def _corpus(folder: Path, clips: int) -> Corpus:
    """Noise of four seconds, of which no two clips are alike."""
    rng = np.random.default_rng(0)
    rows = []
    for row in range(clips):
        path = folder / f"{row:05}.wav"
        sf.write(path, (0.1 * rng.standard_normal(4 * 16_000)).astype(np.float32), 16_000)
        rows.append(Clip(path.stem, path, "noise", "train"))
    return Corpus("noise", tuple(rows))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _config() -> ExtractionConfig:
    return ExtractionConfig(shard_clips=CLIPS, precision="float32", processors_per_worker=_cores())


def _plain(corpus: Corpus, place: Path, store: Path) -> float:
    encoder = open_encoder(str(place), device="cpu", **encoder_settings(_config()))
    extract(corpus, encoder, store, _config(), source="base")
    return _per_shard(store)


def _on_ray(corpus: Corpus, place: Path, store: Path) -> tuple[float, float]:
    """Seconds per shard, and of them the processor's for driver and Ray."""
    times: list[tuple[int, float]] = []
    extract_on_ray(corpus, str(place), store, _config(), source="base", progress=_watched(times))
    (first, before), (last, after) = times[0], times[-1]
    return _per_shard(store), (after - before) / max((last - first) / CLIPS, 1e-9)


def _watched(times: list[tuple[int, float]]) -> Progress:
    """Notes what processes that are not the worker have computed, once the first shard is there."""

    def progress(completed: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if completed >= CLIPS and (not times or completed // CLIPS > times[-1][0] // CLIPS):  # a look costs, too
            times.append((completed, time.process_time() + _seconds_of(_is_rays)))

    return progress


def _per_shard(store: Path) -> float:
    written = sorted(marker.stat().st_mtime for marker in (store / "shards").iterdir())
    return (written[-1] - written[0]) / (len(written) - 1)


def _is_rays(command: bytes) -> bool:
    return any(name in command for name in _OF_RAY)


def _seconds_of(chosen: Callable[[bytes], bool]) -> float:
    """Processor time of processes by their command line, so far."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if chosen((folder / "cmdline").read_bytes()):
                ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:  # has ended meanwhile
            continue
    return ticks / _TICKS


def main() -> None:
    """Measure, and write `scale_ray.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = measure(options.out, quick=options.quick)
    publish(
        rows, options.out / "scale_ray.json", title="Ray's share of an extraction", about={"clips of a shard": CLIPS}
    )


if __name__ == "__main__":
    main()
