"""Baselines that the experts are compared with, fitted: the training median, and regressions on simple features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Float32

from emonet.baselines.feature_tables import FeatureTable
from emonet.baselines.features import feature_set
from emonet.baselines.names import MEDIAN, WHISPER
from emonet.baselines.regressions import REGRESSIONS, LinearModel, fit_ridge
from emonet.clips import Clip, Split
from emonet.errors import AudioError
from emonet.evaluation import Scored, Scorer
from emonet.runtime import Progress, ignore
from emonet.targets import TargetSpec
from emonet.windows import Window


@dataclass(frozen=True)
class Wanted:
    """Which baselines, and what they have to do with.

    Args:
        names: in the order of tables, as `chosen_baselines` gives them.
        window: as much audio as the experts hear.
        folder: where features are kept; None keeps none.
        captioner: folder or hub id of the Whisper that `whisper_last_mean` hears by.
        say: told in a sentence where kept features cannot be used.
    """

    names: Sequence[str]
    window: Window
    folder: Path | None = None
    captioner: str | None = None
    say: Callable[[str], None] = lambda _: None


@final
@dataclass(frozen=True)
class MedianBaseline:
    """Gives every clip the training median: the best constant under MAE.

    Args:
        target_spec: what it scores.
        medians: of the training clips' scores.
    """

    target_spec: TargetSpec
    medians: Float32[np.ndarray, " targets"]

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """The same scores for each; none is refused, since none is listened to."""
        progress(0, len(clips))
        progress(len(clips), len(clips))
        return Scored.of(clips, self.target_spec, [self.medians.tolist()] * len(clips))


@final
@dataclass(frozen=True)
class RegressionBaseline:
    """A regression on features of the audio.

    Args:
        target_spec: what it scores.
        table: its features.
        model: fitted on them.
    """

    target_spec: TargetSpec
    table: FeatureTable
    model: LinearModel

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Unclamped scores; a clip that cannot be decoded is refused."""
        measured = self.table.of(clips, progress=progress)
        usable = [one for one in measured if not isinstance(one, AudioError)]
        rows = iter(self.model.predict(np.stack(usable)).tolist() if usable else ())
        found = [one.reason if isinstance(one, AudioError) else next(rows) for one in measured]
        return Scored.of(clips, self.target_spec, found)


def median_scores(train: Float[np.ndarray, "train targets"], clips: int) -> Float32[np.ndarray, "clips targets"]:
    """The training median of each target as the prediction for each of `clips`; the best constant under MAE.

    Args:
        train: scores of the training clips, NaN where nobody rated; each target has at least one.
        clips: how many to predict.
    """
    return np.tile(np.nanmedian(train, axis=0).astype(np.float32), (clips, 1))


def fit_baselines(
    clips: Mapping[Split, Sequence[Clip]],
    truth: Mapping[Split, Float[np.ndarray, "_ targets"]],
    targets: TargetSpec,
    wanted: Wanted,
    progress: Callable[[str], AbstractContextManager[Progress]],
) -> dict[str, Scorer]:
    """The wanted baselines, fitted.

    Args:
        clips: of train and validation, and others that will be scored; without clips to validate by there are no
            regressions.
        truth: their scores, NaN where nobody rated; each target has one at least in train and, if there are clips, in
            validation.
        targets: what the scores mean.
        wanted: which of them.
        progress: called with the name of a baseline; gives what is called with the number of finished clips.

    Raises:
        AudioError: if a clip to train or validate by cannot be used.
        RequestError: if `whisper_last_mean` is wanted, and there is no Whisper of 30 s.
    """
    fitted: dict[str, Scorer] = {MEDIAN: MedianBaseline(targets, median_scores(truth["train"], 1)[0])}
    tables: dict[str, FeatureTable] = {}
    heard = [clip for part in clips.values() for clip in part]
    for name in wanted.names if len(clips["validation"]) else ():
        if name == MEDIAN:
            continue
        features = feature_set(name, wanted.window, wanted.captioner)
        table = tables.setdefault(features.name, FeatureTable(features, wanted.folder, wanted.say))
        with progress(f"features of {name}") as told:
            table.of(heard, progress=told)
        train, validation = (_required(table.of(clips[split])) for split in ("train", "validation"))
        fit = fit_ridge if name == WHISPER else REGRESSIONS[name.rpartition("_")[2]]
        model = fit((train, truth["train"]), (validation, truth["validation"]))
        fitted[name] = RegressionBaseline(targets, table, model)
    return fitted


def baseline_predictions(
    clips: Mapping[Split, Sequence[Clip]],
    truth: Mapping[Split, Float[np.ndarray, "_ targets"]],
    targets: TargetSpec,
    wanted: Wanted,
    progress: Callable[[str], AbstractContextManager[Progress]],
    *,
    split: Split = "test",
) -> dict[str, Float[np.ndarray, "_ targets"]]:
    """What the wanted baselines predict for the clips of a split.

    Args:
        clips: of train, validation and `split`.
        truth: their scores, as `fit_baselines` takes them.
        targets: what the scores mean.
        wanted: which of them.
        progress: called with the name of a baseline; gives what is called with the number of finished clips.
        split: whose clips to predict.

    Raises:
        AudioError: if a clip cannot be used.
        RequestError: if `whisper_last_mean` is wanted, and there is no Whisper of 30 s.
    """
    parts: dict[Split, Sequence[Clip]] = {one: clips[one] for one in dict.fromkeys(("train", "validation", split))}
    predictions: dict[str, np.ndarray] = {}
    for name, scorer in fit_baselines(parts, truth, targets, wanted, progress).items():
        scored = scorer.score(clips[split])
        for clip, reason in scored.refusals.items():
            raise AudioError(reason, where=clip)
        predictions[name] = scored.scores.to_numpy()
    return predictions


def _required(measured: Sequence[np.ndarray | AudioError]) -> Float32[np.ndarray, "clips features"]:
    for one in measured:
        if isinstance(one, AudioError):
            raise one
    return np.stack([one for one in measured if not isinstance(one, AudioError)])
