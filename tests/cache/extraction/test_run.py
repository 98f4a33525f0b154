from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from cache.extraction import ExtractionReport, extract
from cache.extraction import run as extraction
from cache.extraction.run import record_of
from cache.maintenance import verify
from cache.store import FeatureStore
from cache.writing import writer
from emonet.audio import decode, pad
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import FrozenEncoder
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.runtime import Progress, ignore

pytestmark = pytest.mark.numeric

Make = Callable[..., Any]
CONFIG = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32", workers=1)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def encoder(tiny_encoder: Path) -> FrozenEncoder:
    return FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu")


def configured(**changes: Any) -> ExtractionConfig:
    return ExtractionConfig.model_validate(CONFIG.model_dump() | changes)


def run(
    corpus: Corpus,
    encoder: FrozenEncoder,
    path: Path,
    *,
    force: bool = False,
    progress: Progress = ignore,
    **changes: Any,
) -> ExtractionReport:
    return extract(corpus, encoder, path, configured(**changes), source="tiny", force=force, progress=progress)


def with_copies(corpus: Corpus, *copies: tuple[int, int]) -> Corpus:
    """The corpus with the sound of one clip also in another one."""
    for copy, original in copies:
        shutil.copy(str(corpus.clips[original].audio), str(corpus.clips[copy].audio))
    return Corpus(corpus.name, corpus.clips)


def test_the_same_sound_in_two_splits_is_refused_and_within_one_is_told(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus = with_copies(make_corpus(8), (3, 0))  # clip n is in split n % 3
    assert run(corpus, encoder, tmp_path / "one.zarr").sounds.copies == (("t/000", "t/003"),)
    leaking = with_copies(corpus, (4, 2))
    message = r"(?s)same sound is in two splits.*t/002 \(test\) = t/004 \(validation\).*extraction.copies note"
    with pytest.raises(RequestError, match=message):
        run(leaking, encoder, tmp_path / "two.zarr")
    markers = list((tmp_path / "two.zarr" / "shards").iterdir())
    assert len(markers) < 3, "it stops when it hears the second one"
    report = run(leaking, encoder, tmp_path / "two.zarr", copies="note")  # goes on with what is there
    assert (report.sounds.leaks, report.sounds.copies) == (
        (("t/002 (test)", "t/004 (validation)"),),
        (("t/000", "t/003"),),
    )
    assert FeatureStore.open(tmp_path / "two.zarr").clips["sound_digest"].nunique() == 6


def test_what_is_odd_about_the_sound_is_in_the_report_and_the_table(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus = make_corpus(4)
    samples, rate = sf.read(corpus.clips[1].audio)
    sf.write(corpus.clips[1].audio, np.tile(samples, 8), rate)
    sf.write(corpus.clips[2].audio, np.stack([samples, -samples], 1), rate)
    report = run(corpus, encoder, tmp_path / "s.zarr")
    kinds = {found.kind: found for found in report.sounds.notices}
    assert (kinds["window"].ids, kinds["channels"].ids) == (("t/001",), ("t/002",))
    assert kinds["window"].example == "only the first 1.0 of 2.8 s are heard"
    table = FeatureStore.open(tmp_path / "s.zarr").clips["sound_notices"]
    assert "channels cancel each other" in table[2]


def test_every_clip_has_the_encoders_states(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus = make_corpus(8)
    calls: list[tuple[int, int]] = []
    notes: list[str] = []

    def progress(completed: int, total: int, note: str = "") -> None:
        calls.append((completed, total))
        notes.append(note)

    report = run(corpus, encoder, tmp_path / "s.zarr", progress=progress, workers=2)
    assert (report.clips, report.failed, report.shape) == (8, 0, (8, 50, 32))
    assert report.bytes_raw == 8 * 50 * 32 * 2
    assert 0 < report.bytes_stored < 1.2 * report.bytes_raw
    assert (report.complete, report.codec, report.precision, report.batch_size) == (True, "lossless", "float32", 2)
    assert (report.largest_error, report.rms_error, report.workers, report.lost) == (0, 0, 2, ())
    assert report.clips_per_second > 0
    assert report.encoder_tflops > 0
    assert 0 < report.encoder_share < 1
    assert report.megabytes_per_second > 0
    assert notes[0] == ""
    assert re.fullmatch(r"[\d.e-]+ TFLOP/s, encoder \d+ %, [\d.]+ MB/s", notes[-1])
    assert calls[0] == (0, 8)
    assert calls[-2:] == [(8, 8), (8, 8)]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)

    store = FeatureStore.open(tmp_path / "s.zarr", expect=record_of(corpus, encoder, CONFIG, source="x"))
    assert store.fingerprint == report.fingerprint
    for row, clip in enumerate(corpus.clips):
        heard = decode(clip.audio, seconds=1.0).samples
        expected = encoder(pad([heard], encoder.window)).numpy()
        np.testing.assert_allclose(store.read([row]), expected, atol=4e-3)
        assert store.clips["seconds"][row] == pytest.approx(len(heard) / 16_000)
        assert store.speech_frames([row])[0] == encoder.window.speech_frames(len(heard) / 16_000)
    assert verify(tmp_path / "s.zarr", deep=True).problems == ()


def test_decoders_get_a_quarter_of_the_processors_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(cores: int, gpus: int = 1, device: str = "cuda:0", **changes: Any) -> int:
        monkeypatch.setattr(extraction, "processors", lambda: cores)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return extraction.decoding_workers(ExtractionConfig(**changes), torch.device(device))

    assert [workers(cores) for cores in (2, 8, 16, 64)] == [2, 2, 4, 8]
    assert workers(64, gpus=4) == 4
    assert workers(64, gpus=4, devices=("cuda:0", "cuda:2")) == 8
    assert workers(64, device="cpu") == 2
    assert workers(2, workers=5) == 5


def test_a_pooled_store_keeps_statistics_over_the_states_that_hear_the_clip(
    make_corpus: Make, tiny_encoder: Path, tmp_path: Path
) -> None:
    corpus = make_corpus(7, broken=(2,))
    encoder = FrozenEncoder.load(str(tiny_encoder), layers="all", precision="float32", device="cpu")
    run(corpus, encoder, tmp_path / "full.zarr")
    report = run(corpus, encoder, tmp_path / "pooled.zarr", pool="statistics")
    assert (report.shape, report.pool, report.bytes_raw) == ((7, 4, 64), "statistics", 6 * 4 * 64 * 2)
    full, pooled = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("full", "pooled"))
    assert (full.pooled, pooled.pooled, pooled.record.frames, pooled.record.layers) == (False, True, 50, (1, 2))
    assert full.fingerprint != pooled.fingerprint
    rows = full.rows()
    assert np.array_equal(pooled.speech_frames(rows), full.speech_frames(rows))
    for whole, frames, found in zip(full.read(rows), full.speech_frames(rows), pooled.read(rows), strict=True):
        states = whole[:frames].astype(np.float64)
        expected = np.stack([states.mean(0), states.min(0), states.max(0), states.std(0, ddof=1)])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert "pooled" in repr(pooled)
    assert not verify(pooled.path, deep=True).problems
    with pytest.raises(RequestError, match="pool: the store has statistics, wanted none"):
        run(corpus, encoder, tmp_path / "pooled.zarr")


def test_a_store_of_other_layers_is_refused(make_corpus: Make, tiny_encoder: Path, tmp_path: Path) -> None:
    corpus = make_corpus(2)
    first, last = (
        FrozenEncoder.load(str(tiny_encoder), layers=layers, precision="float32", device="cpu")
        for layers in ((1,), "last")
    )
    run(corpus, first, tmp_path / "s.zarr")
    with pytest.raises(RequestError, match="layers: the store has 1, wanted the last"):
        run(corpus, last, tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("changes", "message"), [({"codec": "int8"}, "no int8 codec"), ({"frames": "speech"}, "stores of states")]
)
def test_what_a_pooled_store_does_not_do(
    changes: dict[str, str], message: str, make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        run(make_corpus(2), encoder, tmp_path / "s.zarr", pool="statistics", **changes)
    assert not (tmp_path / "s.zarr").exists()


def test_failed_clips_are_listed_and_the_rest_is_done(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus = make_corpus(8, broken=(1, 3, 4, 5))  # all of the second shard
    report = run(corpus, encoder, tmp_path / "s.zarr", max_failed=0.5)
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
        run(make_corpus(3, broken=(0, 1, 2)), encoder, tmp_path / "s.zarr", max_failed=1.0)
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

    def interrupt(completed: int, total: int, note: str = "") -> None:
        if completed >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, encoder, tmp_path / "s.zarr", progress=interrupt)
    assert len(list((tmp_path / "s.zarr" / "shards").iterdir())) == 1
    resumed = run(corpus, encoder, tmp_path / "s.zarr")
    assert resumed.fingerprint == run(corpus, encoder, tmp_path / "other.zarr").fingerprint


def test_a_clip_that_fails_leaves_its_neighbours_as_they_are(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    whole = run(make_corpus(6), encoder, tmp_path / "whole.zarr")
    run(make_corpus(6, broken=(1, 2)), encoder, tmp_path / "less.zarr", max_failed=0.5)
    kept = [0, 3, 4, 5]
    assert whole.failed == 0
    states = [FeatureStore.open(tmp_path / name).read(kept) for name in ("whole.zarr", "less.zarr")]
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize(
    ("codec", "largest", "rms"), [("none", 0, 0), ("lossless", 0, 0), ("bfloat", 0.02, 3e-3), ("int8", 0.05, 2e-2)]
)
def test_what_a_codec_loses_is_reported(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path, codec: str, largest: float, rms: float
) -> None:
    corpus = make_corpus(4)
    report = run(corpus, encoder, tmp_path / "s.zarr", codec=codec)
    assert report.codec == codec
    exact = np.concatenate(
        [encoder(pad([decode(clip.audio, seconds=1.0).samples], encoder.window)) for clip in corpus.clips]
    )
    difference = FeatureStore.open(tmp_path / "s.zarr").read(range(4)).astype(np.float64) - exact
    if not rms:
        assert (report.largest_error, report.rms_error) == (0, 0)
    else:  # passes of two clips differ from passes of one in the last bits
        assert report.largest_error == pytest.approx(np.abs(difference).max(), abs=4e-3)
        assert 0 < report.largest_error < largest
        assert 0 < report.rms_error < rms


def test_of_speech_only_the_rest_is_the_mean_of_silence(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus = make_corpus(8, broken=(3,))
    run(corpus, encoder, tmp_path / "all.zarr")
    report = run(corpus, encoder, tmp_path / "speech.zarr", frames="speech")
    whole, speech = (FeatureStore.open(tmp_path / name) for name in ("all.zarr", "speech.zarr"))
    rows = speech.rows()
    expected, found, heard = whole.read(rows), speech.read(rows), speech.speech_frames(rows)
    assert heard.min() < 50
    silent = np.arange(50) >= heard[:, None]
    np.testing.assert_array_equal(found[~silent], expected[~silent])
    known = silent.any(axis=0)
    mean = np.nanmean(np.where(silent[:, known, None], expected[:, known].astype(np.float64), np.nan), axis=0)
    for row, quiet in zip(found, silent, strict=True):
        np.testing.assert_allclose(row[known][quiet[known]], mean[quiet[known]], atol=2e-3)
    assert report.rms_error > 0  # what differs from silence to silence is lost
    assert run(corpus, encoder, tmp_path / "again.zarr", frames="speech").fingerprint == report.fingerprint


def test_parts_leave_the_store_to_the_last_of_them(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus, store = make_corpus(20, broken=(4,)), tmp_path / "s.zarr"
    whole = run(corpus, encoder, tmp_path / "whole.zarr")
    parts = [run(corpus, encoder, store, num_shards=3, shard_index=index) for index in (2, 0, 1)]
    assert [part.complete for part in parts] == [False, False, True]
    assert [part.fingerprint for part in parts] == ["", "", whole.fingerprint]
    assert [part.failed for part in parts] == [0, 0, 1]
    assert [part.bytes_raw // 3200 for part in parts] == [
        6,
        14,
        19,
    ]  # clips in 2 of 7 shards, in 5, and in all but the broken one
    with pytest.raises(RequestError, match=r"(?s)no such part of the extraction.*0 to 2"):
        run(corpus, encoder, store, num_shards=3, shard_index=3)


def test_the_store_keeps_the_batch_size_it_was_begun_with(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, store = make_corpus(20), tmp_path / "s.zarr"
    assert encoder.batch_size() >= 8
    report = run(corpus, encoder, store, batch_size="auto", shard_clips=8, num_shards=2)
    assert report.batch_size == 8  # a pass does not cross a shard
    monkeypatch.setattr(FrozenEncoder, "batch_size", lambda self: 4)  # as on another GPU
    assert run(corpus, encoder, store, batch_size="auto", shard_clips=8).batch_size == 8
    assert run(corpus, encoder, store, batch_size="auto", shard_clips=8, force=True).batch_size == 4
    with pytest.raises(RequestError, match="batch_size: the store has 4, wanted 2"):
        run(corpus, encoder, store, batch_size=2, shard_clips=8)


def test_two_that_begin_at_once_agree_on_the_batch_size(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, store = make_corpus(10), tmp_path / "s.zarr"

    def probe(self: FrozenEncoder) -> int:  # while it tries what fits, another process begins the store
        run(corpus, encoder, store, batch_size=3, num_shards=2)
        return 2

    monkeypatch.setattr(FrozenEncoder, "batch_size", probe)
    report = run(corpus, encoder, store, batch_size="auto")
    assert (report.batch_size, report.complete) == (3, True)
    assert report.fingerprint == run(corpus, encoder, tmp_path / "alone.zarr", batch_size=3).fingerprint


def test_a_part_does_not_start_anew(make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path) -> None:
    corpus, store = make_corpus(6), tmp_path / "s.zarr"
    run(corpus, encoder, store, num_shards=2)
    with pytest.raises(RequestError, match="parts of a job array cannot each start anew"):
        run(corpus, encoder, store, num_shards=2, shard_index=1, force=True)
    assert run(corpus, encoder, store, num_shards=2, shard_index=1).complete


def test_markers_are_not_listed_after_every_shard(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    look = writer.marked_shards
    monkeypatch.setattr(writer, "LOOK", 3600.0)
    monkeypatch.setattr(writer, "marked_shards", lambda path: looks.append(path) or look(path))
    report = run(make_corpus(30, broken=(4,)), encoder, tmp_path / "s.zarr", shard_clips=1)
    assert (report.complete, report.failed) == (True, 1)
    assert len(looks) < 10  # not 30


HOLD = """
import sys
from pathlib import Path
from cache.writing.locks import StoreLocks

with StoreLocks(Path(sys.argv[1])) as locks:
    print(locks.join(), flush=True)
    sys.stdin.read()
"""


def test_a_store_of_nothing_is_left_to_another_that_writes_it(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus, store = make_corpus(3, broken=(0, 1, 2)), tmp_path / "s.zarr"
    command = [sys.executable, "-c", HOLD, str(store)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with pytest.raises(EmonetError, match="none of the 3 clips could be read"):
            run(corpus, encoder, store, max_failed=1.0)
        assert store.is_dir()
        other.communicate()
    with pytest.raises(EmonetError, match="none of the 3 clips could be read"):  # what that one would say
        run(corpus, encoder, store, max_failed=1.0)
    assert not store.exists()


def test_a_store_that_is_removed_meanwhile_is_an_error(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    store, calls = tmp_path / "s.zarr", []

    def remove(completed: int, total: int, note: str = "") -> None:
        calls.append(completed)
        if calls[-2:] == [total, total]:  # the last call
            shutil.rmtree(store)

    with pytest.raises(EmonetError, match="the feature store has been removed while it was written"):
        run(make_corpus(4), encoder, store, progress=remove)


def test_too_many_failures_stop_the_run_and_keep_what_is_finished(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    corpus, store = make_corpus(18, broken=(0, 7, 9, 10, 16)), tmp_path / "s.zarr"
    with pytest.raises(
        EmonetError, match=r"(?s)^4 of 18 clips could not be read.*t/007: 0 bytes.*max-failed"
    ) as stopped:
        run(corpus, encoder, store, max_failed=0.2)
    assert stopped.value.exit_code == 1
    finished = len(list((store / "shards").iterdir()))
    assert 1 <= finished <= 3  # the fourth shard has the clip that was one too many
    with pytest.raises(EmonetError, match="4 of 18"):  # those of the finished shards count
        run(corpus, encoder, store, max_failed=0.2)
    assert run(corpus, encoder, store, max_failed=0.3).failed == 5


class Trap(type(Path())):  # type: ignore[misc]
    """A path that does something in the process that unpickles it: the decoding worker."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return {"segfault": (signal.raise_signal, (signal.SIGSEGV,)), "hang": (time.sleep, (60,))}[self.name]


@pytest.mark.slow
def test_a_decoder_that_crashes_or_hangs_costs_its_clip(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    tones = make_corpus(10)
    traps = []
    for name in ("segfault", "hang"):
        (tmp_path / name).touch()
        traps.append(Clip(name, Trap(tmp_path / name), "t/train", "train"))
    corpus = Corpus("traps", (*tones.clips[:4], traps[0], *tones.clips[4:], traps[1]))
    report = run(corpus, encoder, tmp_path / "s.zarr", decode_timeout=1.0)
    assert {failure.id: failure.reason for failure in report.failures} == {
        "segfault": "the decoder crashed (signal 11, SIGSEGV)",
        "hang": "decoding took longer than 1 s",
    }
    assert FeatureStore.open(tmp_path / "s.zarr").rows().tolist() == [0, 1, 2, 3, *range(5, 11)]
    assert verify(tmp_path / "s.zarr", deep=True).problems == ()


def test_odd_recordings_are_read_or_listed_with_their_reason(
    corpora: Path, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    files = sorted(path for path in (corpora / "odd-audio").rglob("*") if path.is_file() and path.suffix != ".md")
    clips = tuple(Clip(str(file.relative_to(corpora)), file, "someone", "test") for file in files)
    report = run(Corpus("odd", clips), encoder, tmp_path / "s.zarr", max_failed=1.0)
    expected = {}
    for clip in clips:
        try:
            decode(clip.audio, seconds=1.0)
        except AudioError as error:
            expected[clip.id] = error.reason
    assert len(clips) > 50
    assert {failure.id: failure.reason for failure in report.failures} == expected
    assert 0 < len(expected) < len(clips)  # most are shorter than 0.1 s
    assert verify(tmp_path / "s.zarr", deep=True).problems == ()


def test_audio_in_memory_gives_the_states_of_its_file(
    make_corpus: Make, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    files = make_corpus(4)
    held = tuple(replace(clip, audio=Path(clip.audio).read_bytes()) for clip in files.clips)
    for name, corpus in (("files", files), ("held", Corpus("held", held))):
        run(corpus, encoder, tmp_path / f"{name}.zarr", workers=2)
    one, two = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("files", "held"))
    np.testing.assert_array_equal(one.read(range(4)), two.read(range(4)))
    assert one.clips.equals(two.clips)
