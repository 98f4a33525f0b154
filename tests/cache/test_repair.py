from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from cache.extraction import extract
from cache.layout import shard_file
from cache.record import ExtractionRecord, marker_file
from cache.repair import RepairReport, Sources, repair
from cache.verify import verify
from emonet.clips import SPLITS, Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoder import FrozenEncoder
from emonet.errors import EmonetError, RequestError
from emonet.progress import Progress, silent
from tests.cache.test_locks import Other

ROOT = Path(__file__).parents[2]
CLIPS, SHARD, BROKEN = 10, 3, 4  # shards of rows 0-2, 3-5, 6-8 and 9; row 4 cannot be read


@dataclass(frozen=True)
class Made:
    """A store, and what it was made from."""

    path: Path
    corpus: Corpus
    encoder: FrozenEncoder

    @property
    def sources(self) -> Sources:
        return Sources(lambda record: self.corpus, lambda record: self.encoder)

    def repair(self, sources: Sources | None = None) -> RepairReport:
        return repair(self.path, sources or self.sources, nothing_shown)


@contextmanager
def nothing_shown(label: str, unit: str) -> Iterator[Progress]:
    yield silent


def refuse(record: ExtractionRecord) -> Any:
    raise AssertionError("not needed")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def times(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Ten tones, one of them a file without samples."""
    folder, clips = tmp_path_factory.mktemp("tones"), []
    for row in range(CLIPS):
        time = np.arange(round((0.3 + 0.07 * row) * 16_000)) / 16_000
        sf.write(folder / f"{row}.wav", 0.3 * np.sin(2 * np.pi * (120 + 30 * row) * time), 16_000)
        split = SPLITS[row % 3]
        clips.append(Clip(f"t/{row}", folder / f"{row}.wav", split, split, scores={"anger": float(row % 5)}))
    (folder / f"{BROKEN}.wav").write_bytes(b"")
    return Corpus("tones", tuple(clips))


@pytest.fixture(scope="module")
def whole(tones: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Extracts each kind of store once."""
    made: dict[tuple[str, str], Made] = {}

    def make(codec: str = "lossless", frames: str = "all") -> Made:
        if (codec, frames) not in made:
            encoder = FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu")
            path = tmp_path_factory.mktemp("whole") / "s.zarr"
            config = ExtractionConfig.model_validate(
                {"batch_size": 2, "shard_clips": SHARD, "codec": codec, "frames": frames, "workers": 1}
            )
            extract(tones, encoder, path, config, source=str(tiny_encoder))
            made[codec, frames] = Made(path, tones, encoder)
        return made[codec, frames]

    return make


@pytest.fixture
def made(whole: Callable[..., Made], tmp_path: Path) -> Made:
    """A lossless store of the test's own."""
    return copied(whole(), tmp_path)


def copied(made: Made, folder: Path) -> Made:
    path = folder / "s.zarr"
    shutil.copytree(made.path, path)
    return replace(made, path=path)


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def lose_shard_and_marker(path: Path) -> None:
    shard_file(path, 1).unlink()
    marker_file(path, 1).unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a chunk flipped": (lambda path: flip(shard_file(path, 1), 40), r"clip 't/3' cannot be read.*CRC"),
    "a bit of the index flipped": (lambda path: flip(shard_file(path, 1), -30), r"the index of its shard is damaged"),
    "a shard truncated": (lambda path: cut(shard_file(path, 1)), r"shard 1 .*its marker says"),
    "a marker without its shard": (lambda path: shard_file(path, 1).unlink(), r"shard 1 .*is missing, its marker"),
    "a shard without its marker": (lambda path: marker_file(path, 1).unlink(), r"marker of shard 1 cannot be read"),
    "a shard gone with its marker": (lose_shard_and_marker, r"marker of shard 1 cannot be read"),
    "a marker truncated": (lambda path: cut(marker_file(path, 1)), r"marker of shard 1 cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_only_that_shard_extracted_again(made: Made, name: str) -> None:
    damage, message = DAMAGE[name]
    before, untouched = contents(made.path), times(made.path)
    damage(made.path)
    found = verify(made.path, deep=True)
    assert found.exit_code == 1
    assert any(re.search(message, problem) for problem in found.problems)
    assert found.damaged == (1,)

    report = made.repair()
    assert (report.shards, report.clips, report.exit_code) == ((1,), ("t/3", "t/4", "t/5"), 0)
    assert set(report.problems) == set(found.problems)
    assert [failure.id for failure in report.failures] == ["t/4"]
    assert report.remaining == ()
    check_same(made, before, untouched, again={"states/c/1/0/0", "shards/00001.json", "clips.parquet"})


def check_same(made: Made, before: dict[str, bytes], untouched: dict[str, int], *, again: set[str]) -> None:
    """All files are as they were, byte for byte; only those in `again` were written."""
    assert contents(made.path) == before
    after = times(made.path)
    assert {name for name in after if after[name] != untouched[name]} == again
    assert verify(made.path, deep=True).problems == ()


@pytest.mark.parametrize(("codec", "frames"), [("int8", "all"), ("bfloat", "all"), ("none", "speech")])
def test_every_tier_is_repaired_bit_for_bit(whole: Any, tmp_path: Path, codec: str, frames: str) -> None:
    made = copied(whole(codec, frames), tmp_path)
    before, untouched = contents(made.path), times(made.path)
    array = "scales" if codec == "int8" else "states"
    flip(shard_file(made.path, 2, array), 3)
    assert verify(made.path, deep=True).damaged == (2,)
    report = made.repair()
    assert (report.shards, report.different) == ((2,), ())
    again = {"shards/00002.json", "clips.parquet", "states/c/2/0/0"} | ({"scales/c/2/0"} if codec == "int8" else set())
    check_same(made, before, untouched, again=again)


def test_the_marker_of_another_shard_does_not_count(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    shutil.copy(marker_file(made.path, 0), marker_file(made.path, 1))
    assert verify(made.path, deep=True).exit_code == 1
    assert made.repair().shards == (1,)
    check_same(made, before, untouched, again={"states/c/1/0/0", "shards/00001.json", "clips.parquet"})


def test_several_shards_at_once(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    flip(shard_file(made.path, 0), 100)
    shard_file(made.path, 3).unlink()
    report = made.repair()
    assert (report.shards, report.clips) == ((0, 3), ("t/0", "t/1", "t/2", "t/9"))
    again = {"clips.parquet", *(f"shards/0000{shard}.json" for shard in (0, 3))}
    check_same(made, before, untouched, again=again | {f"states/c/{shard}/0/0" for shard in (0, 3)})


def test_a_whole_store_is_left_alone(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    report = made.repair(Sources(refuse, refuse))
    assert (report.problems, report.shards, report.clips, report.exit_code) == ((), (), (), 0)
    check_same(made, before, untouched, again=set())


def test_a_lost_table_needs_no_encoder(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    (made.path / "clips.parquet").unlink()
    with pytest.raises(RequestError, match="did not finish"):
        verify(made.path)
    report = made.repair(replace(made.sources, encoder=refuse))
    assert report.problems == ("the table of clips is missing; 4 of 4 shards are there",)
    assert report.shards == ()
    check_same(made, before, untouched, again={"clips.parquet"})


@pytest.mark.parametrize("damage", [cut, lambda file: flip(file, -5), lambda file: file.write_bytes(b"")])
def test_a_damaged_table_needs_no_encoder(made: Made, damage: Callable[[Path], object]) -> None:
    before, untouched = contents(made.path), times(made.path)
    damage(made.path / "clips.parquet")
    with pytest.raises(EmonetError, match="table of clips is damaged"):
        verify(made.path)
    report = made.repair(replace(made.sources, encoder=refuse))
    assert report.problems == ("the table of clips is damaged",)
    check_same(made, before, untouched, again={"clips.parquet"})


def test_a_table_without_its_columns_is_written_again(made: Made) -> None:
    """One bit of the file's footer renames a column, and Parquet has no checksum for it."""
    before, untouched = contents(made.path), times(made.path)
    table = made.path / "clips.parquet"
    table.write_bytes(table.read_bytes().replace(b"failed", b"fayled"))
    report = made.repair(replace(made.sources, encoder=refuse))
    assert "the table of clips is damaged" in report.problems[0]
    check_same(made, before, untouched, again={"clips.parquet"})


def test_the_table_of_another_store_is_replaced(made: Made, whole: Any) -> None:
    before, untouched = contents(made.path), times(made.path)
    shutil.copy(whole("int8").path / "clips.parquet", made.path)
    assert verify(made.path).problems == ("the table's fingerprint is not that of the shards",)
    report = made.repair(replace(made.sources, encoder=refuse))
    assert report.shards == ()
    check_same(made, before, untouched, again={"clips.parquet"})


def test_without_table_and_with_a_flipped_bit(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    (made.path / "clips.parquet").unlink()
    flip(shard_file(made.path, 2), 40)
    report = made.repair()
    assert report.shards == (2,)
    assert len(report.problems) == 2
    check_same(made, before, untouched, again={"states/c/2/0/0", "shards/00002.json", "clips.parquet"})


def test_an_unfinished_store_is_completed(made: Made) -> None:
    before = contents(made.path)
    (made.path / "clips.parquet").unlink()
    shutil.rmtree(made.path / "shards")
    shard_file(made.path, 1).unlink()
    report = made.repair()
    assert report.shards == (0, 1, 2, 3)
    assert report.problems == ("the table of clips is missing; 0 of 4 shards are there",)
    assert contents(made.path) == before


def test_leftovers_and_metadata_need_neither_corpus_nor_encoder(made: Made) -> None:
    before, untouched = contents(made.path), times(made.path)
    (made.path / "states" / "c" / "1" / "0" / "0.123.partial").touch()
    (made.path / "states" / "zarr.json").write_text("{")
    report = made.repair(Sources(refuse, refuse))
    assert len(report.problems) == 2
    assert "metadata cannot be read" in report.problems[0]
    check_same(made, before, untouched, again={"states/zarr.json"})
    assert not list(made.path.parent.glob("*.partial"))


def test_another_corpus_is_refused_with_both_values(made: Made) -> None:
    flip(shard_file(made.path, 1), 40)
    before, other = contents(made.path), replace(made.corpus, clips=made.corpus.clips[:-1])
    with pytest.raises(RequestError, match=r"(?s)corpus_fingerprint: the store has.*clips: the store has 10, wanted 9"):
        made.repair(replace(made.sources, corpus=lambda record: other))
    (made.path / "clips.parquet").unlink()
    with pytest.raises(RequestError, match=r"(?s)clips: the store has 10, wanted 9.*--corpus SPEC"):
        made.repair(replace(made.sources, corpus=lambda record: other))
    assert contents(made.path) == {name: content for name, content in before.items() if name != "clips.parquet"}


def test_another_encoder_is_refused_with_both_values(made: Made, tiny_encoder: Path, tmp_path: Path) -> None:
    module = WhisperEncoder.from_pretrained(tiny_encoder)
    with torch.no_grad():
        module.layer_norm.bias.add_(0.5)
    module.save_pretrained(tmp_path / "other")
    other = FrozenEncoder.load(str(tmp_path / "other"), precision="float32", device="cpu")
    flip(shard_file(made.path, 1), 40)
    before = contents(made.path)
    with pytest.raises(RequestError, match=rf"(?s)encoder_digest: .*wanted {other.digest}.*--captioner SOURCE"):
        made.repair(replace(made.sources, encoder=lambda record: other))
    assert contents(made.path) == before


def test_states_that_come_out_otherwise_are_told(made: Made) -> None:
    """The marker's digest was of other bits, as if the first extraction had run on another machine."""
    marker = marker_file(made.path, 1)
    marker.write_text(re.sub(r'(?<="digest":")\w+', "0" * 64, marker.read_text()))
    report = made.repair()
    assert (report.shards, report.different) == ((1,), (1,))


def test_without_the_mean_of_silence_nothing_is_taken_away(whole: Any, tmp_path: Path) -> None:
    made = copied(whole("none", "speech"), tmp_path)
    flip(made.path / "silence" / "c" / "0" / "0", 9)
    before = contents(made.path)
    with pytest.raises(EmonetError, match=r"(?s)mean of silence cannot be read; every clip needs it.*--force"):
        made.repair()
    assert contents(made.path) == before


def test_a_store_that_another_process_writes_is_left_alone(made: Made) -> None:
    flip(shard_file(made.path, 1), 40)
    before, other = contents(made.path), Other(made.path)
    assert other.ask("join") == "True"
    with pytest.raises(EmonetError, match=r"another process is writing this store"):
        made.repair()
    assert contents(made.path) == before
    other.kill()
    assert made.repair().exit_code == 0


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from tests.cache.test_repair import killed_repair; killed_repair(*sys.argv[2:])
"""


def killed_repair(path: str, moment: str, corpus: str, encoder: str) -> None:
    """Repair, in a process of its own that dies just before it removes or renames the file of that number."""
    left = int(moment)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in {"os.remove", "os.rename"} and str(arguments[0]).startswith(path):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    loaded = FrozenEncoder.load(encoder, precision="float32", device="cpu")
    sources = Sources(lambda record: pickle.loads(Path(corpus).read_bytes()), lambda record: loaded)
    repair(Path(path), sources, nothing_shown)


# Before: a second marker, the table, a shard's file are removed; a shard, its marker, the table are put in place.
@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 2, 3, 9, 12, 20])
def test_killed_at_any_moment_it_is_never_taken_for_whole(
    made: Made, tiny_encoder: Path, tmp_path: Path, moment: int
) -> None:
    before = contents(made.path)
    flip(shard_file(made.path, 1), 40)
    flip(shard_file(made.path, 2), 40)
    (tmp_path / "corpus").write_bytes(pickle.dumps(made.corpus))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, ROOT, made.path, str(moment), tmp_path / "corpus", tiny_encoder],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    assert is_named(made.path)
    assert made.repair().exit_code == 0  # what the user types next gives the store as it was
    assert contents(made.path) == before
    assert not list(tmp_path.glob("*.partial"))


def is_named(path: Path) -> bool:
    """Whether a look at the store tells that it is not whole."""
    try:
        return verify(path, deep=True).exit_code == 1
    except RequestError as error:
        return "did not finish" in str(error)


@pytest.mark.parametrize("label", ["encoding", "reading"])
def test_after_an_interrupt_an_extraction_completes_it(made: Made, label: str) -> None:
    before = contents(made.path)
    flip(shard_file(made.path, 1), 40)
    looks: list[str] = []

    @contextmanager
    def interrupted(what: str, unit: str) -> Iterator[Progress]:
        looks.append(what)
        if what == label and "encoding" in looks:
            raise KeyboardInterrupt
        yield silent

    with pytest.raises(KeyboardInterrupt):
        repair(made.path, made.sources, interrupted)
    config = ExtractionConfig(batch_size=2, shard_clips=SHARD, workers=1)
    extract(made.corpus, made.encoder, made.path, config, source="the same")
    assert contents(made.path) == before
