"""Baselines that the experts are compared with: the training median, and ridge regression on simple acoustics."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from emonet.audio import LogMel, pad, shared_decoders
from emonet.clips import Clip, Split
from emonet.errors import AudioError
from emonet.evaluation.scoring import Scored, Scorer
from emonet.runtime import Progress, ignore
from emonet.targets import TargetSpec
from emonet.windows import CONV_STRIDE, SAMPLE_RATE, Window

ALPHAS = np.logspace(-1, 5, 13)  # penalties tried; inputs are standardised
BATCH = 32  # clips per pass through the filter bank

Acoustics = Callable[[Sequence[np.ndarray], Window], Float32[np.ndarray, "clips features"]]
"""Features of some clips' audio, 16 kHz, each as long as the clip or the window."""


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
class RidgeBaseline:
    """Ridge regression on simple acoustics.

    Args:
        target_spec: what it scores.
        measure: its features.
        ridge: fitted on them.
        window: as much audio as the experts hear.
    """

    target_spec: TargetSpec
    measure: Acoustics
    ridge: Ridge
    window: Window

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Unclamped scores; a clip that cannot be decoded is refused."""
        measured = _measured(self.measure, clips, self.window, progress)
        usable = [one for one in measured if not isinstance(one, AudioError)]
        rows = iter(self.ridge.predict(np.stack(usable)).tolist() if usable else ())
        found = [one.reason if isinstance(one, AudioError) else next(rows) for one in measured]
        return Scored.of(clips, self.target_spec, found)


def median_scores(train: Float[np.ndarray, "train targets"], clips: int) -> Float32[np.ndarray, "clips targets"]:
    """The training median of each target as the prediction for each of `clips`; the best constant under MAE.

    Args:
        train: scores of the training clips, NaN where nobody rated; each target has at least one.
        clips: how many to predict.
    """
    return np.tile(np.nanmedian(train, axis=0).astype(np.float32), (clips, 1))


@final
class Ridge:
    """Ridge regression of each target; its penalty is the one with the least squared error on validation clips.

    Args:
        train: features and scores of the training clips, NaN where nobody rated.
        validation: of the validation clips.
    """

    def __init__(
        self,
        train: tuple[Float[np.ndarray, "clips features"], Float[np.ndarray, "clips targets"]],
        validation: tuple[Float[np.ndarray, "held features"], Float[np.ndarray, "held targets"]],
    ) -> None:
        from sklearn import linear_model
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler().fit(train[0])
        fit_x, tune_x = (self._scaler.transform(x) for x in (train[0], validation[0]))
        self._targets: int = train[1].shape[1]
        self._fitted: list[tuple[np.ndarray, list[Any], np.ndarray]] = []
        for columns, known in _same_clips(train[1]):
            scores = train[1][np.ix_(known, columns)]
            models = [linear_model.Ridge(alpha=alpha).fit(fit_x[known], scores) for alpha in ALPHAS]
            errors = [_squared_error(predicted, validation[1][:, columns]) for predicted in _outputs(models, tune_x)]
            self._fitted.append((columns, models, np.stack(errors).argmin(0)))

    def predict(self, inputs: Float[np.ndarray, "clips features"]) -> Float64[np.ndarray, "clips targets"]:
        """Unclamped scores."""
        scaled = self._scaler.transform(inputs)
        predictions = np.empty((len(inputs), self._targets))
        for columns, models, best in self._fitted:
            predictions[:, columns] = _outputs(models, scaled)[best, :, np.arange(len(columns))].T
        return predictions


def mel_features(waves: Sequence[np.ndarray], window: Window) -> Float32[np.ndarray, "clips features"]:
    """Mean and deviation of each log-mel band over the frames that hear the clip, `2 * 80` features."""
    rows = []
    for wave, mel in zip(waves, LogMel()(pad(waves, window)), strict=True):
        heard = mel[:, : CONV_STRIDE * window.speech_frames(len(wave) / SAMPLE_RATE)]
        rows.append(torch.cat((heard.mean(1), heard.std(1, correction=0))).numpy())
    return np.stack(rows)


def opensmile_features(waves: Sequence[np.ndarray], window: Window) -> Float32[np.ndarray, "clips features"]:
    """The 88 functionals of eGeMAPSv02 by openSMILE, whose licence is for research only."""
    del window  # its functionals know no padding
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    rows = [smile.process_signal(wave, SAMPLE_RATE).to_numpy(np.float32)[0] for wave in waves]
    features: np.ndarray = np.nan_to_num(np.stack(rows))  # openSMILE leaves some functionals of unvoiced clips open
    return features


def fit_baselines(
    clips: Mapping[Split, Sequence[Clip]],
    truth: Mapping[Split, Float[np.ndarray, "_ targets"]],
    targets: TargetSpec,
    window: Window,
    progress: Callable[[str], AbstractContextManager[Progress]],
) -> dict[str, Scorer]:
    """The training median and the ridge regressions, fitted.

    Args:
        clips: of train and validation; without clips to validate by there are no ridge regressions.
        truth: their scores, NaN where nobody rated; each target has one at least in train and, if there are clips, in
            validation.
        targets: what the scores mean.
        window: as much audio as the experts hear.
        progress: called with the name of a baseline; gives what is called with the number of finished clips.

    Raises:
        AudioError: if a clip cannot be used.
    """
    fitted: dict[str, Scorer] = {"median": MedianBaseline(targets, median_scores(truth["train"], 1)[0])}
    heard = [*clips["train"], *clips["validation"]]
    for name, measure in acoustic_baselines().items() if len(clips["validation"]) else ():
        with progress(f"fitting {name}") as told:
            features = _required(_measured(measure, heard, window, told))
        train, validation = np.split(features, [len(clips["train"])])
        ridge = Ridge((train, truth["train"]), (validation, truth["validation"]))
        fitted[name] = RidgeBaseline(targets, measure, ridge, window)
    return fitted


def baseline_predictions(
    clips: Mapping[Split, Sequence[Clip]],
    truth: Mapping[Split, Float[np.ndarray, "_ targets"]],
    targets: TargetSpec,
    window: Window,
    progress: Callable[[str], AbstractContextManager[Progress]],
    *,
    split: Split = "test",
) -> dict[str, Float[np.ndarray, "_ targets"]]:
    """What the training median and the ridge regressions predict for the clips of a split.

    Args:
        clips: of train, validation and `split`.
        truth: their scores, as `fit_baselines` takes them.
        targets: what the scores mean.
        window: as much audio as the experts hear.
        progress: called with the name of a baseline; gives what is called with the number of finished clips.
        split: whose clips to predict.

    Raises:
        AudioError: if a clip cannot be used.
    """
    predictions: dict[str, np.ndarray] = {}
    for name, scorer in fit_baselines(clips, truth, targets, window, progress).items():
        with progress(f"baseline {name}") as told:
            scored = scorer.score(clips[split], progress=told)
        for clip, reason in scored.refusals.items():
            raise AudioError(reason, where=clip)
        predictions[name] = scored.scores.to_numpy()
    return predictions


def acoustic_baselines() -> dict[str, Acoustics]:
    """Name of each ridge baseline -> what measures its features; openSMILE only where the user has installed it."""
    found: dict[str, Acoustics] = {"mel_ridge": mel_features}
    if importlib.util.find_spec("opensmile") is not None:
        found["opensmile_ridge"] = opensmile_features
    return found


def _measured(
    measure: Acoustics, clips: Sequence[Clip], window: Window, progress: Progress
) -> list[Float32[np.ndarray, " features"] | AudioError]:
    """Features of each clip, or why it cannot be used."""
    heard = shared_decoders().decode(clips, seconds=window.seconds, ahead=BATCH)
    found: list[np.ndarray | AudioError] = []
    progress(0, len(clips))
    while batch := list(islice(heard, BATCH)):
        waves = [one.samples for one in batch if not isinstance(one, AudioError)]
        rows = iter(measure(waves, window) if waves else ())
        found += [one if isinstance(one, AudioError) else next(rows) for one in batch]
        progress(len(found), len(clips))
    return found


def _required(measured: Sequence[np.ndarray | AudioError]) -> Float32[np.ndarray, "clips features"]:
    for one in measured:
        if isinstance(one, AudioError):
            raise one
    return np.stack([one for one in measured if not isinstance(one, AudioError)])


def _outputs(models: Sequence[Any], inputs: np.ndarray) -> Float[np.ndarray, "models clips targets"]:
    # Reshaped, since a ridge of a single target predicts one axis less.
    return np.stack([model.predict(inputs).reshape(len(inputs), -1) for model in models])


def _same_clips(scores: Float[np.ndarray, "clips targets"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Targets that the same clips are rated for, and those clips: one regression serves them all."""
    known = ~np.isnan(scores)
    patterns, which = np.unique(known, axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        yield np.flatnonzero(which.ravel() == pattern), np.flatnonzero(patterns[:, pattern])


def _squared_error(
    predictions: Float[np.ndarray, "clips targets"], scores: Float[np.ndarray, "clips targets"]
) -> Float[np.ndarray, " targets"]:
    errors: np.ndarray = np.nanmean(np.square(predictions - scores), axis=0)
    return errors
