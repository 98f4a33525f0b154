from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from cache.extraction import extract
from cache.maintenance import Sources, repair, verify
from cache.store import ExtractionRecord, FeatureStore, marker_file, shard_file
from emonet.configs import ExtractionConfig
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Progress, ignore
from tests.cache.maintenance.damage import CLIPS, SHARD, Made, check_same, contents, copied, cut, flip, times
from tests.cache.writing.test_locks import Other

pytestmark = pytest.mark.numeric


def refuse(record: ExtractionRecord) -> Any:
    raise AssertionError("not needed")


def lose_shard_and_marker(path: Path, shard: int) -> None:
    shard_file(path, shard).unlink()
    marker_file(path, shard).unlink()


# What may happen to a shard; {} stands for its number.
DAMAGE: dict[str, tuple[Callable[[Path, int], object], str]] = {
    "a bit of a chunk flipped": (lambda path, shard: flip(shard_file(path, shard), 40), r"clip .* cannot be read.*CRC"),
    "a bit of the index flipped": (
        lambda path, shard: flip(shard_file(path, shard), -30),
        r"index of its shard is damaged",
    ),
    "a shard truncated": (lambda path, shard: cut(shard_file(path, shard)), r"shard {} .*its marker says"),
    "a marker without its shard": (
        lambda path, shard: shard_file(path, shard).unlink(),
        r"shard {} .*is missing, its marker",
    ),
    "a shard without its marker": (
        lambda path, shard: marker_file(path, shard).unlink(),
        r"marker of shard {} cannot be read",
    ),
    "a shard gone with its marker": (lose_shard_and_marker, r"marker of shard {} cannot be read"),
    "a marker truncated": (lambda path, shard: cut(marker_file(path, shard)), r"marker of shard {} cannot be read"),
}


@pytest.mark.parametrize(
    "names",
    [
        {1: "a bit of a chunk flipped"},
        {0: "a bit of the index flipped", 1: "a shard truncated", 2: "a shard gone with its marker"},
        {1: "a marker without its shard", 2: "a shard without its marker", 3: "a marker truncated"},
    ],
    ids=lambda names: ", ".join(names.values()),
)
def test_damage_is_named_and_only_its_shards_extracted_again(made: Made, names: dict[int, str]) -> None:
    before, untouched = contents(made.path), times(made.path)
    for shard, name in names.items():
        DAMAGE[name][0](made.path, shard)
    found = verify(made.path, deep=True)
    assert found.exit_code == 1
    for shard, name in names.items():
        message = DAMAGE[name][1].format(shard)
        assert any(re.search(message, problem) for problem in found.problems), name
    assert found.damaged == tuple(names)

    report = made.repair()
    clips = tuple(f"t/{row}" for row in range(CLIPS) if row // SHARD in names)
    assert (report.shards, report.clips, report.exit_code) == (tuple(names), clips, 0)
    assert set(report.problems) == set(found.problems)
    assert [failure.id for failure in report.failures] == ["t/4"]  # which is in shard 1
    assert report.remaining == ()
    files = {name for shard in names for name in (f"states/c/{shard}/0/0", f"shards/0000{shard}.json")}
    check_same(made, before, untouched, again={*files, "clips.parquet"})


def test_a_pooled_store_of_two_layers_and_a_shorter_window_is_repaired_bit_for_bit(whole: Any, tmp_path: Path) -> None:
    made = copied(whole(pool="statistics"), tmp_path)
    before, untouched = contents(made.path), times(made.path)
    sound = verify(made.path, deep=True)
    assert (sound.problems, sound.shape, sound.pool) == ((), (CLIPS, 4, 64), "statistics")
    flip(shard_file(made.path, 1), 40)
    found = verify(made.path, deep=True)
    assert found.damaged == (1,)
    assert re.search(r"clip .* cannot be read.*CRC", found.problems[0])
    wrong = FrozenEncoder.load(
        FeatureStore.open(made.path).record.encoder, precision="float32", device="cpu", window_seconds=0.6
    )
    with pytest.raises(RequestError, match=r"(?s)width: the store has 64, wanted 32"):
        made.repair(replace(made.sources, encoder=lambda record: wrong))
    report = made.repair()
    assert (report.shards, report.exit_code, report.remaining) == ((1,), 0, ())
    check_same(made, before, untouched, again={"states/c/1/0/0", "shards/00001.json", "clips.parquet"})


@pytest.mark.parametrize(("codec", "frames"), [("bfloat", "all"), ("int8", "speech")])
@pytest.mark.slow
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
    shutil.copy(whole("bfloat").path / "clips.parquet", made.path)
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
    assert "the metadata of the array states cannot be read" in report.problems[0]
    check_same(made, before, untouched, again={"states/zarr.json"})
    assert not list(made.path.parent.glob("*.partial"))


@pytest.mark.parametrize("name", ["states", "scales", "silence"])
def test_metadata_of_any_array_are_made_again(whole: Any, tmp_path: Path, name: str) -> None:
    made = copied(whole("int8", "speech"), tmp_path)
    before, untouched = contents(made.path), times(made.path)
    cut(made.path / name / "zarr.json")
    report = made.repair(Sources(refuse, refuse))
    assert len(report.problems) == 1
    assert f"metadata of the array {name} cannot be read" in report.problems[0]
    assert report.shards == report.remaining == ()
    check_same(made, before, untouched, again={f"{name}/zarr.json"})


def test_metadata_with_another_codec_do_not_pass_for_lost_silence(whole: Any, tmp_path: Path) -> None:
    made = copied(whole("int8", "speech"), tmp_path)
    before, untouched = contents(made.path), times(made.path)
    metadata = made.path / "silence" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"little"', '"big"').replace('"crc32c"', '"gzip"'))
    assert made.repair(Sources(refuse, refuse)).exit_code == 0
    check_same(made, before, untouched, again={"silence/zarr.json"})


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
    made = copied(whole("int8", "speech"), tmp_path)
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
        yield ignore

    with pytest.raises(KeyboardInterrupt):
        repair(made.path, made.sources, interrupted)
    config = ExtractionConfig(batch_size=2, shard_clips=SHARD, workers=1)
    extract(made.corpus, made.encoder, made.path, config, source="the same")
    assert contents(made.path) == before
