"""Trials of a sweep: train with some settings, judge them by validation clips; no test clip is ever seen."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from emonet.configs import HeadsConfig, InputForm
from emonet.runtime import Progress, identity, ignore
from experiments.core import (
    Experiment,
    open_experiments_corpus,
    require_result,
    resolve_source,
    space_of,
    with_window,
)
from experiments.extract import ExtractResult
from experiments.heads import (
    HeadsData,
    best_by_figures,
    open_corpus_of,
    open_data,
    require_inductive,
    require_selectable,
    validation_figures,
)
from experiments.sweep.heartbeat import reason_of_death

if TYPE_CHECKING:
    from emonet.experts import InputSpec
    from lightningmodules.experts import TrainedExperts

SCRATCH = ".trial-"
OWNER = "worker"  # the file in it that says whose it is
ReportEpoch = Callable[[int, float], None]
"""Called with the epoch, counted from 0, and what is minimised so far; may raise `TrialPruned`."""


class TrialPruned(Exception):  # noqa: N818 - no error: the trial has done its part
    """Raised by whoever hears of a trial's epochs, to end it."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial gave.

    Args:
        values: of the objectives. Experts: mae, the mean over experts of each one's best validation error; pearson,
            the mean of their validation correlations (NaN if it is undefined for all); ua, the mean recall over
            classes of their argmax (absent where there are none); parameters of all experts as they are served. A
            captioner: loss, its best validation loss, and parameters. Both: seconds.
        epochs: passes over the training clips that were made (count).
        seconds: that the trial took.
        curve: what was reported, by epoch.
        best: what the trial chose itself: the form of input.
    """

    values: Mapping[str, float]
    epochs: int
    seconds: float
    curve: tuple[float, ...]
    best: Mapping[str, Any]


def nothing_shown(_label: str, _unit: str) -> AbstractContextManager[Progress]:
    """Show no progress."""
    return nullcontext(ignore)


@final
class Trials:
    """Trains experts of one experiment's store with one setting after the other.

    The corpus and the store are opened once, and inputs stay in memory, up to `heads.states_gib`. No trial depends on
    those before it. Of an ensemble a trial trains the first member, unless the space varies `heads.ensemble`: settings
    are told apart by it at a fraction of the time.

    Args:
        experiment: whose store it is.
        show: opens a progress callback.
        say: told each training's plan.

    Raises:
        RequestError: if `extract` has not finished or belongs to another corpus or captioner, no target is rated
            in both the training and the validation split, or every trial would be refused for the experiment's own
            settings.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        show: Callable[[str, str], AbstractContextManager[Progress]] = nothing_shown,
        say: Callable[[str], None] = ignore,
    ) -> None:
        from lightningmodules.experts import KeptInputs, train_experts  # noqa: F401 - all of it, before `gc.freeze`

        self._show, self._say = show, say
        corpus = open_corpus_of(experiment, require_result(experiment, "extract", ExtractResult))
        self._data = open_data(experiment, corpus, tested=False)
        self._weights = self._data.weights()
        self._kept = KeptInputs(experiment.heads.states_gib)
        space = space_of(experiment.sweep)
        self._whole_ensembles = "heads.ensemble" in space
        require_trainable(self._data, experiment.heads, space)
        gc.collect()
        gc.freeze()  # what is there by now stays: looking through all modules takes 0.2 s each time

    def run(self, experiment: Experiment, report: ReportEpoch) -> TrialOutcome:
        """Train experts of every form of input, and take the form that is best on validation clips.

        Args:
            experiment: of the same store, with the trial's settings.
            report: hears of every epoch; forms follow one another.

        Raises:
            TrialPruned: if `report` raised it.
            RequestError: if memory does not suffice, there are not so many principal coordinates, or forms are to be
                chosen by UA where there are no classes.
            EmonetError: if the training diverged, or the store changed.
        """
        return _freeing(lambda: self._run(experiment, report))

    def _run(self, experiment: Experiment, report: ReportEpoch) -> TrialOutcome:
        started = time.perf_counter()
        # Each worker sees one GPU, under another number than the machine has for it.
        mine = {"devices": ()} | ({} if self._whole_ensembles else {"ensemble": 1})
        heads = experiment.heads.model_dump() | mine
        experiment = Experiment.model_validate({**experiment.model_dump(), "heads": heads})
        config = experiment.heads
        require_trainable(self._data, config)  # all forms, before any is trained
        curve = _Curve(self._data.rated, report)
        tried: dict[InputForm, Mapping[str, float]] = {}
        parameters: dict[InputForm, int] = {}
        for form in dict.fromkeys(config.inputs):
            trained = self._train(experiment, form, curve)
            curve.close()
            tried[form] = validation_figures(self._data, trained)
            parameters[form] = parameters_of(trained.spec, trained.targets, config)
        best = best_by_figures(tried, config)
        seconds = time.perf_counter() - started
        values = {**tried[best], "parameters": float(parameters[best]), "seconds": seconds}
        return TrialOutcome(values, len(curve.told), seconds, tuple(curve.told), {"input": best})

    def _train(self, experiment: Experiment, form: InputForm, curve: _Curve) -> TrainedExperts:
        from datamodules.expert_inputs import spec_of
        from lightningmodules.experts import TrainingCallbacks, TrainingRequest, train_experts

        store, config = self._data.store, experiment.heads
        spec = spec_of(store, form, config)
        wanted = TrainingRequest(
            store, spec, self._data.rated, config, experiment.seed, self._weights, predicted=("validation",)
        )
        with _scratch(experiment.folder) as scratch:
            return train_experts(wanted, TrainingCallbacks(curve.take, self._show, scratch, self._say), self._kept)


def require_trainable(data: HeadsData, config: HeadsConfig, varied: Collection[str] = ()) -> None:
    """Check that the store serves what is to be trained, as far as this does not depend on what is still to vary.

    Args:
        data: the store with its corpus.
        config: of a trial, or of a sweep.
        varied: dotted paths of the fields that have no value yet.

    Raises:
        RequestError: if it does not, experts could not score a clip alone, or forms are to be chosen by UA where there
            are no classes.
    """
    from datamodules.expert_inputs import spec_of

    if "heads.standardise" not in varied:
        require_inductive(config)
    if "heads.select_by" not in varied:
        require_selectable(data, config)
    if not {"heads.inputs", "heads.layers", "heads.frames"}.intersection(varied):
        for form in config.inputs:
            spec_of(data.store, form, config)


@final
class CaptionerTrials:
    """Trains captioners of one experiment's corpus with one setting after the other; none is kept.

    Args:
        experiment: whose corpus it is.
        show: opens a progress callback.
        say: told what each training says.

    Raises:
        RequestError: if the corpus cannot be used.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        show: Callable[[str, str], AbstractContextManager[Progress]] = nothing_shown,
        say: Callable[[str], None] = ignore,
    ) -> None:
        self._show, self._say = show, say
        self._corpus = open_experiments_corpus(experiment)
        self._window = with_window(experiment, "captioner", self._corpus).captioner.window_seconds

    def run(self, experiment: Experiment, report: ReportEpoch) -> TrialOutcome:
        """Train a captioner; its weights are removed.

        Args:
            experiment: of the same corpus, with the trial's settings.
            report: hears of every epoch's best validation loss so far (nats per token).

        Raises:
            TrialPruned: if `report` raised it.
            RequestError: if model, window and corpus do not fit.
            EmonetError: if the training diverged, or a GPU's memory does not suffice.
        """
        return _freeing(lambda: self._run(experiment, report))

    def _run(self, experiment: Experiment, report: ReportEpoch) -> TrialOutcome:
        from lightningmodules.captioner import MONITOR, CaptionerCallbacks, fit_captioner

        started = time.perf_counter()
        told: list[float] = []

        def take(epoch_metrics: Mapping[str, float], epoch: int) -> None:
            told.append(min([*told[-1:], epoch_metrics[MONITOR]]))
            report(epoch, told[-1])

        settings = {**experiment.captioner.model_dump(), "sample_captions": 0, "hit_clips": 1}
        if settings["window_seconds"] == "auto":
            settings["window_seconds"] = self._window
        config = type(experiment.captioner).model_validate(settings)  # captions are no objective, and take time
        source = resolve_source(config.model, experiment)
        experiment.folder.mkdir(parents=True, exist_ok=True)
        with _scratch(experiment.folder) as folder:
            watch = CaptionerCallbacks(self._show, self._say, report=take)
            fitted = fit_captioner(
                self._corpus,
                config,
                seed=experiment.seed,
                folder=folder,
                watch=watch,
                source=source,
                allow_copies=experiment.extraction.copies == "note",
            )
        parameters = sum(parameter.numel() for parameter in fitted.model.parameters())
        seconds = time.perf_counter() - started
        values = {"loss": fitted.metrics[MONITOR], "parameters": float(parameters), "seconds": seconds}
        return TrialOutcome(values, len(told), seconds, tuple(told), {})


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """An empty folder for what a trial writes; those that killed trials of this machine have left are removed."""
    for owner in place.glob(f"{SCRATCH}*/{OWNER}"):
        with suppress(FileNotFoundError):  # its own end, or another worker, was faster
            if reason_of_death(owner.read_text("utf-8")) is not None:
                shutil.rmtree(owner.parent)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place) as folder:
        (Path(folder) / OWNER).write_text(identity(), "utf-8")
        work = Path(folder) / "trial"
        work.mkdir()
        yield work


def parameters_of(spec: InputSpec, targets: tuple[str, ...], config: HeadsConfig) -> int:
    """Parameters of all experts as they are served, on states (count)."""
    import torch

    from emonet.experts import ExpertBank

    with torch.device("meta"):  # sizes without memory
        bank = ExpertBank(spec, targets, config.widths, seed=None)
        return config.ensemble * sum(weight.numel() for weight in bank.parameters())


@final
@dataclass
class _Curve:
    """Turns the epochs of one or more trainings into one falling curve.

    Args:
        targets: ids of all experts; where memory splits them into groups, epochs are told as the last group trains.
        report: hears of every epoch.
    """

    targets: tuple[str, ...]
    report: ReportEpoch
    told: list[float] = field(default_factory=list)
    _best: dict[str, list[float]] = field(default_factory=dict)
    _floor: float = float("inf")

    def take(self, epoch_metrics: Mapping[str, float], epoch: int) -> None:
        """Take in one epoch of some or all experts, and report the mean of their best errors so far."""
        for target in self.targets:
            error = epoch_metrics.get(f"val_mae/{target}")  # none of another group, or once an expert has stopped
            if error is not None:
                so_far = self._best.setdefault(target, [])
                so_far.append(min([*so_far[-1:], float("inf") if np.isnan(error) else error]))
        if len(self._best) == len(self.targets):
            errors = [so_far[min(epoch, len(so_far) - 1)] for so_far in self._best.values()]
            self.told.append(min(self._floor, sum(errors) / len(errors)))
            self.report(len(self.told) - 1, self.told[-1])

    def close(self) -> None:
        """Begin the next form of input, whose experts take the place of these only where they are better."""
        self._floor = min([self._floor, *self.told[-1:]])
        self._best.clear()


def _freeing(train: Callable[[], TrialOutcome]) -> TrialOutcome:
    """Run a training, and leave no weights in memory, however it ends.

    Lightning's trainer and module hold each other; and an exception holds the frames that it came through, and these
    hold everything.
    """
    try:
        return train()
    except TrialPruned as pruned:
        raise pruned.with_traceback(None) from None
    finally:
        gc.collect()
