"""A small file in the form of EmoNet-Voice Bench, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from emonet.protocols import Bench, BenchSample, read_bench, write_bench_sample

TARGETS = ("hope", "distress", "sadness", "jealousy", "sexual_lust", "impatience", "authenticity", "arousal")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> BenchSample:
    """Eight of its categories, with short, long and URL-encoded names, and recordings rated for two categories."""
    return write_bench_sample(tmp_path_factory.mktemp("bench") / "bench.parquet", TARGETS, seconds=0.2)


@pytest.fixture(scope="session")
def bench(sample: BenchSample) -> Bench:
    return read_bench(Path(sample.path))
