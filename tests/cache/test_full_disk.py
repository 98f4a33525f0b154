"""A disk that is full, for real: a small file system, and a limit on the size of files."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.extraction import extract
from cache.maintenance import verify
from cache.store import read_attributes, readable_markers
from emonet.configs import ExtractionConfig
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]
CONFIG = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Write a file that takes all the space that is left."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20) if os.statvfs(disk).f_bavail > 256 else bytes(4096))


def test_a_full_disk_loses_nothing_that_was_finished(
    make_corpus: Make, tiny_encoder: Path, small_disk: Path, tmp_path: Path
) -> None:
    corpus, store = make_corpus(20), small_disk / "s.zarr"
    encoder = FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu")
    whole = extract(corpus, encoder, tmp_path / "whole.zarr", CONFIG, source="tiny")

    def fill_up(completed: int, total: int, note: str = "") -> None:
        if completed >= 9 and not (small_disk / "filler").exists():
            fill(small_disk)

    with pytest.raises(EmonetError, match=r"(?s)the disk is full; every finished shard is kept.*goes on where it st"):
        extract(corpus, encoder, store, CONFIG, source="tiny", progress=fill_up)
    record = read_attributes(store)[0]
    there = [*readable_markers(store, record)]
    assert 1 <= len(there) < record.shards
    before = {marker.shard: (store / "states" / "c" / str(marker.shard) / "0" / "0").read_bytes() for marker in there}

    with pytest.raises(EmonetError, match=r"(?s)too little space for the states.*GB free"):  # before it starts
        extract(corpus, encoder, store, CONFIG, source="tiny")
    (small_disk / "filler").unlink()
    report = extract(corpus, encoder, store, CONFIG, source="tiny")
    assert report.fingerprint == whole.fingerprint
    assert verify(store, deep=True).problems == ()
    for shard, content in before.items():
        assert (store / "states" / "c" / str(shard) / "0" / "0").read_bytes() == content


# Extracts until files may have no more than 200 bytes, says what happens, and goes on without the limit.
LIMITED = """
import resource, sys
from pathlib import Path
from cache.extraction import extract
from emonet.clips import Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders.whisper import FrozenEncoder
from emonet.errors import EmonetError

audio, weights, folder = map(Path, sys.argv[1:])
corpus = Corpus("tones", tuple(Clip(path.stem, path, "someone", "train") for path in sorted(audio.glob("*.wav"))))
encoder = FrozenEncoder.load(str(weights), precision="float32", device="cpu")
config = ExtractionConfig(batch_size=2, shard_clips=3, precision="float32")

def limit(completed, total, note=""):
    if completed >= 9:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))

whole = extract(corpus, encoder, folder / "whole.zarr", config, source="tiny")
try:
    extract(corpus, encoder, folder / "limited.zarr", config, source="tiny", progress=limit)
except EmonetError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("kept", len(list((folder / "limited.zarr" / "shards").iterdir())))
print("partial", len(list(folder.rglob("*partial*"))))
print("same", extract(corpus, encoder, folder / "limited.zarr", config, source="tiny").fingerprint == whole.fingerprint)
"""


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_as_clear(make_corpus: Make, tiny_encoder: Path, tmp_path: Path) -> None:
    make_corpus(20)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "audio"), str(tiny_encoder), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert said[0] == "a file would be larger than this process may write; every finished shard is kept"
    assert "ulimit -f" in done.stdout
    assert said[-2:] == ["partial 0", "same True"]
    assert 1 <= int(said[-3].split()[1]) < 7
