"""EmoBox's head, trained as its code does it: frames, linear, ReLU, mean, linear; every epoch is scored.

As emo-box/EmoBox (examples/sb at 08280f27) and SpeechBrain under it have it: the states of a clip are normalised over
its whole matrix, Adam starts at its full rate, and the rate of each further epoch is the warm-up's of the epoch before,
which is 0 in the second. What validates is ours: speakers who are held out, or EmoBox's fifth of the clips at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float16, Float64, Int
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from emonet.clips import Clip, Fold, Folds, HeldOut, hold_out, number_of, values_of
from emonet.configs import Precision
from emonet.errors import EmonetError, RequestError, raise_collected
from emonet.evaluation import class_metrics, confusion
from emonet.runtime import Progress, generator, ignore, resolve_device, resolve_precision, seed_of
from emonet.schema import Schema
from emonet.targets import NO_CLASS, ClassLabels

Rows = Int[np.ndarray, " rows"]
Read = Callable[[np.ndarray], Float16[np.ndarray, "rows frames width"]]
"""The states of some clips, by their rows: `FeatureStore.read`, or `array.__getitem__`."""

Selection = Literal["validation", "last", "test"]
"""Which epoch counts: the best on validation clips, the last one, or the best on test clips, which is too good."""

VALIDATION = 0.2  # of the training clips, in EmoBox's own validation
LONGEST_GRADIENT = 5.0  # SpeechBrain's


class EmoBoxConfig(Schema):
    """How EmoBox's head is trained; its README has 128 units and 100 epochs, its files of settings 256 and 20."""

    hidden: PositiveInt = 256
    """Width between the two linear layers (count)."""
    epochs: PositiveInt = 20
    """Passes over the training clips (count)."""
    warmup: int = Field(10, ge=0)
    """Epochs over which the learning rate rises (count); it then falls to 0."""
    learning_rate: PositiveFloat = 1e-4
    """Adam's (per step)."""
    batch_size: PositiveInt = 32
    """Clips a step (count)."""
    output_norm: bool = True
    """Normalise the states of a clip over all its frames and values together, as --output_norm does."""
    precision: Precision = "float32"
    """Arithmetic of the first layer: float32 as EmoBox has it, or bf16, twice as fast where the processor has it."""
    validation: Literal["speakers", "clips"] = "speakers"
    """What an epoch is chosen by: a fifth of the training speakers, or a fifth of the training clips (EmoBox)."""

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch.

        Args:
            epoch: counted from 0.
        """
        if epoch == 0:
            return self.learning_rate  # SpeechBrain's schedule comes in behind the first epoch
        step = epoch - 1
        if step < self.warmup:
            return self.learning_rate * step / self.warmup
        return self.learning_rate * max(0.0, self.epochs - step) / max(1, self.epochs - self.warmup)


SETTINGS = {"yaml": EmoBoxConfig(), "readme": EmoBoxConfig(hidden=128, epochs=100)}
"""How EmoBox says that it trains: in its files of settings, and in its README."""


@dataclass(frozen=True)
class HeardStates:
    """What heads hear of a corpus.

    Args:
        read: gives states.
        lengths: states of each clip that hear it (count); EmoBox cuts Whisper's to `samples // 320`.
        labels: classes, and that of each clip.
        clips: of the corpus; a row of everything else is one of them.

    Raises:
        RequestError: if these are not of the same clips.
    """

    read: Read
    lengths: Int[np.ndarray, " clips"]
    labels: ClassLabels
    clips: Sequence[Clip]

    def __post_init__(self) -> None:
        found = {"lengths": len(self.lengths), "labels": len(self.labels.given)}
        wrong = [f"{name} of {count:,} clips" for name, count in found.items() if count != len(self.clips)]
        if (self.lengths < 1).any():
            wrong.append(f"{int((self.lengths < 1).sum()):,} clips without a state")
        raise_collected("the states are of other clips than the corpus has", wrong, where=f"{len(self.clips):,} clips")

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, one per clip."""
        return tuple(values_of(self.clips, "speaker"))


@dataclass(frozen=True)
class TrainedFold:
    """A head of one fold, epoch by epoch.

    Args:
        name: of the fold.
        test: rows that were tested.
        predicted: position of each tested clip's class, after each epoch.
        validation_ua: of the validation clips, after each epoch (0 to 1).
        test_ua: of the tested clips, after each epoch (0 to 1).
        losses: mean training loss of each epoch (nats).
        held_out: what validated: clips of speakers who were not trained on, clips at random, or those of a file.
        shared: speakers who were tested and trained on, or validated by, too.
        trained: clips that were trained on (count).
    """

    name: str
    test: Rows
    predicted: Int[np.ndarray, "epochs tested"]
    validation_ua: Float64[np.ndarray, " epochs"]
    test_ua: Float64[np.ndarray, " epochs"]
    losses: Float64[np.ndarray, " epochs"]
    held_out: HeldOut
    shared: tuple[str, ...]
    trained: int

    def epoch(self, by: Selection) -> int:
        """The epoch with the best UA, the first of several, or the last one; counted from 0."""
        if by == "last":
            return len(self.losses) - 1
        return int(np.nan_to_num(self.validation_ua if by == "validation" else self.test_ua, nan=-1.0).argmax())


@final
class Head(nn.Module):
    """Linear, ReLU, mean over a clip's frames, linear (SUPERB's).

    Args:
        width: values of a state (count).
        hidden: between the layers (count).
        classes: told apart (count).
    """

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.pre_net = nn.Linear(width, hidden)
        self.post_net = nn.Linear(hidden, classes)

    def forward(self, frames: Tensor, lengths: Sequence[int]) -> Tensor:
        """Logits, shape (clips, classes).

        Args:
            frames: real states of all clips one behind the other, shape (sum of lengths, width).
            lengths: states of each clip (count).
        """
        heard = functional.relu(self.pre_net(frames))
        means = torch.stack([part.mean(0, dtype=torch.float32) for part in torch.split(heard, list(lengths))])
        logits: Tensor = self.post_net(means)
        return logits


def train_folds(
    data: HeardStates,
    folds: Folds,
    config: EmoBoxConfig | None = None,
    *,
    seed: int = 0,
    device: str | None = "cpu",
    progress: Progress = ignore,
) -> tuple[TrainedFold, ...]:
    """A head for each fold; every epoch is scored on validation and on test clips.

    Args:
        data: states and classes; clips without a class are left out.
        folds: EmoBox's, or others.
        config: how.
        seed: of weights, order and random validation clips; results are the same whatever the number of threads, up to
            rounding.
        device: that trains; None is the first GPU, else the processor.
        progress: told about finished epochs of all folds.

    Raises:
        RequestError: if no fold is left, or one has nothing to train on or to validate by.
        EmonetError: if training diverges.
    """
    config = config or EmoBoxConfig()
    usable = folds.usable(data.labels.given != NO_CLASS)
    done, total = 0, len(usable.folds) * config.epochs
    progress(0, total)
    found = []
    for fold in usable.folds:
        before = done

        def told(epochs: int, before: int = before) -> None:
            progress(before + epochs, total)

        found.append(train_fold(data, fold, config, seed=seed, device=device, told=told))
        done += config.epochs
    return tuple(found)


def train_fold(
    data: HeardStates,
    fold: Fold,
    config: EmoBoxConfig,
    *,
    seed: int = 0,
    device: str | None = "cpu",
    told: Callable[[int], None] = ignore,
) -> TrainedFold:
    """A head for one fold; see `train_folds`."""
    return fit_head(data, fold, {fold.name: (data, fold.test)}, config, seed=seed, device=device, told=told)[0]


def fit_head(
    data: HeardStates,
    fold: Fold,
    tested: Mapping[str, tuple[HeardStates, Rows]],
    config: EmoBoxConfig,
    *,
    seed: int = 0,
    device: str | None = "cpu",
    told: Callable[[int], None] = ignore,
) -> list[TrainedFold]:
    """One head, scored after each epoch on several sets of test clips, which may be of other corpora.

    Args:
        data: that it is trained on.
        fold: of `data`: what is trained on; validation clips are taken out of it.
        tested: name -> states of a corpus and the rows to test; with the same classes as `data`.
        config: how.
        seed: of weights, order and random validation clips.
        device: that trains; None is the first GPU, else the processor.
        told: about finished epochs.

    Returns:
        What each set of test clips gave, in their order.

    Raises:
        RequestError: if there is nothing to train on or to validate by.
        EmonetError: if training diverges.
    """
    split, kind = _split(data, fold, config, seed)
    if not len(split.validation) or not len(split.train):
        raise RequestError(f"fold {fold.name} has too few clips to train on and to validate by", found=len(fold.train))
    learner = _Learner(data, config, seed_of(seed, "emobox", fold.name), device)
    validated, losses = [], []
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in tested}
    for epoch in range(config.epochs):
        losses.append(learner.epoch(split.train, epoch, fold.name))
        validated.append(_ua(data, split.validation, learner.predict(data, split.validation)))
        for name, (other, rows) in tested.items():
            predicted[name].append(learner.predict(other, rows))
        told(epoch + 1)
    return [
        TrainedFold(
            name=name,
            test=rows,
            predicted=np.stack(predicted[name]),
            validation_ua=np.array(validated),
            test_ua=np.array([_ua(other, rows, one) for one in predicted[name]]),
            losses=np.array(losses),
            held_out=kind,
            shared=split.shared(data.clips) if other is data else (),
            trained=len(split.train),
        )
        for name, (other, rows) in tested.items()
    ]


def _split(data: HeardStates, fold: Fold, config: EmoBoxConfig, seed: int) -> tuple[Fold, HeldOut]:
    if config.validation == "speakers" or len(fold.validation):
        return hold_out(fold, data.clips)
    order = generator(seed, "emobox validation", fold.name).permutation(fold.train)
    held = number_of(order[len(order) - round(VALIDATION * len(order)) :].tolist())
    return Fold(fold.name, fold.test, np.setdiff1d(fold.train, held), held), "clips"


def _ua(data: HeardStates, rows: Rows, predicted: Int[np.ndarray, " rows"]) -> float:
    """Mean recall over the classes that the rows have."""
    matrix = confusion(data.labels.given[rows], predicted, len(data.labels.classes.names))
    return float(class_metrics(matrix[None])[1]["ua"][0])


@final
class _Learner:
    """One head in training.

    Args:
        data: states and classes.
        config: how.
        seed: of its weights and order.
        device: that it is on.
    """

    def __init__(self, data: HeardStates, config: EmoBoxConfig, seed: int, device: str | None) -> None:
        self._data, self._config, self._seed, self._device = data, config, seed, resolve_device(device)
        self._precision = resolve_precision(config.precision, self._device)
        width, classes = data.read(np.arange(1)).shape[2], len(data.labels.classes.names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._head = Head(width, config.hidden, classes)
        self._head.to(self._device)
        self._optimizer = torch.optim.Adam(self._head.parameters(), lr=config.learning_rate)

    def epoch(self, rows: Rows, number: int, name: str) -> float:
        """Train on all of these rows once, in an order of the epoch's own; the mean loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.rate(number)
        total = 0.0
        for some in self._batches(generator(self._seed, number).permutation(rows)):
            given = torch.from_numpy(self._data.labels.given[some]).to(self._device)
            loss = functional.cross_entropy(self._logits(self._data, some), given)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._head.parameters(), LONGEST_GRADIENT)
            self._optimizer.step()
            total += loss.item() * len(some)
        if not np.isfinite(total):
            raise EmonetError(
                f"the head of fold {name} diverged in epoch {number + 1}", found=total, hint="a lower learning rate"
            )
        return total / len(rows)

    @torch.inference_mode()
    def predict(self, data: HeardStates, rows: Rows) -> Int[np.ndarray, " rows"]:
        """Position of the class of each clip, which may be another corpus'."""
        found = [self._logits(data, some).argmax(1).cpu().numpy() for some in self._batches(rows)]
        return np.concatenate(found)

    def _logits(self, data: HeardStates, rows: Rows) -> Tensor:
        frames, lengths = self._frames(data, rows)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits: Tensor = self._head(frames, lengths)
        return logits.float()

    def _batches(self, rows: Rows) -> Iterator[Rows]:
        for first in range(0, len(rows), self._config.batch_size):
            yield rows[first : first + self._config.batch_size]

    def _frames(self, data: HeardStates, rows: Rows) -> tuple[Tensor, list[int]]:
        """Real states of some clips one behind the other, normalised, and how many each has."""
        states = data.read(rows)
        lengths = np.minimum(data.lengths[rows], states.shape[1]).tolist()
        parts = [torch.from_numpy(clip[:length]) for clip, length in zip(states, lengths, strict=True)]
        heard = torch.cat(parts).to(self._device).float()
        if self._config.output_norm:
            heard = torch.cat([functional.layer_norm(part, part.shape) for part in torch.split(heard, lengths)])
        return heard, lengths
