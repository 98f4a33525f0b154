from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from cache.extraction import ExtractionReport, extract, record_of
from cache.store import FeatureStore
from cache.verify import verify
from emonet.audio import decode
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.encoder import FrozenEncoder
from emonet.errors import EmonetError, RequestError
from emonet.logmel import pad

Make = Callable[..., Any]
CONFIG = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def encoder(tiny_encoder: Path) -> FrozenEncoder:
    return FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu")


def run(corpus: Corpus, encoder: FrozenEncoder, path: Path, **options: Any) -> ExtractionReport:
    return extract(corpus, encoder, path, CONFIG, source="tiny", **options)


def test_every_clip_has_the_encoders_states(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus = make_corpus(8)
    calls: list[tuple[int, int]] = []
    report = run(corpus, encoder, tmp_path / "s.zarr", progress=lambda *now: calls.append(now))
    assert (report.clips, report.failed, report.shape) == (8, 0, (8, 50, 32))
    assert report.bytes_raw == 8 * 50 * 32 * 2
    assert 0 < report.bytes_stored < 1.2 * report.bytes_raw
    assert report.clips_per_second > 0
    assert calls[0] == (0, 8)
    assert calls[-2:] == [(8, 8), (8, 8)]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)

    store = FeatureStore.open(tmp_path / "s.zarr", expect=record_of(corpus, encoder, CONFIG, source="x"))
    assert store.fingerprint == report.fingerprint
    for row, clip in enumerate(corpus.clips):
        heard = decode(clip.audio, seconds=1.0)
        expected = encoder(pad([heard], encoder.window)).numpy()
        np.testing.assert_allclose(store.read([row]), expected, atol=4e-3)
        assert store.clips["seconds"][row] == pytest.approx(len(heard) / 16_000)
        assert store.speech_frames([row])[0] == encoder.window.speech_frames(len(heard) / 16_000)
    assert verify(tmp_path / "s.zarr", deep=True).problems == ()


def test_failed_clips_are_listed_and_the_rest_is_done(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    report = run(make_corpus(8, broken=(1, 3, 4, 5)), encoder, tmp_path / "s.zarr")  # all of the second shard
    assert report.failed == 4
    assert [(failure.id, failure.reason) for failure in report.failures] == [
        (f"t/{row:03d}", "0 bytes") for row in (1, 3, 4, 5)
    ]
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert store.rows().tolist() == [0, 2, 6, 7]
    assert np.isfinite(store.read(store.rows())).all()
    assert verify(tmp_path / "s.zarr", deep=True).problems == ()


def test_a_finished_store_is_kept(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus = make_corpus(5)
    first = run(corpus, encoder, tmp_path / "s.zarr")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s.zarr" / "states").rglob("0")}
    second = run(corpus, encoder, tmp_path / "s.zarr")
    assert second.fingerprint == first.fingerprint
    assert second.clips_per_second == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_no_readable_clip_is_an_error_and_leaves_no_store(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    with pytest.raises(EmonetError, match=r"(?s)none of the 3 clips could be read.*t/000: 0 bytes"):
        run(make_corpus(3, broken=(0, 1, 2)), encoder, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_an_empty_corpus_is_refused(encoder: FrozenEncoder, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the corpus has no clips"):
        run(Corpus("nothing", ()), encoder, tmp_path / "s.zarr")


def test_another_corpus_is_refused_unless_forced(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    run(make_corpus(4), encoder, tmp_path / "s.zarr")
    with pytest.raises(RequestError, match=r"(?s)clips: the store has 4, wanted 5.*--force"):
        run(make_corpus(5), encoder, tmp_path / "s.zarr")
    assert run(make_corpus(5), encoder, tmp_path / "s.zarr", force=True).clips == 5


def test_an_interrupt_keeps_finished_shards(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus = make_corpus(8)

    def interrupt(completed: int, total: int) -> None:
        if completed >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, encoder, tmp_path / "s.zarr", progress=interrupt)
    assert len(list((tmp_path / "s.zarr" / "shards").iterdir())) == 1
    resumed = run(corpus, encoder, tmp_path / "s.zarr")
    assert resumed.fingerprint == run(corpus, encoder, tmp_path / "other.zarr").fingerprint


# Imports once, then forks a process for each store named on its stdin: prints its id, on the next line its status.
SERVER = """
import os, sys
from pathlib import Path
from cache.extraction import extract
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoder import FrozenEncoder

audio, weights = map(Path, sys.argv[1:])
clips = tuple(Clip(path.stem, path, "someone", "train") for path in sorted(audio.glob("*.wav")))
config = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32")
for line in sys.stdin:
    child = os.fork()
    if not child:
        encoder = FrozenEncoder.load(str(weights), precision="float32", device="cpu")
        extract(Corpus("tones", clips), encoder, Path(line.strip()), config, source="tiny")
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until then the child keeps its id, even if it is done
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Extractions:
    """Real extraction processes, one after the other."""

    def __init__(self, audio: Path, weights: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(audio), str(weights)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.communicate()

    def run(self, store: Path, *, kill_after: float | None = None) -> int:
        """The exit status of an extraction, which is killed after so many seconds."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(store, file=self._server.stdin, flush=True)
        child = int(self._server.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        print(file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_killed_extraction_goes_on_and_ends_bit_for_bit_the_same(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_corpus(60, broken=(7,))
    undisturbed, killed, chance = tmp_path / "undisturbed.zarr", tmp_path / "killed.zarr", random.Random()
    with Extractions(tmp_path / "audio", tiny_encoder) as extractions:
        assert extractions.run(tmp_path / "warm-up.zarr") == 0
        started = time.monotonic()
        assert extractions.run(undisturbed) == 0
        duration = time.monotonic() - started
        finished = []
        for _ in range(5):
            extractions.run(killed, kill_after=chance.uniform(0.1, 0.6) * duration)
            finished.append(len(list(killed.glob("shards/*.json"))))
        assert finished == sorted(finished)  # nothing finished was lost
        assert extractions.run(killed) == 0

    assert content(killed) == content(undisturbed)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
    assert verify(killed, deep=True).problems == ()
