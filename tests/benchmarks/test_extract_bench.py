from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.budget import Plan, plan_runs
from benchmarks.extract import (
    OURS,
    PROBE,
    TODAY,
    Ours,
    main,
    matmul_rate,
    measure,
    missing_peers,
    open_peers,
    own_rows,
    probe,
    repeated,
    save_captioner,
    speed_rows,
)
from benchmarks.peers import MatmulRate, with_ctranslate2, with_transformers
from cache.store import FeatureStore
from emonet.audio import decode, pad
from emonet.clips import Clip, Corpus
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_captioner(tmp_path_factory.mktemp("captioner") / "whisper", width=64, layers=1)


@pytest.fixture
def corpus(make_wav: Callable[..., Path]) -> Corpus:
    lengths = (0.5, 1.0, 31.0)
    return Corpus(
        "tones",
        tuple(
            Clip(f"tone/{row}", make_wav(f"{row}.wav", seconds=seconds, hertz=200.0 + row), "tone/a", "train")
            for row, seconds in enumerate(lengths)
        ),
    )


@pytest.fixture
def short_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of products over a moment, for tests that are about something else."""
    monkeypatch.setattr(peers, "BURST", 0.01)
    monkeypatch.setattr(peers, "SQUARES", (64,))


@pytest.fixture
def expected(captioner: Path, corpus: Corpus) -> np.ndarray:
    """States in float32 arithmetic."""
    encoder = FrozenEncoder.load(str(captioner), precision="float32", device="cpu")
    heard = [decode(clip.audio, seconds=encoder.window.seconds).samples for clip in corpus.clips]
    return encoder(pad(heard, encoder.window)).numpy()


def written(folder: Path, clips: int) -> np.ndarray:
    return np.stack([np.load(folder / f"{position}.npz")["states"] for position in range(clips)])


def assert_close(found: np.ndarray, expected: np.ndarray, *, error: float) -> None:
    assert found.shape == expected.shape == (3, 1500, 64)
    assert found.dtype == np.float16
    difference = found.astype(np.float32) - expected
    assert np.sqrt(np.square(difference).mean()) < error * expected.astype(np.float32).std()


@pytest.mark.parametrize(("dtype", "batch_size", "error"), [(torch.float32, 1, 2e-3), (torch.bfloat16, 2, 0.05)])
def test_peers_with_transformers_keep_the_same_states(
    captioner: Path,
    corpus: Corpus,
    expected: np.ndarray,
    tmp_path: Path,
    dtype: torch.dtype,
    batch_size: int,
    error: float,
) -> None:
    with_transformers(captioner, CPU, dtype=dtype, batch_size=batch_size)(corpus.clips, tmp_path)
    assert_close(written(tmp_path, 3), expected, error=error)


def test_ctranslate2_keeps_the_same_states(
    captioner: Path, corpus: Corpus, expected: np.ndarray, tmp_path: Path
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    kind, peer, probed = with_ctranslate2(captioner, tmp_path, corpus.clips)
    assert set(probed) == ctranslate2.get_supported_compute_types("cpu")
    assert probed[kind] == min(probed.values()) > 0
    peer(corpus.clips, tmp_path)
    assert_close(written(tmp_path, 3), expected, error=0.1)


@pytest.mark.usefixtures("short_bursts")
def test_ours_is_extracted_anew_and_verified(
    captioner: Path, corpus: Corpus, expected: np.ndarray, tmp_path: Path
) -> None:
    ours = Ours(FrozenEncoder.load(str(captioner), device="cpu"), corpus, tmp_path)
    ours.run()
    ours.run()
    assert [report.clips for report in ours.reports] == [3, 3]
    for store in sorted(tmp_path.glob("*.zarr")):
        assert_close(FeatureStore.open(store).read(range(3)), expected, error=0.05)
    rate = matmul_rate(ours.encoder)
    rate.measure()
    rows = {row.name: row for row in own_rows(ours, rate)}
    assert rows["encoder alone"].figure == pytest.approx(
        rows["best matmul rate"].figure * rows["encoder alone"].ratio, rel=1e-6
    )
    assert 0 < rows["encoder at work"].figure <= 100


def test_a_store_that_is_not_whole_does_not_count(captioner: Path, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").touch()
    broken = Clip("tone/broken", tmp_path / "nothing.wav", "tone/a", "train")
    many = repeated(corpus, 6)
    ours = Ours(FrozenEncoder.load(str(captioner), device="cpu"), Corpus("broken", (*many.clips, broken)), tmp_path)
    with pytest.raises(EmonetError, match=r"(?s)not whole.*failed clips"):
        ours.run()


@pytest.mark.usefixtures("short_bursts")
def test_everyone_takes_turns(captioner: Path, corpus: Corpus, tmp_path: Path) -> None:
    ours = Ours(FrozenEncoder.load(str(captioner), device="cpu"), corpus, tmp_path)
    heard: list[tuple[int, Path]] = []
    others = {name: lambda clips, folder: heard.append((len(clips), folder)) for name in ("a", "b")}
    rate = MatmulRate(CPU, torch.float32, frames=8, width=8)
    taken = measure(ours, others, rate, runs=2)
    assert {name: len(seconds) for name, seconds in taken.items()} == {OURS: 2, "a": 2, "b": 2}
    assert [clips for clips, _ in heard] == [3, 3, 3, 3]
    assert len({folder for _, folder in heard}) == 2
    assert len(ours.reports) == 2


@pytest.mark.usefixtures("short_bursts")
def test_the_probe_does_not_do_the_work_of_the_first_run(captioner: Path, corpus: Corpus, tmp_path: Path) -> None:
    """With a single clip it would be the same store, found complete."""
    encoder, single = FrozenEncoder.load(str(captioner), device="cpu"), Corpus("single", corpus.clips[:1])
    heard: list[int] = []
    peers = {"slow": lambda clips, folder: heard.append(len(clips)) or time.sleep(0.05)}
    probed = probe(Ours(encoder, single, tmp_path / PROBE), peers)
    assert set(probed) == {OURS, "slow"}
    assert probed["slow"] >= 0.05
    ours = Ours(encoder, single, tmp_path)
    measure(ours, peers, MatmulRate(CPU, torch.float32, frames=8, width=8), runs=1)
    assert heard == [1, 1]
    assert ours.reports[0].encoder_tflops > 0
    assert len(list(tmp_path.rglob("*.zarr"))) == 2


def test_who_is_too_slow_for_the_time_is_left_out_slowest_first() -> None:
    probed = {OURS: 2.7, TODAY: 3.2, "bf16, 4": 24.1, "bf16, 8": 25.3, "CTranslate2": 2.5}  # on AVX2
    assert plan_runs(probed, keep=OURS, seconds=480, clips=24, runs=3) == Plan(
        clips=8, left_out={"bf16, 8": 25.3, "bf16, 4": 24.1}
    )
    assert plan_runs(probed, keep=OURS, seconds=1500, clips=24, runs=3) == Plan(8, {"bf16, 8": 25.3})
    assert plan_runs(probed, keep=OURS, seconds=6000, clips=24, runs=3) == Plan(24, {})
    assert plan_runs(probed, keep=OURS, seconds=3600, clips=24, runs=3) == Plan(16, {})


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1.0])
def test_with_no_time_left_ours_runs_alone_over_one_clip(seconds: float) -> None:
    plan = plan_runs({OURS: 2.0, "other": 1.0}, keep=OURS, seconds=seconds, clips=24, runs=3)
    assert plan == Plan(1, {"other": 1.0})


def test_few_clips_are_all_taken_where_they_fit() -> None:
    assert plan_runs({OURS: 1.0, "other": 1.0}, keep=OURS, seconds=600, clips=2, runs=1) == Plan(2, {})


def test_a_peer_that_is_not_installed_is_left_out(
    captioner: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)  # importing it fails, as where it is not installed
    assert missing_peers(CPU) == ["CTranslate2: ctranslate2 is not installed"]
    assert missing_peers(torch.device("cuda")) == []
    opened, probed = open_peers(captioner, tmp_path, CPU, corpus)
    assert list(opened) == [TODAY, "bf16, 4 at a time", "bf16, 8 at a time"]
    assert probed == {}


def test_rows_compare_seconds_so_that_higher_is_better() -> None:
    rows = speed_rows({OURS: 1.0, TODAY: 2.5, "bf16, 4 at a time": 0.9, "CTranslate2, int8": 3.0}, 0.8, "cpu")
    compared = {row.peer: (row.ratio, row.reach, row.verdict) for row in rows if row.peer}
    assert compared == {
        TODAY: (2.5, 3.5, "short"),
        "bf16, 4 at a time": (0.9, 1.0, "short"),
        "CTranslate2, int8": (3.0, 1.0, "met"),
        "the machine's limit": (0.8, 0.6, "met"),
    }
    assert speed_rows({OURS: 1.0}, 0.5, "cuda")[0].reach == 0.45


def test_the_matmul_rate_is_a_rate() -> None:
    rate = MatmulRate(CPU, torch.float32, frames=64, width=32)
    rate.measure()
    assert set(rate.medians()) >= {"64x32x32", "64x32x128", "64x128x32", "1024x1024x1024"}
    assert rate.best == max(rate.medians().values())
    assert 1e9 < rate.best < 1e14


def test_clips_are_repeated_under_other_ids(corpus: Corpus) -> None:
    more = repeated(corpus, 7)
    assert len({clip.id for clip in more.clips}) == 7
    assert [clip.audio for clip in more.clips[3:6]] == [clip.audio for clip in corpus.clips]
    assert len(repeated(corpus, 2)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("short_bursts")
def test_the_benchmark_runs(corpora: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    out = tmp_path / "extract.json"
    spec = f"ravdess:{corpora / 'ravdess'}"
    main(
        [
            "--corpus",
            spec,
            "--clips",
            "2",
            "--runs",
            "1",
            "--width",
            "64",
            "--layers",
            "1",
            "--device",
            "cpu",
            "--out",
            str(out),
        ]
    )
    content = json.loads(out.read_text())
    against = [row["peer"] for row in content["rows"] if row["reach"] is not None]
    assert against[:3] == [TODAY, "bf16, 4 at a time", "bf16, 8 at a time"]
    assert against[3].startswith("CTranslate2, ")
    assert against[4] == "the machine's limit"
    assert set(content["about"]["versions"]) == {"torch", "transformers", "ctranslate2"}
    assert all(len(seconds) == 1 for seconds in content["about"]["seconds of each run"].values())
