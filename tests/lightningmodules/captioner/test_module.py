from __future__ import annotations

import copy
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from datamodules.captioner import CaptionDataModule
from emonet.captioner import IGNORED, generated
from emonet.captioner import model as captioner
from emonet.captioner.model import Size
from emonet.clips import Clip, Corpus
from emonet.configs import AugmentConfig, CaptionerConfig
from emonet.errors import EmonetError
from emonet.runtime import Progress, signals
from emonet.targets import EMOTIONS, PUBLISHED
from lightningmodules.captioner import CaptionerCallbacks, FittedCaptioner, fit_captioner, generation
from lightningmodules.captioner import training as captioning
from lightningmodules.captioner.generation import Generated, hit_rate
from lightningmodules.captioner.module import CaptionerModule
from lightningmodules.captioner.training import claim
from lightningmodules.guards import enough_memory, interruptible
from lightningmodules.team import Team
from tests.two_processes import in_two_processes

pytestmark = pytest.mark.numeric

PLAIN = AugmentConfig(frequency_masks=0, time_masks=0, shift_seconds=0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))


@pytest.fixture
def corpus(make_wav: Callable[..., Path]) -> Corpus:
    """Eight training clips, high tones angry and low ones sad, and four like them to validate on."""
    clips = []
    for number in range(12):
        split = "train" if number < 8 else "validation"
        high = number % 2
        path = make_wav(f"{number}.wav", seconds=0.5, hertz=(1200 if high else 150) + 5 * number)
        scores = {"anger": 4.0 * high, "sadness": 4.0 * (1 - high)}
        clips.append(Clip(f"c{number}", path, split, split, scores=scores, seconds=0.5))
    return Corpus("tones", tuple(clips))


def config(**changes: Any) -> CaptionerConfig:
    plain = {
        "window_seconds": 1.0,
        "batch_size": 4,
        "epochs": 3,
        "precision": "float32",
        "augment": PLAIN,
        "warmup": 0.0,
    }
    return CaptionerConfig.model_validate(plain | changes)


class Seen:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: dict[str, str] = {}
        self.counts: dict[str, list[tuple[int, int]]] = {}
        self.watch = CaptionerCallbacks(
            self.show, self.lines.append, lambda text, name: self.notes.update({name: text})
        )

    @contextmanager
    def show(self, label: str, unit: str) -> Iterator[Progress]:
        counts = self.counts.setdefault(label, [])
        yield lambda completed, total: counts.append((completed, total))


def fit(corpus: Corpus, folder: Path, seen: Seen | None = None, seed: int = 0, **changes: Any) -> FittedCaptioner:
    return fit_captioner(corpus, config(**changes), seed=seed, folder=folder, watch=(seen or Seen()).watch)


def weights(fitted: FittedCaptioner) -> dict[str, torch.Tensor]:
    return dict(fitted.model.state_dict())


def equal(one: FittedCaptioner, other: FittedCaptioner) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_states_are_cast_once_and_logits_are_those_of_autocast_by_itself() -> None:
    model, processor = captioner.open_captioner(config(), lambda: ["A calm voice."] * 2, 0)
    plain = copy.deepcopy(model).train()
    module = CaptionerModule(model, config(), steps_per_epoch=1, prompt_tokens=3, seed=0)
    mels, inputs = torch.randn(2, 80, 100), torch.randint(0, len(processor.tokenizer), (2, 6))
    heard = []
    for one in (
        module,
        lambda mels, inputs: plain(input_features=mels, decoder_input_ids=inputs, use_cache=False).logits,
    ):
        with torch.autocast("cpu", torch.bfloat16):
            heard.append(one(mels, inputs))
    assert heard[0].equal(heard[1])
    with torch.autocast("cpu", torch.bfloat16):
        assert model.model.encoder(mels).last_hidden_state.dtype == torch.bfloat16
    assert model.model.encoder(mels).last_hidden_state.dtype == torch.float32


@pytest.mark.slow
def test_a_tiny_model_learns_to_caption_eight_clips(corpus: Corpus, tmp_path: Path) -> None:
    seen = Seen()
    fitted = fit(
        corpus, tmp_path / "t", seen, batch_size=2, epochs=30, learning_rate=1e-2, patience=30, sample_captions=1
    )
    first = float(seen.lines[0].split("validation loss ")[1].split(",")[0])
    assert fitted.metrics["val_loss"] < 0.5 * first
    assert fitted.metrics["emotion_hit_rate"] == 1.0
    assert fitted.metrics["token_accuracy"] > 0.5
    assert "anger" in " ".join(seen.notes.values()) or "rage" in " ".join(seen.notes.values())
    assert fitted.clips == {"train": 8, "validation": 4}
    assert len(fitted.samples) == 1
    assert seen.counts["training"][0] == (0, 240)
    assert seen.counts["training"][-1][0] == seen.counts["training"][-1][1]


DRAWN = {"dropout": 0.1, "augment": AugmentConfig(time_width=10), "epochs": 3, "batch_size": 1, "sample_captions": 0}


def at_step(
    act: Callable[[], object], epoch: int, batch: int, name: str = "training_step"
) -> Callable[[CaptionerModule, Any, int], Any]:
    """A step that does something before the given one."""
    original = getattr(CaptionerModule, name)

    def step(self: CaptionerModule, made: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (epoch, batch):
            act()
        return original(self, made, batch_idx)

    return step


def killed() -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize(
    ("minutes", "accumulate", "kept"),
    [
        (15.0, 1, 8),
        pytest.param(1e-9, 1, 13, marks=pytest.mark.slow),
        pytest.param(1e-9, 2, 12, marks=pytest.mark.slow),
    ],
    ids=["whole epochs", "each step", "each second batch"],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, accumulate: int, kept: int
) -> None:
    changes = DRAWN | {"accumulate": accumulate, "save_every_minutes": minutes}
    whole = fit(corpus, tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(CaptionerModule, "training_step", at_step(killed, epoch=1, batch=5))
        with pytest.raises(RuntimeError, match="killed"):
            fit(corpus, tmp_path / "killed", **changes)
    seen = Seen()
    resumed = fit(corpus, tmp_path / "killed", seen, **changes)
    assert seen.lines[0].startswith("going on")
    assert seen.counts["training"][0] == (kept, 24)
    assert seen.counts["training"][1][0] == kept + 1, "what is done is not done again"
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), (name, (value - weights(resumed)[name]).abs().max())
    assert resumed.metrics == whole.metrics
    assert (resumed.epochs, resumed.best_epoch) == (whole.epochs, whole.best_epoch)


@pytest.mark.parametrize(
    ("step", "batch", "kept", "told"),
    [
        ("training_step", 3, 12, 2),
        pytest.param("training_step", 7, 16, 2, marks=pytest.mark.slow),
        pytest.param("validation_step", 1, 16, 2, marks=pytest.mark.slow),
        pytest.param("validation_step", 3, 16, 1, marks=pytest.mark.slow),
    ],
    ids=["mid-epoch", "the last step of an epoch", "validation", "the last step of validation"],
)
def test_a_signal_saves_first(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, batch: int, kept: int, told: int
) -> None:
    """Those of three epochs that are not yet told of when it comes are told of, as ever, by the run that goes on."""

    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, signals.heeded():
        patch.setattr(CaptionerModule, step, at_step(terminated, 1, batch, step))
        with pytest.raises(signals.Stopped, match="SIGTERM"):
            fit(corpus, tmp_path / "stopped", **DRAWN)
    seen = Seen()
    resumed = fit(corpus, tmp_path / "stopped", seen, **DRAWN)
    assert seen.counts["training"][0] == (kept, 24)
    undisturbed = Seen()
    whole = fit(corpus, tmp_path / "whole", undisturbed, **DRAWN)
    assert equal(resumed, whole)
    assert (resumed.metrics, resumed.epochs, resumed.best_epoch) == (whole.metrics, whole.epochs, whole.best_epoch)
    assert seen.lines[1:] == undisturbed.lines[-told:]


def test_a_signal_ends_sample_captions_and_the_epoch_is_kept(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*arguments: Any) -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)
        return generated(*arguments)

    seen, changes = Seen(), DRAWN | {"sample_captions": 4, "epochs": 2}
    with monkeypatch.context() as patch, signals.heeded():
        patch.setattr(generation, "generated", terminated)
        with pytest.raises(signals.Stopped, match="SIGTERM"):
            fit(corpus, tmp_path, seen, **changes)
    assert seen.notes["captions/epoch-001.txt"].count("\n") == 1
    assert (tmp_path / "last.ckpt").exists(), "it is the epoch's own"


def test_one_device_has_all_weights_whatever_the_strategy(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(
        captioning, "open_captioner", lambda *asked: opened.append(asked) or captioner.open_captioner(*asked)
    )
    seen = Seen()
    fit(corpus, tmp_path, seen, epochs=1, sample_captions=1, strategy="fsdp")
    assert len(opened) == 1
    assert "captions/epoch-001.txt" in seen.notes


def test_same_seed_same_weights_and_torch_is_left_alone(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = fit(corpus, tmp_path / "a", dropout=0.1, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    assert equal(one, fit(corpus, tmp_path / "b", dropout=0.1, epochs=1))
    assert not equal(one, fit(corpus, tmp_path / "c", seed=1, dropout=0.1, epochs=1))


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "identity.txt"])
def test_what_is_damaged_is_made_anew(corpus: Corpus, tmp_path: Path, name: str) -> None:
    one, seen = fit(corpus, tmp_path, epochs=1), Seen()
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-100] + b"\xff")
    assert equal(one, fit(corpus, tmp_path, seen, epochs=1))
    assert "training" in seen.counts
    assert not name.endswith("ckpt") or seen.lines[0].startswith(f"{name} of a run")


def test_a_finished_training_is_only_read_back(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fit(corpus, tmp_path, epochs=1)
    monkeypatch.setattr(Trainer, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert equal(one, fit(corpus, tmp_path, epochs=1))


def test_early_stopping_keeps_the_best_epoch(corpus: Corpus, tmp_path: Path) -> None:
    seen = Seen()
    fitted = fit(corpus, tmp_path, seen, epochs=30, learning_rate=0.05, patience=2, sample_captions=0)
    assert fitted.epochs == fitted.best_epoch + 2 < 30
    losses = [float(line.split("validation loss ")[1].split(",")[0]) for line in seen.lines if line.startswith("epoch")]
    assert min(losses) == losses[fitted.best_epoch - 1] == pytest.approx(fitted.metrics["val_loss"], abs=1e-3)
    assert seen.counts["training"][-1][0] == seen.counts["training"][-1][1] == 8 * fitted.epochs


def test_divergence_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(EmonetError, match="diverged") as caught:
        fit(corpus, tmp_path, epochs=3, learning_rate=1e30)
    assert "--captioner.learning-rate 1e+29" in str(caught.value)


def test_checkpoints_of_another_training_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    claim(folder, "one")
    (folder / "last.ckpt").touch()
    claim(folder, "one")
    assert (folder / "last.ckpt").exists()
    claim(folder, "other")
    assert not (folder / "last.ckpt").exists()


class _Gradients(Callback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if not self.found:
            self.found = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


def first_gradients(corpus: Corpus, tmp_path: Path, **changes: Any) -> dict[str, torch.Tensor]:
    settings = config(epochs=1, gradient_clip=1e9, **changes)
    model, processor = captioner.open_captioner(settings, lambda: ["The speaker feels strong anger."] * 2, 0)
    data = CaptionDataModule(corpus, settings, captioner.window_of(model), processor.tokenizer, 448, 0)
    module = CaptionerModule(model, settings, steps_per_epoch=1, prompt_tokens=3, seed=0)
    gradients = _Gradients()
    trainer = captioning.build_trainer(settings, tmp_path, Seen().watch, [gradients], Team())
    trainer.callbacks = [gradients]
    trainer.fit(module, datamodule=data)
    return gradients.found


@pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.* is deprecated", "ignore:The number of training batches", "ignore:Checkpoint directory"
)
def test_accumulated_gradients_are_those_of_one_large_batch(corpus: Corpus, tmp_path: Path) -> None:
    clips = [
        replace(clip, caption=clip.caption or ("Sad. " * (1 + number))) for number, clip in enumerate(corpus.clips)
    ]
    uneven = Corpus("uneven", tuple(clips))
    large = first_gradients(uneven, tmp_path, batch_size=8)
    small = first_gradients(uneven, tmp_path, batch_size=2, accumulate=4)
    assert large.keys() == small.keys()
    for name, gradient in large.items():
        torch.testing.assert_close(small[name], gradient, atol=1e-6, rtol=1e-3)


class _Direct(Callback):
    """Validation figures written down plainly, beside those that are logged, by epoch."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []
        self.expected: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CaptionerModule)
        self.found.append({name: float(trainer.callback_metrics[name]) for name in ("val_loss", "token_accuracy")})
        pl_module.model.eval()
        losses, right = [], []
        with torch.no_grad():
            for batch in trainer.datamodule.val_dataloader():
                chances = pl_module(pl_module.log_mel(batch.waveforms), batch.tokens.inputs).log_softmax(-1)
                for row, labels in enumerate(batch.tokens.labels.tolist()):
                    said = [(place, token) for place, token in enumerate(labels) if token != IGNORED]
                    losses += [-float(chances[row, place, token]) for place, token in said]
                    right += [int(chances[row, place].argmax()) == token for place, token in said if place >= 3]
        self.expected.append({"val_loss": sum(losses) / len(losses), "token_accuracy": sum(right) / len(right)})


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated", "ignore:The number of training batches")
def test_validation_figures_are_means_over_tokens_of_each_epoch(corpus: Corpus, tmp_path: Path) -> None:
    """Batches of three clips and of one, with captions of very different lengths."""
    uneven = tuple(replace(clip, caption="Sad. " * (1 + number)) for number, clip in enumerate(corpus.clips))
    settings = config(epochs=2, batch_size=3, learning_rate=1e-2)
    model, processor = captioner.open_captioner(settings, lambda: ["The speaker feels strong anger. Sad. Sad."] * 2, 0)
    data = CaptionDataModule(
        Corpus("uneven", uneven), settings, captioner.window_of(model), processor.tokenizer, 448, 0
    )
    module = CaptionerModule(model, settings, steps_per_epoch=data.steps_per_epoch, prompt_tokens=3, seed=0)
    direct = _Direct()
    trainer = captioning.build_trainer(settings, tmp_path, Seen().watch, [direct], Team())
    trainer.callbacks = [direct]
    trainer.fit(module, datamodule=data)
    assert len(direct.found) == 2
    for found, expected in zip(direct.found, direct.expected, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert direct.found[0]["val_loss"] != direct.found[1]["val_loss"]
    assert 0 < direct.found[1]["token_accuracy"] < 1


def test_a_loss_that_is_no_number_in_one_batch_is_none_in_the_mean() -> None:
    model, _ = captioner.open_captioner(config(), lambda: ["Anger."] * 2, 0)
    metric = CaptionerModule(model, config(), steps_per_epoch=1, prompt_tokens=3, seed=0).loss_per_token
    for loss in (1.0, math.nan, 2.0):
        metric.update(torch.tensor(loss, dtype=torch.float64), torch.tensor(5))
    assert metric.compute().isnan()


@pytest.mark.slow
def test_validation_figures_are_of_the_tokens_of_all_processes(tmp_path: Path) -> None:
    settings = config()
    model, _ = captioner.open_captioner(settings, lambda: ["Anger."] * 2, 0)
    module = CaptionerModule(model, settings, steps_per_epoch=1, prompt_tokens=3, seed=0)
    losses = [
        (torch.tensor(loss, dtype=torch.float64), torch.tensor(tokens))
        for loss, tokens in ((2.0, 1), (5.0, 2), (1.0, 30))
    ]
    right = [(torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, IGNORED]])), (torch.tensor([[4]]), torch.tensor([[5]]))]
    tasks = [(module.loss_per_token, losses[:1], losses[1:]), (module.token_accuracy, right[:1], right[1:])]
    for loss, accuracy in in_two_processes(tmp_path, tasks):
        assert (float(loss), float(accuracy)) == pytest.approx((42 / 33, 2 / 3))


def test_loss_is_whispers_own_and_padding_does_not_count(corpus: Corpus) -> None:
    settings = config()
    model, processor = captioner.open_captioner(settings, lambda: ["The speaker feels strong anger."] * 2, 0)
    data = CaptionDataModule(corpus, settings, captioner.window_of(model), processor.tokenizer, 448, 0)
    module = CaptionerModule(model, settings, steps_per_epoch=1, prompt_tokens=3, seed=0)
    module.eval()
    batch = next(iter(data.val_dataloader()))
    assert (batch.tokens.mask == 0).any()
    with torch.no_grad():
        mels = module.log_mel(batch.waveforms)
        mine = module._loss(module(mels, batch.tokens.inputs), batch) / batch.tokens.count
        theirs = model(input_features=mels, labels=batch.tokens.labels, decoder_attention_mask=batch.tokens.mask).loss
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("cosine", [0.5, 1, 1, 0.5]), ("linear", [0.5, 1, 1, 0.5]), ("constant", [0.5, 1, 1, 1])]
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    settings = config(schedule=schedule, warmup=0.2, epochs=2)
    model, _ = captioner.open_captioner(settings, lambda: ["Anger."] * 2, 0)
    module = CaptionerModule(model, settings, steps_per_epoch=5, prompt_tokens=3, seed=0)
    assert [module._rate(step) for step in (0, 1, 2, 6)] == pytest.approx(expected)
    assert module._rate(9) > 0


def test_frozen_parts_keep_their_weights_and_checkpointing_changes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    start = captioner.open_captioner(config(), lambda: captioning.vocabulary_captions(corpus, 0), 0)[0].state_dict()
    plain = fit(corpus, tmp_path / "a", epochs=1, freeze=("encoder",))
    for name, value in weights(plain).items():
        assert torch.equal(value, start[name]) == (".encoder." in name), name
    saving = fit(corpus, tmp_path / "b", epochs=1, freeze=("encoder",), gradient_checkpointing=True)
    assert saving.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], rel=1e-4)


def test_bf16_trains_too(corpus: Corpus, tmp_path: Path) -> None:
    fitted = fit(corpus, tmp_path, epochs=1, precision="bf16")
    assert math.isfinite(fitted.metrics["val_loss"])
    assert all(value.dtype == torch.float32 for value in weights(fitted).values())


def test_hits() -> None:
    angry = Clip("a", b"", "s", "test", scores={"anger": 3.0, "fear": 3.0})
    neutral, unrated = replace(angry, scores={"anger": 0.0}), replace(angry, scores={"anger": float("nan")})
    heard = [
        Generated(angry, "One hears strong fear and anger."),  # tied: either is right
        Generated(angry, "One hears sadness, then anger."),
        Generated(angry, "No particular emotion."),
        Generated(neutral, "No particular emotion."),
        Generated(neutral, "Anger."),
        Generated(unrated, "Anger."),
    ]
    assert [one.hits(EMOTIONS) for one in heard] == [True, False, False, True, False, None]
    assert hit_rate(heard, EMOTIONS) == pytest.approx(2 / 5)
    assert hit_rate([heard[-1]], EMOTIONS) == 0


def test_hits_of_targets_that_are_no_emotions() -> None:
    clip = Clip("a", b"", "s", "test", scores={"arousal": 4.0, "valence": -3.0})
    both = replace(clip, scores={**clip.scores, "anger": 3.0})
    heard = [
        Generated(clip, "The voice has low valence and high arousal."),
        Generated(clip, "The voice has low valence and low arousal."),
        Generated(clip, "Anger."),
        Generated(both, "The speaker feels strong anger. The voice has low valence."),
        Generated(both, "The speaker feels strong fear. The voice has low valence and high arousal."),
    ]
    assert [one.hits(PUBLISHED) for one in heard] == [1.0, 0.5, 0.0, 0.75, 0.5]
    assert hit_rate(heard, PUBLISHED) == pytest.approx(2.75 / 5)


def test_a_full_gpu_is_turned_into_advice() -> None:
    with pytest.raises(EmonetError, match="too little memory") as caught, enough_memory(config(batch_size=32)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
    assert "--captioner.batch-size 16 --captioner.accumulate 2" in str(caught.value)
    assert "--captioner.gradient-checkpointing" in str(caught.value)


def test_ctrl_c_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        raise SystemExit(1)  # what Lightning makes of it
