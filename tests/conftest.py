"""What all tests share: the folder of real corpora, and recordings made on the spot."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import settings

from cache.store import ExtractionRecord
from cache.writing import StoreWriter
from emonet.clips import Corpus
from emonet.targets import EMOTIONS
from tests.browsers import browser
from tests.buckets import bucket, fresh_decoders, s3, s3_server
from tests.databases import postgres
from tests.hub_server import hub

__all__ = ["browser", "bucket", "fresh_decoders", "hub", "postgres", "s3", "s3_server"]  # fixtures of other files
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for a network
# Machines are noisy, and a hang is pytest-timeout's business; the same examples each time, so that no luck is needed.
settings.register_profile("emonet", deadline=None, derandomize=True)
settings.load_profile("emonet")
ROOT = Path(__file__).parent.parent
VOICE_TARGETS = ("anger", "fear", "sadness")
CORPORA = ROOT.parent / "shared" / "corpora"
MODELS = ROOT.parent / "shared" / "models"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU skip where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped and why, with counts."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", ())]
    reasons = Counter(str(why[2] if isinstance(why, tuple) else why).removeprefix("Skipped: ") for why in skipped)
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:4d}  {reason}")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same random numbers for each test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the state that libraries use
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def chance() -> random.Random:
    """When to kill: any moment. The seed is printed, and as EMONET_TEST_SEED in the environment it gives the same."""
    seed = int(os.environ.get("EMONET_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"EMONET_TEST_SEED={seed}")  # pytest shows it with a failure
    return random.Random(seed)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Real speech beside the checkout; a test that needs it skips where it is absent."""
    if not CORPORA.is_dir():
        pytest.skip(f"no corpora at {CORPORA}")
    return CORPORA


@pytest.fixture(scope="session")
def whisper_base() -> Path:
    """OpenAI's Whisper base in a folder beside the checkout; a test that needs it skips where it is absent."""
    folder = MODELS / "whisper-base"
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    return folder


@pytest.fixture
def make_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording: a tone with a little noise."""

    def make(name: str = "a.wav", *, seconds: float = 1.0, hertz: float = 220.0, rate: int = 16_000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(round(hertz)).normal(0, 0.01, len(time))
        sf.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) + noise, rate)
        return path

    return make


@pytest.fixture(scope="session")
def fill_store() -> Callable[..., str]:
    """Write a store by hand, as an extraction does; returns its fingerprint."""

    def fill(
        path: Path,
        record: ExtractionRecord,
        corpus: Corpus,
        states: np.ndarray,
        *,
        failed: Mapping[int, str] = MappingProxyType({}),
        seconds: Callable[[int], float] = lambda row: 0.5,
        **options: Any,
    ) -> str:
        with StoreWriter(path, record, corpus, **options) as writer:
            for shard in writer.claims():
                sink = writer.begin(shard)
                for position, row in enumerate(sink.rows):
                    if row in failed:
                        sink.fail(position, failed[row])
                    else:
                        sink.put(position, states[row], seconds(row))
                sink.commit()
            return writer.finish()

    return fill


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database, made once: its migrations take seconds."""
    from mlflow import MlflowClient

    from emonet.tracking import default_uri

    runs = tmp_path_factory.mktemp("tracking")
    MlflowClient(tracking_uri=default_uri(runs)).search_experiments(max_results=1)
    return runs / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, empty_tracking: Path) -> Path:
    """A `runs` folder of its own, its tracking database ready."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_tracking, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="session")
def voice_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a random encoder with a window of 1 s, and of three experts on its states."""
    from emonet.checkpoints import ExpertsInfo
    from emonet.checkpoints.files import save_bank
    from emonet.configs import HIDDEN
    from emonet.encoders import FrozenEncoder
    from emonet.experts import ExpertBank, InputSpec
    from tests.tiny import write_encoder

    folder = tmp_path_factory.mktemp("parts")
    encoder = FrozenEncoder.load(str(write_encoder(folder / "encoder")))
    spec = InputSpec("statistics", "speech", encoder.window.frames, encoder.width)
    bank = ExpertBank(spec, EMOTIONS.subset(VOICE_TARGETS).ids, HIDDEN["small"], seed=0)
    info = ExpertsInfo(
        targets=EMOTIONS.subset(VOICE_TARGETS).to_json(),
        form="statistics",
        pool_over="speech",
        queries=spec.queries,
        window_seconds=encoder.window.seconds,
        frames=spec.frames,
        width=spec.width,
        hidden=HIDDEN["small"],
        encoder_digest=encoder.digest,
        store_fingerprint="0" * 64,
    )
    save_bank(bank, info, folder / "experts")
    return folder / "encoder", folder / "experts"


@pytest.fixture(scope="session")
def voice(voice_parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole voice model."""
    from emonet.inference import assemble

    return assemble(*voice_parts, tmp_path_factory.mktemp("model") / "voice")


@pytest.fixture(scope="session")
def ensemble_voice(voice_parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a voice model with three experts of each target, the first of which are those of `voice`.

    Intervals of anger are twice the spread, those of fear 1.5 times; sadness has none.
    """
    from emonet.checkpoints import ExpertsInfo, read_info
    from emonet.checkpoints.files import save_bank
    from emonet.experts import ExpertBank
    from emonet.inference import assemble

    encoder, experts = voice_parts
    several = {"ensemble": 3, "intervals": {"factors": {"anger": 2.0, "fear": 1.5}}}
    info = ExpertsInfo.model_validate({**read_info(experts).model_dump(), **several})
    folder = tmp_path_factory.mktemp("ensemble")
    save_bank(ExpertBank(info.spec, info.experts, info.hidden, seed=0), info, folder / "experts")
    return assemble(encoder, folder / "experts", folder / "voice")


@pytest.fixture(scope="session")
def knowing_voice(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`voice` with a reference population of anger and fear, and training clips that no recording is like."""
    from emonet.checkpoints import INFO, ExpertsInfo, Population, fit_familiarity, read_info

    folder = shutil.copytree(voice, tmp_path_factory.mktemp("knowing") / "voice")
    info = read_info(folder / "experts")
    population = Population(medians={"anger": 0.5, "fear": -40.0}, deviations={"anger": 0.25, "fear": 2.0}, clips=9)
    knowing = ExpertsInfo.model_validate({**info.model_dump(), "population": population})
    (folder / "experts" / INFO).write_text(knowing.model_dump_json(), "utf-8")
    clips = np.random.default_rng(0).normal(50, 1, (60, info.width)).astype(np.float32)
    familiarity = fit_familiarity(clips[:40], clips[40:], info.spec)
    assert familiarity is not None
    familiarity.write(folder / "experts")
    return folder


@pytest.fixture(scope="session")
def whisper30(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random encoder with the window of published ones, 30 s, and 16 values per state."""
    from tests.tiny import write_encoder

    shape = {"d_model": 16, "encoder_ffn_dim": 32, "max_source_positions": 1500}
    return write_encoder(tmp_path_factory.mktemp("whisper30"), seed=1, **shape)


@pytest.fixture(scope="session")
def write_published() -> Callable[..., Path]:
    """Write one expert as its publishers do: the state dict of a `FullEmbeddingMLP`, built here from torch's layers."""
    import torch
    from torch import nn

    def write(
        folder: Path,
        name: str,
        *,
        inputs: int = 1500 * 16,
        hidden: tuple[int, ...] = (64, 64, 32, 16),
        compiled: bool = False,
        **changed: Any,
    ) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(sum(map(ord, name)))
            model = nn.Module()
            model.proj = nn.Linear(inputs, hidden[0])
            layers: list[nn.Module] = []
            for before, after in zip(hidden, (*hidden[1:], 1), strict=True):
                layers += [nn.ReLU(), nn.Dropout(0.1), nn.Linear(before, after)]
            model.mlp = nn.Sequential(*layers)
        state = {f"{'_orig_mod.' if compiled else ''}{key}": tensor for key, tensor in model.state_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"model_{name}_best.pth"
        torch.save({**state, **changed}, path)
        return path

    return write
