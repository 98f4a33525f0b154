"""Write a tiny feature store in every codec tier, with the values that it must give for ever.

    python tools/make_golden_store.py

It is run once per format version, by the release that introduces it, and never again for an older one: the stores it
left in tests/data/golden-store/vN are what that release wrote, and tests/cache/test_golden_store.py holds every later
release to reading them. It refuses to write over them. The expected values are computed with NumPy alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from cache.maintenance import verify
from cache.store import FORMAT_VERSION, ExtractionRecord, FeatureStore
from cache.writing import StoreWriter
from emonet.clips import SPLITS, Clip, Corpus
from emonet.targets import EMOTIONS

GOLDEN = Path(__file__).parent.parent / "tests" / "data" / "golden-store"
WAYS = {
    "none": ("none", "all"),
    "lossless": ("lossless", "all"),
    "bfloat": ("bfloat", "all"),
    "int8": ("int8", "all"),
    "speech": ("lossless", "speech"),
}
CLIPS, FRAMES, WIDTH, SHARD = 5, 25, 6, 3
FAILED = 3  # this row has no states
SECONDS = (0.5, 0.21, 0.34, 0.4, 0.02)  # heard of each clip, of a window of 0.5 s


def main(folder: Path = GOLDEN / f"v{FORMAT_VERSION}") -> None:
    """Make the stores and `expected.npz`, `expected.json` beside them.

    Raises:
        SystemExit: if the folder already exists.
    """
    if folder.exists():
        raise SystemExit(f"{folder} already exists: what a release wrote is never written again")
    corpus, states, silence = _corpus(), _states(), _silence()
    arrays, facts = {}, {}
    for name, (codec, kept) in WAYS.items():
        path = folder / f"{name}.zarr"
        record = ExtractionRecord.model_validate({**dict(_record(corpus)), "codec": codec, "kept": kept})
        with StoreWriter(path, record, corpus, silence=lambda: silence) as writer:
            for shard in writer.claims():
                sink = writer.begin(shard)
                for position, row in enumerate(sink.rows):
                    if row == FAILED:
                        sink.fail(position, "0 bytes")
                    else:
                        sink.put(position, states[row], SECONDS[row])
                sink.commit()
            fingerprint = writer.finish()
        path.with_name(f".{path.name}.lock").unlink()
        arrays[name] = expected(states, silence, codec, kept)
        facts[name] = {"fingerprint": fingerprint, "codec": codec, "kept": kept, **_checked(path, arrays[name])}
    np.savez_compressed(folder / "expected.npz", **arrays)
    table = {
        "ids": [clip.id for clip in corpus.clips],
        "splits": [clip.split for clip in corpus.clips],
        "speakers": [clip.speaker for clip in corpus.clips],
        "languages": [clip.language for clip in corpus.clips],
        "seconds": [None if row == FAILED else SECONDS[row] for row in range(CLIPS)],
        "failed": {str(FAILED): "0 bytes"},
        "targets": list(corpus.targets.ids),
        "scores": [[clip.scores.get(target) for target in corpus.targets.ids] for clip in corpus.clips],
    }
    text = json.dumps({"stores": facts, "table": table, "note": corpus.note}, indent=1)
    (folder / "expected.json").write_text(text + "\n", "utf-8")
    print(f"{folder}: {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()):,} bytes")


def expected(states: np.ndarray, silence: np.ndarray, codec: str, kept: str) -> np.ndarray:
    """What reading gives, float16 (clips, frames, width); the row of the failed clip is NaN."""
    if codec == "bfloat":  # keeps 7 of 10 bits after the leading one, to nearest, ties to even
        bits = states.view(np.uint16).astype(np.uint32)
        states = ((bits + 3 + ((bits >> 3) & 1)) & ~np.uint32(7)).astype(np.uint16).view(np.float16)
    elif codec == "int8":  # multiples of a 127th of each channel's peak
        steps = (np.abs(states).max(axis=1, keepdims=True).astype(np.float32) / 127).astype(np.float32)
        states = (np.rint(states.astype(np.float32) / steps).astype(np.int8) * steps).astype(np.float16)
    states = states.copy()
    for row, seconds in enumerate(SECONDS if kept == "speech" else ()):
        heard = round(seconds * 50 + 0.49)  # of 20 ms each; the last may be heard in part
        states[row, heard:] = silence[heard:]
    states[FAILED] = np.nan
    return states


def _states() -> np.ndarray:
    """Smooth curves with noise; one channel is 50 times larger than the others, as happens in Whisper."""
    time = np.arange(FRAMES)[None, :, None] / FRAMES
    clip, channel = np.arange(CLIPS)[:, None, None], np.arange(WIDTH)[None, None, :]
    noise = np.random.default_rng(0).normal(0, 0.02, (CLIPS, FRAMES, WIDTH))
    curves = np.sin(2 * np.pi * (time * (1 + channel) + clip / 7)) + noise
    return (curves * np.where(channel == 2, 50.0, 1.0)).astype(np.float16)


def _silence() -> np.ndarray:
    return (np.arange(FRAMES * WIDTH).reshape(FRAMES, WIDTH) / 64 - 1).astype(np.float16)


def _corpus() -> Corpus:
    targets = EMOTIONS.subset(("anger", "fear", "sadness"))
    clips = []
    for row in range(CLIPS):
        split = SPLITS[row % 3]
        scores = {"anger": row / 2, "sadness": 4.0 - row} if row % 2 else {"fear": 1.25}
        clips.append(Clip(f"golden/{row}", bytes([row]), f"golden/{split}", split, language="en", scores=scores))
    return Corpus("manifest:golden.jsonl", tuple(clips), targets=targets, note="Curves, no speech.")


def _record(corpus: Corpus) -> ExtractionRecord:
    return ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=CLIPS,
        encoder="golden",
        encoder_digest="0" * 64,
        window_seconds=FRAMES / 50,
        frames=FRAMES,
        width=WIDTH,
        mels=80,
        precision="float32",
        batch_size=2,
        shard_clips=SHARD,
    )


def _checked(path: Path, wanted: np.ndarray) -> dict[str, float]:
    store = FeatureStore.open(path)
    np.testing.assert_array_equal(store.read(store.rows()), wanted[store.rows()])
    report = verify(path, deep=True)
    if report.problems:
        raise SystemExit("\n".join(report.problems))
    return {"largest_error": report.largest_error, "rms_error": report.rms_error}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
