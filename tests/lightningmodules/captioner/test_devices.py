"""Several real processes that train one captioner, with gloo, against one that trains alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.captioner import CaptionDataModule
from emonet.captioner import model as captioner
from emonet.captioner.model import Size
from emonet.clips import Clip, Corpus
from emonet.configs import AugmentConfig, CaptionerConfig
from emonet.errors import EmonetError, RequestError
from emonet.runtime import signals
from lightningmodules.captioner import fit_captioner
from lightningmodules.captioner import training as captioning
from lightningmodules.captioner.module import CaptionerModule
from lightningmodules.ranks import Place, ToldError
from lightningmodules.team import Team, joined
from tests.lightningmodules.captioner.test_module import PLAIN, Seen, config, corpus, equal, fit, weights

__all__ = ["corpus"]  # a fixture
pytestmark = [pytest.mark.numeric, pytest.mark.slow, pytest.mark.timeout(600)]
TWO = Place(size=2, devices=2)


class _Exact(CaptionerModule):
    """In float64, as far as there are weights."""

    def forward(self, mels: Float[Tensor, "batch mels mel_frames"], inputs: Tensor) -> Any:
        return super().forward(mels.double(), inputs)


@dataclass(frozen=True)
class OneStep:
    """A training of one step in float64; what a process of it finds is written to `RANK.pt`."""

    corpus: Corpus
    config: CaptionerConfig
    folder: Path

    def __call__(self, place: Place) -> None:
        with pytest.MonkeyPatch.context() as patch, joined(place, self) as team:
            patch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))  # in each process
            torch.save(self.found(team), self.folder / f"{place.rank}.pt")
            if place.size > 1:
                with pytest.raises(RequestError if team.leads else ToldError, match="they differ in the seed"):
                    team.agree({"code": "same", "the seed": str(place.rank)})

    def found(self, team: Team) -> dict[str, Any]:
        model, processor = captioner.open_captioner(self.config, lambda: ["The speaker feels strong anger."] * 2, 0)
        data = CaptionDataModule(
            self.corpus, self.config, captioner.window_of(model), processor.tokenizer, 448, 0, part=team.part
        )
        module = _Exact(model.double(), self.config, steps_per_epoch=1, prompt_tokens=3, seed=0)
        trainer = captioning.build_trainer(self.config, self.folder, Seen().watch, [], team)
        trainer.callbacks = []
        with captioning.quiet():
            trainer.fit(module, datamodule=data)
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("val_loss", "token_accuracy")}
        return {"weights": module.model.state_dict(), "steps": trainer.global_step, **metrics}


@pytest.mark.parametrize("clips", [8, 5], ids=["even", "a batch is missing"])
def test_a_step_of_two_processes_is_that_of_one_with_all_batches(corpus: Corpus, tmp_path: Path, clips: int) -> None:
    """Captions of very different lengths, SpecAugment, two batches a process; three validation clips, so one is alone."""
    chosen = [replace(clip, caption="Sad. " * (1 + row)) for row, clip in enumerate(corpus.clips)]
    uneven = Corpus("uneven", tuple(chosen[:clips] + chosen[8:11]))
    settings = config(epochs=1, batch_size=2, augment=AugmentConfig(time_width=10), gradient_clip=0.01)
    for name, changes in (("two", {"devices": 2, "accumulate": 2}), ("one", {"accumulate": 4})):
        (tmp_path / name).mkdir()
        work = OneStep(uneven, settings.model_copy(update=changes), tmp_path / name)
        work(TWO if name == "two" else Place())
    one, *two = (torch.load(tmp_path / name, weights_only=False) for name in ("one/0.pt", "two/0.pt", "two/1.pt"))
    for found in two:
        assert found["steps"] == one["steps"] == 1
        assert found["val_loss"] == pytest.approx(one["val_loss"], rel=1e-12)
        assert found["token_accuracy"] == pytest.approx(one["token_accuracy"], rel=1e-6)
        for name, value in one["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, atol=1e-13, rtol=1e-11)


def large(corpus: Corpus) -> dict[str, Any]:
    return {"augment": PLAIN, "batch_size": 1, "epochs": 3, "sample_captions": 0, "model": "scratch:nano"}


def test_two_processes_learn_what_one_does_and_go_on_where_they_were_stopped(corpus: Corpus, tmp_path: Path) -> None:
    alone = fit(corpus, tmp_path / "alone", accumulate=2, **large(corpus))
    seen = Seen()
    together = fit(corpus, tmp_path / "together", seen, devices=2, **large(corpus))
    assert together.metrics["val_loss"] == pytest.approx(alone.metrics["val_loss"], rel=1e-3)
    assert (together.epochs, together.best_epoch) == (alone.epochs, alone.best_epoch)
    assert sum(line.startswith("epoch ") for line in seen.lines) == 3
    assert seen.counts["training"][-1] == (24, 24)

    for clips in (12, 16):
        stopped = Seen()

        class Impatient(list[tuple[int, int]]):
            def append(self, count: tuple[int, int], when: int = clips) -> None:
                super().append(count)
                if count[0] == when:
                    os.kill(os.getpid(), signal.SIGTERM)

        stopped.counts["training"] = Impatient()
        with pytest.raises(signals.Stopped, match="SIGTERM"), signals.heeded():
            fit(corpus, tmp_path / f"stopped-{clips}", stopped, devices=2, **large(corpus))
        assert stopped.counts["training"][-1] == (clips, 24), "it stops behind the step"
        assert sum(line.startswith("epoch ") for line in stopped.lines) == 1, "before the second epoch is validated"
        again = Seen()
        resumed = fit(corpus, tmp_path / f"stopped-{clips}", again, devices=2, **large(corpus))
        assert again.counts["training"][0] == (clips, 24)
        assert again.lines[1:] == seen.lines[1:]
        assert equal(resumed, together)
        assert weights(resumed).keys() == weights(alone).keys()


def test_a_process_that_is_killed_ends_all_with_one_message(corpus: Corpus, tmp_path: Path) -> None:
    seen = Seen()

    class Murderous(list[tuple[int, int]]):
        def append(self, count: tuple[int, int]) -> None:
            super().append(count)
            if count[0] == 4:
                os.kill(children()[0], signal.SIGKILL)

    seen.counts["training"] = Murderous()
    with pytest.raises(EmonetError, match=r"process 1 of this training has ended(?s:.*)signal 9, SIGKILL") as lost:
        fit(corpus, tmp_path / "killed", seen, devices=2, **large(corpus))
    assert "goes on from the last checkpoint" in str(lost.value)
    assert not children()


def children() -> list[int]:
    """Processes of ours that train beside this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"lightningmodules.members" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # has ended meanwhile
            continue
    return found


def test_what_fails_in_another_process_is_told_here(make_wav: Callable[..., Path], tmp_path: Path) -> None:
    clips = [
        Clip(
            f"c{row}",
            make_wav(f"{row}.wav", seconds=0.2, hertz=100 + 50 * row),
            split,
            split,
            scores={"anger": 1.0 * row},
        )
        for row, split in enumerate(("train", "train", "validation"))
    ]
    with pytest.raises(RequestError, match="process 1"):
        fit_captioner(_Different("mini", tuple(clips)), config(devices=2), seed=0, folder=tmp_path, watch=Seen().watch)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_fsdp_is_refused_before_anything_is_decoded(corpus: Corpus, tmp_path: Path) -> None:
    seen = Seen()
    with pytest.raises(RequestError, match=r"fsdp needs GPUs(?s:.*)--captioner\.strategy ddp"):
        fit(corpus, tmp_path, seen, devices=2, strategy="fsdp")
    assert "decoding" not in seen.counts


@pytest.mark.gpu
def test_weights_that_are_shared_out_learn_what_whole_ones_do(corpus: Corpus, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    whole = fit(corpus, tmp_path / "ddp", devices=2, **large(corpus))
    shared = fit(corpus, tmp_path / "fsdp", devices=2, strategy="fsdp", **large(corpus))
    assert shared.metrics["val_loss"] == pytest.approx(whole.metrics["val_loss"], rel=1e-3)


class _Different(Corpus):
    """A corpus that is another one in each process."""

    @property
    def fingerprint(self) -> str:
        return str(os.getpid())
