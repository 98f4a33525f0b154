from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache
from benchmarks import states as states_module
from benchmarks.cache import Outcome, aims, comparisons, figures, opening_rows, points
from benchmarks.formats import BATCH, Decoded, Format, Reader, Rows, WebDatasetReader, peers
from benchmarks.frontier import Point, frontier_figure
from benchmarks.measure import Measured, Pass, first_pass, losses, read_pass, write_pass
from benchmarks.ours import metadata_store, tiers
from benchmarks.states import StateSet, default_corpus, make, spread
from cache.store import FeatureStore
from emonet.clips import SPLITS, Clip, Corpus
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError
from emonet.runtime import durable
from tests.tiny import random_encoder

CLIPS = BATCH + 5  # more than one batch, and the last one shorter
LILCOM_ERROR = 2.0**-6  # half a step of 2^-5, its default accuracy
# WebDataset leaves closing its tar files to the garbage collector.
leaks_files = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    return FrozenEncoder(random_encoder(), precision="float32")


@pytest.fixture
def corpus(make_wav: Callable[..., Path]) -> Corpus:
    """Tones of 0.2 to 1.1 s."""
    lengths = [0.2 + 0.025 * row for row in range(CLIPS)]
    return Corpus(
        "tones",
        tuple(
            Clip(
                f"tone/{row}",
                make_wav(f"{row}.wav", seconds=seconds, hertz=100.0 + 10 * row),
                f"tone/{SPLITS[row % 3]}",
                SPLITS[row % 3],
                scores={"anger": row % 5},
                seconds=seconds,
            )
            for row, seconds in enumerate(lengths)
        ),
    )


@pytest.fixture
def subject(encoder: FrozenEncoder, corpus: Corpus, tmp_path: Path) -> StateSet:
    return make("tones", "tones through a tiny encoder", encoder, corpus, tmp_path / "bench")


def filled(one: Format, states: np.ndarray, folder: Path) -> Path:
    if one.missing:
        pytest.skip(f"{one.package} is not installed")
    folder.mkdir()
    one.write(folder, states)
    return folder


@leaks_files
@pytest.mark.parametrize("one", peers(), ids=lambda one: one.name)
def test_each_peer_gives_back_what_it_stores(one: Format, subject: StateSet, tmp_path: Path) -> None:
    states = np.load(subject.file)
    folder = filled(one, states, tmp_path / "peer")
    reader = one.reader(folder)
    assert len(reader) == CLIPS
    rows = np.arange(3) if one.name == "WebDataset" else np.array([7, 0, CLIPS - 1, 7])
    tolerance = 0.0 if one.exact else LILCOM_ERROR
    for given, expected in (
        (reader.read(rows), states[rows]),
        (np.concatenate(list(reader.sequential())), states),
    ):
        assert given.shape == expected.shape
        np.testing.assert_allclose(given.astype(np.float32), expected.astype(np.float32), rtol=0, atol=tolerance)
    reader.close()
    assert one.version.split()[0] == (one.package or "numpy")


@leaks_files
@pytest.mark.parametrize("one", peers(), ids=lambda one: one.name)
def test_a_shuffled_pass_has_each_clip_once_in_an_order_that_follows_the_seed(
    one: Format, subject: StateSet, tmp_path: Path
) -> None:
    marked = np.load(subject.file)
    marked[:, 0, 0] = np.arange(CLIPS)  # lilcom keeps whole numbers
    reader = one.reader(filled(one, marked, tmp_path / "peer"))
    orders = [np.concatenate([batch[:, 0, 0] for batch in reader.shuffled(seed)]).tolist() for seed in (0, 0, 1)]
    reader.close()
    assert sorted(orders[0]) == list(range(CLIPS)) != orders[0]
    assert orders[0] == orders[1] != orders[2]


def test_a_stream_refuses_single_rows(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no single rows"):
        WebDatasetReader(tmp_path).read(np.array([3, 1]))


def test_compression_makes_states_smaller(subject: StateSet, tmp_path: Path) -> None:
    sizes = {}
    for one in peers():
        if not one.missing and "lists" not in one.name:
            folder = filled(one, np.load(subject.file), tmp_path / one.name.replace(" ", "-"))
            sizes[one.name] = sum(file.stat().st_size for file in folder.iterdir())
    for smaller, larger in ((".npz per clip, compressed", ".npz per clip"), ("HDF5, gzip 9", "HDF5, raw")):
        if larger in sizes:
            assert sizes[smaller] < sizes[larger]
    assert sizes["np.memmap"] == pytest.approx(np.load(subject.file).nbytes, abs=200)


@pytest.mark.parametrize("name", ["none", "lossless", "bfloat", "int8", "lossless, speech"])
def test_each_tier_gives_back_what_it_stores(name: str, subject: StateSet, tmp_path: Path) -> None:
    one = next(tier for tier in tiers(subject) if tier.name == f"emonet {name}")
    folder = filled(one, np.load(subject.file), tmp_path / "ours")
    largest, rms = losses(one, subject.file, folder)
    assert (largest == 0.0) == one.exact
    assert rms <= largest
    if name in {"bfloat", "int8"}:
        assert largest < 0.02 * np.abs(np.load(subject.file)).max()
    if name == "lossless, speech":  # what hears the clip is exact, the rest reads as silence
        reader, states = one.reader(folder), np.load(subject.file)
        heard = [round(clip.seconds * 50 - 0.49) for clip in subject.corpus.clips]
        for row, read in enumerate(reader.read(np.arange(CLIPS))):
            np.testing.assert_array_equal(read[: heard[row]], states[row, : heard[row]])
            np.testing.assert_array_equal(read[heard[row] + 1 :], subject.load_silence()[heard[row] + 1 :])
    assert one.loader is not None
    batches = list(one.loader(folder, 1, 8))
    assert sum(len(batch) for batch in batches) == CLIPS


def test_states_are_made_once_and_a_killed_run_goes_on(encoder: FrozenEncoder, corpus: Corpus, tmp_path: Path) -> None:
    whole = make("tones", "", encoder, corpus, tmp_path / "whole")
    assert np.load(whole.file).shape == (CLIPS, 50, 32)
    assert whole.load_silence().shape == (50, 32)
    assert whole.seconds() == [min(clip.seconds, 1.0) for clip in corpus.clips]
    killed = tmp_path / "killed"
    killed.mkdir()
    partial = killed / (whole.file.name + durable.PARTIAL)
    partial.write_bytes(whole.file.read_bytes()[: 128 + 16 * 50 * 32 * 2 + 77])  # 16 clips and a bit
    calls: list[int] = []
    resumed = make(
        "tones", "", encoder, corpus, killed, progress=lambda completed, total, note="": calls.append(completed)
    )
    assert calls[0] == 16
    np.testing.assert_array_equal(np.load(resumed.file), np.load(whole.file))
    assert not partial.exists()
    calls.clear()
    make("tones", "", encoder, corpus, killed, progress=lambda completed, total, note="": calls.append(completed))
    assert not calls


def test_clips_are_taken_from_all_over_a_corpus(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert [clip.id for clip in spread(corpus, 3).clips] == ["tone/0", "tone/18", f"tone/{CLIPS - 1}"]
    assert len(spread(corpus, 1000)) == CLIPS
    monkeypatch.chdir(tmp_path)
    assert default_corpus() == "ravdess:data/ravdess"
    (tmp_path / "data" / "ravdess").mkdir(parents=True)
    assert default_corpus() == "ravdess:data/ravdess"
    monkeypatch.setattr(states_module, "_RAVDESS", (Path("absent"), Path("data/ravdess")))
    assert default_corpus() == "ravdess:data/ravdess"


@pytest.mark.slow
def test_passes_count_clips_and_leave_the_process_as_it_was(subject: StateSet, tmp_path: Path) -> None:
    one, cores = peers()[0], os.sched_getaffinity(0)
    written = write_pass(one, subject.file, tmp_path / "memmap")
    assert written.clips == CLIPS
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith("tmp")] == []
    for mode in ("random", "cold", "one core", "sequential"):
        done = read_pass(one, tmp_path / "memmap", mode, seed=0)
        assert done.clips == CLIPS
        assert done.seconds > 0
        assert done.opening > 0
    assert os.sched_getaffinity(0) == cores


@pytest.mark.slow
def test_peak_memory_is_that_of_the_pass(tmp_path: Path) -> None:
    """A batch of 32 MB and the clips it is put together from, however much the process held before."""
    np.save(tmp_path / "states.npy", np.zeros((4, 4000, 1000), np.float16))
    held = np.ones(50_000_000, np.uint8)
    npz = peers()[1]
    write_pass(npz, tmp_path / "states.npy", tmp_path / "npz")
    peak = first_pass(npz, tmp_path / "npz").peak
    assert 60e6 < peak < 80e6
    del held


class Forgetful(Reader):
    """Loses the last clip, or a bit of the first one."""

    def __init__(self, folder: Path) -> None:
        self._states = np.load(folder / "states.npy")
        self._changed = (folder / "changed").exists()

    def __len__(self) -> int:
        return len(self._states)

    def read(self, rows: Rows) -> Decoded:
        return self._states[rows]

    def sequential(self) -> Iterator[Decoded]:
        states = self._states.copy()
        if self._changed:
            states.view(np.uint16)[0, 0, 0] ^= 1
            yield states
        else:
            yield states[:-1]

    def close(self) -> None: ...


def test_a_format_that_loses_something_is_found_out(subject: StateSet, tmp_path: Path) -> None:
    one = replace(peers()[0], name="forgetful", reader=Forgetful)
    one.write(tmp_path, np.load(subject.file))
    with pytest.raises(EmonetError, match=rf"lost clips(.|\n)*expected: *{CLIPS}\n *found: *{CLIPS - 1}"):
        losses(one, subject.file, tmp_path)
    (tmp_path / "changed").touch()
    with pytest.raises(EmonetError, match="an exact format changed the states"):
        losses(one, subject.file, tmp_path)
    assert losses(replace(one, exact=False), subject.file, tmp_path)[0] > 0


def test_a_store_of_metadata_opens_and_reads(subject: StateSet, tmp_path: Path) -> None:
    path = metadata_store(tmp_path, subject, 5000)
    store = FeatureStore.open(path)
    assert len(store) == 5000
    np.testing.assert_array_equal(store.read(range(CLIPS)), np.load(subject.file))
    assert len(store.clips) == store.clips["id"].nunique() == 5000


def test_opening_is_compared_between_sizes(subject: StateSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cache.CLIPS", (100, 20_000))
    rows = list(opening_rows(subject, tmp_path, repeats=2))
    assert [row.name for row in rows] == ["open, 20,000 rows", "open and read 32 clips, 20,000 rows"]
    assert all(row.peer == "100 rows" and row.reach == 0.5 and row.ratio for row in rows)


def outcome(subject: StateSet) -> Outcome:
    """As measured; lossless reads 3 times as fast as each peer, and has 0.9 of their size."""
    measured = []
    for one in [*peers(), *tiers(subject)]:
        rate = 3000.0 if one.name == "emonet lossless" else 1000.0
        known = Measured(one, Path(), stored=CLIPS * (900 if one.name == "emonet lossless" else 1000))
        known.writing = [Pass(CLIPS, CLIPS / rate, 0.0, 1, 0)]
        known.first = [Pass(CLIPS, 1.0, 0.001, 2_000_000, 1_000_000)]
        passes = [Pass(CLIPS, CLIPS / rate, 0.001, 0, 0), Pass(CLIPS, 100.0, 1.0, 0, 0), Pass(CLIPS, 1e-9, 1e-9, 0, 0)]
        known.reading = dict.fromkeys(("random", "cold", "one core", "sequential"), passes)
        if one.loader is not None:
            known.reading["loader"] = [Pass(CLIPS, CLIPS / rate * 1.25, 0.0, 0, 0)]
        measured.append(known)
    return Outcome(subject, (CLIPS, 50, 32), measured)


def test_rows_hold_the_aims(subject: StateSet) -> None:
    rows = {(row.name, row.peer): row for row in aims(outcome(subject))}
    size = rows["tones: size, lossless", "np.memmap"]
    assert (size.figure, size.ratio, size.reach) == (900.0, pytest.approx(1 / 0.9), 0.98)
    for peer in ("HDF5, gzip 9", "datasets, Array2D"):
        row = rows["tones: random reads, lossless", peer]
        assert (row.figure, row.ratio, row.reach, row.verdict) == (3000.0, pytest.approx(3.0), 2.0, "met")
    assert rows["tones: random reads, none", "np.memmap"].ratio == pytest.approx(1.0)
    assert rows["tones: shuffled loader, none", "reads in order"].ratio == pytest.approx(0.8)
    assert rows["tones: shuffled loader, none", "reads in order"].verdict == "short"
    assert all(row.reach is not None for row in rows.values())


def test_rows_compare_the_default_tier_with_every_library(subject: StateSet) -> None:
    rows = list(comparisons(outcome(subject)))
    assert {row.peer for row in rows} == {one.name for one in peers() if one.main}
    assert [row.ratio for row in rows if "size" not in row.name] == pytest.approx([3.0] * (5 * len(rows) // 6))
    assert len({(row.name, row.peer) for row in rows}) == len(rows)


def test_every_figure_is_kept(subject: StateSet) -> None:
    kept = figures(outcome(subject))["emonet lossless"]
    assert kept["bytes/clip"] == 900
    assert kept["share of raw"] == round(900 / 3200, 4)
    assert kept["write MB/s"] == 9.6
    assert kept["random clips/s"] == 3000.0
    assert kept["open ms"] == 1.0
    assert kept["peak memory reading MB"] == 2.0
    assert kept["of which mapped MB"] == 1.0


def test_the_frontier_is_drawn(subject: StateSet, tmp_path: Path) -> None:
    drawn = points(outcome(subject))
    assert {point.name for point in drawn if point.ours} == {one.name for one in tiers(subject)}
    path = tmp_path / "images" / "frontier.png"
    frontier_figure({"one": drawn, "two": [Point("alone", 1e6, 10.0, ours=True, exact=True)]}, path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def few_formats(monkeypatch: pytest.MonkeyPatch, encoder: FrozenEncoder) -> None:
    """One peer, two tiers, one small encoder: each format costs two processes."""
    monkeypatch.setattr(cache, "peers", lambda: peers()[:1])
    monkeypatch.setattr(cache, "tiers", lambda subject: tiers(subject)[:2])
    monkeypatch.setattr(cache, "small_whisper", lambda: encoder)


def options(corpus: Corpus, tmp_path: Path) -> list[str]:
    manifest = tmp_path / "clips.csv"
    lines = [f"{clip.audio},{clip.speaker},{clip.split}" for clip in corpus.clips]
    manifest.write_text("\n".join(["audio,speaker,split", *lines]))
    words = ["--corpus", f"manifest:{manifest}", "--folder", str(tmp_path / "bench"), "--clips", "12"]
    return [*words, "--writes", "1", "--rounds", "2", "--captioner", str(tmp_path / "captioner")]


@pytest.mark.slow
@pytest.mark.usefixtures("few_formats")
def test_the_benchmark_runs_and_writes_its_files(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "CLIPS", (100, 1000))
    image = tmp_path / "images" / "frontier.png"
    cache.main([*options(corpus, tmp_path), "--image", str(image)])
    written = json.loads((tmp_path / "bench" / "cache.json").read_text())
    assert list(written["about"]["sets"]) == ["small"]
    assert written["about"]["sets"]["small"]["shape"] == [12, 50, 32]
    assert "make pretrain EXPERIMENT=ravdess" in written["about"]["left out"][0]
    known = written["about"]["measured"]["small"]
    assert list(known) == ["np.memmap", "emonet none", "emonet lossless"]
    assert known["np.memmap"]["bytes/clip"] == round(50 * 32 * 2 + 128 / 12)
    assert known["emonet lossless"]["loader clips/s"] > 0 == known["emonet lossless"]["largest error"]
    assert {"small: size, lossless", "open, 1,000 rows"} <= {row["name"] for row in written["rows"]}
    assert image.read_bytes() == (tmp_path / "bench" / "cache.png").read_bytes()
    assert not [path for path in (tmp_path / "bench").iterdir() if path.is_dir()]
    shown = capsys.readouterr()
    assert "small: 12 clips of 50 x 32" in shown.out
    assert "left out: the states of a trained captioner" in shown.err


@pytest.mark.usefixtures("few_formats")
def test_a_trained_captioner_gives_a_set_of_its_own(corpus: Corpus, encoder: FrozenEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "captioner")
    given = cache.command_line().parse_args(options(corpus, tmp_path))
    captioner, small = cache.state_sets(given)
    assert (captioner.name, len(captioner.corpus)) == ("captioner", CLIPS)
    assert (small.name, len(small.corpus)) == ("small", 12)
    assert "random weights (seed 0)" in small.about
