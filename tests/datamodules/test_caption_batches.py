from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from datamodules import caption_batches as batches
from datamodules import captioner as module
from datamodules.caption_batches import CaptionBatch, caption_of, vocabulary_captions
from datamodules.captioner import CaptionDataModule
from datamodules.recordings import Recordings
from emonet.captioner import IGNORED, write_caption
from emonet.captioner.tokenizer import train_tokenizer
from emonet.clips import Clip, Corpus, Rejection
from emonet.configs import AugmentConfig, CaptionerConfig
from emonet.errors import EmonetError, RequestError
from emonet.windows import Window

pytestmark = pytest.mark.numeric


@pytest.fixture
def corpus(make_wav: Callable[..., Path]) -> Corpus:
    """Seven training and three validation clips; one training clip says nothing, one has a caption of its own."""
    clips = []
    for number in range(10):
        split = "train" if number < 7 else "validation"
        path = make_wav(f"{number}.wav", seconds=0.3 + 0.1 * number, hertz=100 + 20 * number)
        clips.append(
            Clip(f"c{number}", path, split, split, scores={"anger": float(number % 5), "fear": 1.0}, seconds=1.0)
        )
    clips[1] = replace(clips[1], scores={"anger": float("nan")})
    clips[2] = replace(clips[2], caption="Somebody is furious.", scores={})
    return Corpus("mini", tuple(clips))


def open_module(corpus: Corpus, epoch: int = 0, seed: int = 0, **changes: object) -> CaptionDataModule:
    config = CaptionerConfig.model_validate({"batch_size": 2, "window_seconds": 1.0} | changes)
    tokenizer = train_tokenizer(vocabulary_captions(corpus, seed))
    data = CaptionDataModule(corpus, config, Window(1.0), tokenizer, 64, seed)
    data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    data.trainer.fit_loop.epoch_progress.current.completed = epoch
    return data


def same(one: list[CaptionBatch], other: list[CaptionBatch]) -> bool:
    return len(one) == len(other) and all(
        a.clips == b.clips and torch.equal(a.waveforms, b.waveforms) and torch.equal(a.tokens.labels, b.tokens.labels)
        for a, b in zip(one, other, strict=True)
    )


def test_an_epoch_has_every_usable_clip_once(corpus: Corpus) -> None:
    data = open_module(corpus)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == data.steps_per_epoch == 3
    assert sorted(clip.id for batch in batches for clip in batch.clips) == ["c0", "c2", "c3", "c4", "c5", "c6"]
    assert [clip.id for batch in data.val_dataloader() for clip in batch.clips] == ["c7", "c8", "c9"]
    assert batches[0].waveforms.shape == (2, 16_000)
    assert data.rejected == (Rejection("c1", "neither caption nor scores"),)


@pytest.mark.parametrize(("processes", "accumulate", "size"), [(2, 1, 1), (2, 2, 1), (3, 1, 2), (4, 2, 1), (5, 1, 2)])
def test_processes_share_the_batches_of_one(corpus: Corpus, processes: int, accumulate: int, size: int) -> None:
    """Those of one process that accumulates so many times more: the same step by step, and empty ones at the end."""
    data = open_module(corpus, epoch=3, batch_size=size, accumulate=accumulate)
    loader = replace(data.train_dataloader(), position=None)
    whole = list(replace(loader, accumulate=accumulate * processes))
    parts = [replace(loader, part=(rank, processes)) for rank in range(processes)]
    made = [list(part) for part in parts]
    assert {len(part) for part in parts} == {len(batches) for batches in made} == {len(made[0])}
    for number, batch in enumerate(whole):
        step, place = divmod(number, accumulate * processes)
        mine = made[place % processes][step * accumulate + place // processes]
        assert same([mine], [batch])
        assert mine.number == batch.number == number
    empty = [batch for batches in made for batch in batches if not batch.clips]
    assert len(empty) == len(made[0]) * processes - len(whole)
    assert all(batch.tokens.count == 0 and bool((batch.tokens.labels == IGNORED).all()) for batch in empty)
    for slot in range(0, len(made[0]), accumulate):
        first = slot * processes
        tokens = sum(batch.tokens.count for batch in whole[first : first + accumulate * processes])
        assert sum(batches[slot].step_tokens for batches in made) == tokens
    assert [batch.clips for batches in made for batch in batches[accumulate:]] == [
        batch.clips for part in parts for batch in replace(part, position=lambda: accumulate)
    ], "a resumed run goes on behind the first step"


def test_a_clip_that_another_process_cannot_read_is_left_out_here_too(corpus: Corpus) -> None:
    tokenizer = train_tokenizer(vocabulary_captions(corpus, 0))
    config = CaptionerConfig(batch_size=2, window_seconds=1.0)
    data = CaptionDataModule(corpus, config, Window(1.0), tokenizer, 64, 0, together=lambda lost: {*lost, "c3", "c8"})
    assert [clip.id for clip in (*data.train_clips, *data.validation_clips)] == [
        "c0",
        "c2",
        "c4",
        "c5",
        "c6",
        "c7",
        "c9",
    ]


def test_epochs_differ_and_repeat(corpus: Corpus) -> None:
    first, again, second, other = (
        list(open_module(corpus, epoch, seed).train_dataloader()) for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert same(first, again)
    assert not same(first, second)
    assert not same(first, other)


def test_threads_and_memory_change_nothing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = list(open_module(corpus).train_dataloader())
    monkeypatch.setattr(module, "Recordings", lambda *args, **kwargs: Recordings(*args, **kwargs, memory_gib=0.0))
    streamed = list(open_module(corpus).train_dataloader())
    for one, other in zip(in_memory, streamed, strict=True):
        assert one.clips == other.clips
        torch.testing.assert_close(one.waveforms, other.waveforms, atol=2e-5, rtol=0)


def test_captions_are_fresh_each_epoch_but_the_corpus_own_wins(corpus: Corpus) -> None:
    own, scored = corpus.clips[2], corpus.clips[3]
    assert {caption_of(own, corpus.targets, 0, epoch) for epoch in range(5)} == {"Somebody is furious."}
    assert len({caption_of(scored, corpus.targets, 0, epoch) for epoch in range(20)}) > 5
    assert caption_of(scored, corpus.targets, 0, 3) == caption_of(scored, corpus.targets, 0, 3)
    learnt = vocabulary_captions(corpus, 0)
    assert len(learnt) == 8 * 6
    assert learnt.count("Somebody is furious.") == 8


def test_validation_neither_changes_nor_is_augmented(corpus: Corpus) -> None:
    loud = AugmentConfig(shift_seconds=0.5)
    first, second = (list(open_module(corpus, epoch, augment=loud).val_dataloader()) for epoch in (0, 1))
    assert same(first, second)
    assert same(first, list(open_module(corpus).val_dataloader()))


def test_step_tokens_cover_all_accumulated_batches(corpus: Corpus) -> None:
    batches = list(open_module(corpus, accumulate=2).train_dataloader())
    counts = [batch.tokens.count for batch in batches]
    assert [batch.step_tokens for batch in batches] == [counts[0] + counts[1]] * 2 + [counts[2]]
    assert open_module(corpus, accumulate=2).steps_per_epoch == 2


def test_held_out_clips_are_spread_evenly(corpus: Corpus) -> None:
    data = open_module(corpus)
    assert [clip.id for clip in data.held_out(2).clips] == ["c7", "c9"]
    assert len(data.held_out(100).clips) == 3


def test_unreadable_clips_are_left_out_and_listed(corpus: Corpus) -> None:
    assert isinstance(corpus.clips[4].audio, Path)
    corpus.clips[4].audio.write_bytes(b"no audio")
    data = open_module(corpus)
    assert "c4" not in {clip.id for clip in data.train_clips}
    assert [one.id for one in data.rejected] == ["c1", "c4"]
    assert "not readable" in data.rejected[1].reason


def test_a_split_without_clips_is_a_wrong_request(corpus: Corpus) -> None:
    with pytest.raises(RequestError, match="no validation clip"):
        open_module(Corpus("mini", corpus.of_split("train")))


def test_a_caption_too_long_names_its_clip(corpus: Corpus) -> None:
    clips = [*corpus.clips]
    clips[2] = replace(clips[2], caption="furious " * 100)
    with pytest.raises(RequestError, match=r"(?s)too long for the captioner, .*clip 'c2': \d+ tokens: 'furious furi"):
        open_module(Corpus("mini", tuple(clips)))


def test_a_tokenizers_captions_are_no_more_than_it_learns_from(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = vocabulary_captions(corpus, 0)
    written: list[str] = []
    monkeypatch.setattr(batches, "_VOCABULARY_CAPTIONS", 12)
    monkeypatch.setattr(batches, "write_caption", lambda *args: written.append(write_caption(*args)) or written[-1])
    assert vocabulary_captions(corpus, 0) == everything[::4]
    assert len(written) <= 12


def test_a_vanished_disk_is_an_error(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Recordings", lambda *args, **kwargs: Recordings(*args, **kwargs, memory_gib=0.0))
    data = open_module(corpus)
    for clip in corpus.clips:
        assert isinstance(clip.audio, Path)
        clip.audio.unlink()
    with pytest.raises(EmonetError, match="not one clip"):
        list(data.train_dataloader())
