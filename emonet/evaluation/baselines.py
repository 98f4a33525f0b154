"""What the experts are compared with: the training median, and ridge regression on simple acoustics."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from emonet.audio import Decoded, LogMel, pad, shared_decoders
from emonet.clips import Clip, Split
from emonet.errors import AudioError
from emonet.runtime import Progress, silent
from emonet.windows import CONV_STRIDE, SAMPLE_RATE, Window

ALPHAS = np.logspace(-1, 5, 13)  # penalties tried; inputs are standardised
BATCH = 32  # clips per pass through the filter bank

Acoustics = Callable[[Sequence[Clip], Window, Progress], Float32[np.ndarray, "clips features"]]


def median_scores(train: Float[np.ndarray, "train targets"], clips: int) -> Float32[np.ndarray, "clips targets"]:
    """The training median of each target as the prediction for each of `clips`; the best constant under MAE.

    Args:
        train: scores of the training clips, NaN where nobody rated; each target has at least one.
        clips: how many to predict.
    """
    return np.tile(np.nanmedian(train, axis=0).astype(np.float32), (clips, 1))


def ridge_scores(
    train: tuple[Float[np.ndarray, "clips features"], Float[np.ndarray, "clips targets"]],
    validation: tuple[Float[np.ndarray, "held features"], Float[np.ndarray, "held targets"]],
    inputs: Float[np.ndarray, "test features"],
) -> Float64[np.ndarray, "test targets"]:
    """Ridge regression of each target; its penalty is the one with the least squared error on validation clips.

    Args:
        train: features and scores of the training clips, NaN where nobody rated.
        validation: of the validation clips.
        inputs: features of the clips to predict.

    Returns:
        Unclamped scores.
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0])
    fit_x, tune_x, test_x = (scaler.transform(x) for x in (train[0], validation[0], inputs))
    predictions = np.empty((len(inputs), train[1].shape[1]))
    for columns, known in _same_clips(train[1]):
        models = [Ridge(alpha=alpha).fit(fit_x[known], train[1][np.ix_(known, columns)]) for alpha in ALPHAS]
        # Reshaped, since a ridge of a single target predicts one axis less.
        tuned, outputs = (np.stack([m.predict(x).reshape(len(x), -1) for m in models]) for x in (tune_x, test_x))
        errors = np.stack([_squared_error(predicted, validation[1][:, columns]) for predicted in tuned])
        best = errors.argmin(0)
        predictions[:, columns] = outputs[best, :, np.arange(len(columns))].T
    return predictions


def mel_statistics(
    clips: Sequence[Clip], window: Window, progress: Progress = silent
) -> Float32[np.ndarray, "clips features"]:
    """Mean and deviation of each log-mel band over the frames that hear the clip, `2 * 80` features.

    Args:
        clips: to decode.
        window: as much audio as the experts hear.
        progress: called with the number of finished clips.

    Raises:
        AudioError: if a clip cannot be used.
    """
    logmel = LogMel()
    rows: list[np.ndarray] = []
    progress(0, len(clips))
    for waves in _decoded(clips, window):
        mels = logmel(pad(waves, window))
        for wave, mel in zip(waves, mels, strict=True):
            heard = mel[:, : CONV_STRIDE * window.speech_frames(len(wave) / SAMPLE_RATE)]
            rows.append(torch.cat((heard.mean(1), heard.std(1, correction=0))).numpy())
        progress(len(rows), len(clips))
    return np.stack(rows)


def opensmile_functionals(
    clips: Sequence[Clip], window: Window, progress: Progress = silent
) -> Float32[np.ndarray, "clips features"]:
    """The 88 functionals of eGeMAPSv02 by openSMILE, whose licence is for research only.

    Args:
        clips: to decode.
        window: as much audio as the experts hear.
        progress: called with the number of finished clips.

    Raises:
        AudioError: if a clip cannot be used.
    """
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    rows: list[np.ndarray] = []
    progress(0, len(clips))
    for waves in _decoded(clips, window):
        rows.extend(smile.process_signal(wave, SAMPLE_RATE).to_numpy(np.float32)[0] for wave in waves)
        progress(len(rows), len(clips))
    features: np.ndarray = np.nan_to_num(np.stack(rows))  # openSMILE leaves some functionals of unvoiced clips open
    return features


def baseline_predictions(
    clips: Mapping[Split, Sequence[Clip]],
    truth: Mapping[Split, Float[np.ndarray, "_ targets"]],
    window: Window,
    progress: Callable[[str], AbstractContextManager[Progress]],
    *,
    split: Split = "test",
) -> dict[str, Float[np.ndarray, "_ targets"]]:
    """What the training median and the ridge regressions predict for the clips of a split.

    Args:
        clips: of train, validation and `split`; without clips to validate by there are no ridge regressions.
        truth: their scores, NaN where nobody rated; each target has one at least in train and, if there are clips, in
            validation.
        window: as much audio as the experts hear.
        progress: called with the name of a baseline; gives what is called with the number of finished clips.
        split: whose clips to predict.

    Raises:
        AudioError: if a clip cannot be used.
    """
    predictions: dict[str, np.ndarray] = {"median": median_scores(truth["train"], len(clips[split]))}
    parts: tuple[Split, ...] = ("train", "validation", split)
    for name, measure in acoustic_baselines().items() if len(clips["validation"]) else ():
        with progress(f"baseline {name}") as told:
            features = measure([clip for part in parts for clip in clips[part]], window, told)
        train, validation, inputs = np.split(features, np.cumsum([len(clips[part]) for part in parts])[:2])
        predictions[name] = ridge_scores((train, truth["train"]), (validation, truth["validation"]), inputs)
    return predictions


def acoustic_baselines() -> dict[str, Acoustics]:
    """Name of each ridge baseline -> what measures its features; openSMILE only where the user has installed it."""
    found: dict[str, Acoustics] = {"mel_ridge": mel_statistics}
    if importlib.util.find_spec("opensmile") is not None:
        found["opensmile_ridge"] = opensmile_functionals
    return found


def _decoded(clips: Sequence[Clip], window: Window) -> Iterator[list[Any]]:
    heard = shared_decoders().decode(clips, seconds=window.seconds, ahead=BATCH)
    while batch := list(islice(heard, BATCH)):
        yield [_samples(one) for one in batch]


def _samples(heard: Decoded | AudioError) -> Float32[np.ndarray, " samples"]:
    if isinstance(heard, AudioError):
        raise heard
    return heard.samples


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
