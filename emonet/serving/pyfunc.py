"""The pyfunc that MLflow loads a registered `emonet-voice` through (`loader_module`); imports nothing of MLflow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from emonet.errors import AudioError, RequestError
from emonet.registry import ERROR, NOTICES, SETTINGS
from emonet.serving.sources import SourceRules, open_source

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline, Prediction

COLUMN = "audio"
EXPERTS_PRECISION = "EMONET_EXPERTS_PRECISION"
AHEAD = 32  # recordings that are opened, and held, at a time
OPENERS = 8  # threads


class VoiceModel:
    """The pyfunc: recordings in, a frame of scores out.

    Args:
        pipeline: encoder and experts.
        rules: which paths and URLs a request may name.
    """

    def __init__(self, pipeline: EmotionPipeline, rules: SourceRules | None = None) -> None:
        self.pipeline = pipeline
        self.rules = rules or SourceRules()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Scores of recordings; one that cannot be used does not cost the others theirs.

        Args:
            model_input: a frame with a column `audio`; or one recording, or a sequence of them. Each is a path, bytes
                in base64, a URL where one is allowed (`open_source`), or encoded audio as bytes.
            params: unused; part of MLflow's interface.

        Returns:
            One row per recording, with its index where a frame was given: one column per target; `notices`, which is
            None, or what should be known of its sound (how much of it was heard, channels that cancel ...); and
            `error`, which is None, or why the recording cannot be used; its scores are None then (not NaN, which
            MLflow's server would write as it is, and JSON does not know it).

        Raises:
            RequestError: if there is no column `audio`.
        """
        recordings = _recordings(model_input)
        predictions = list(self._predictions(recordings.tolist()))
        targets = list(self.pipeline.targets)
        rows = [[p.scores.get(target, np.nan) for target in targets] for p in predictions]
        frame = pd.DataFrame(np.array(rows, np.float64).reshape(-1, len(targets)), recordings.index, targets)
        errors = [p.error for p in predictions]
        if any(errors):
            frame = frame.astype(object)
            frame.loc[[error is not None for error in errors], :] = None
        notices = ["; ".join(p.notices) or None for p in predictions]
        frame[NOTICES] = pd.Series(notices, frame.index, object)
        frame[ERROR] = pd.Series(errors, frame.index, object)
        return frame

    def _predictions(self, recordings: Sequence[Any]) -> Iterator[Prediction]:
        from emonet.inference import Prediction

        with ThreadPoolExecutor(OPENERS) as pool:
            for start in range(0, len(recordings), AHEAD):
                opened = list(pool.map(self._open, recordings[start : start + AHEAD]))
                heard = self.pipeline.predict([one for one in opened if not isinstance(one, AudioError)])
                for one in opened:
                    yield Prediction("", error=one.what) if isinstance(one, AudioError) else next(heard)

    def _open(self, recording: Any) -> Path | bytes | AudioError:
        try:
            return open_source(recording, self.rules)
        except AudioError as error:
            return error


def _recordings(model_input: Any) -> pd.Series[Any]:
    """One recording a row, None where there is nothing.

    A frame of one row may hold a list of them, which MLflow makes of `{"audio": [...]}`. Among several rows a list of
    several is none: answers would no longer stand beside what they are of.
    """
    if isinstance(model_input, str | bytes | Path):
        model_input = [model_input]
    if isinstance(model_input, Mapping):
        model_input = pd.DataFrame({key: pd.Series(value, dtype=object) for key, value in model_input.items()})
    if isinstance(model_input, pd.DataFrame):
        if COLUMN not in model_input:
            raise RequestError(
                f"the request has no column {COLUMN!r}",
                expected='{"dataframe_records": [{"audio": "interview.wav"}]}',
                found=", ".join(map(str, model_input.columns)) or "no column",
            )
        cells = model_input[COLUMN].astype(object)
        recordings = cells.explode() if len(cells) == 1 else cells.map(_only)
    else:
        recordings = pd.Series(list(model_input), dtype=object)
    return recordings.where(recordings.notna(), None)


def _only(cell: Any) -> Any:
    return cell[0] if isinstance(cell, list | tuple | np.ndarray) and len(cell) == 1 else cell


def _tell_other_code(own: Path) -> None:
    """Warn if the code that runs differs from a version's own: Python imports a package once, whatever comes later."""
    running = Path(__file__).resolve().parents[1]
    if own.is_dir() and own.resolve() != running and _sources(own) != _sources(running):
        warnings.warn(
            f"this version was registered with other code ({own}), but this process has imported emonet from {running}"
            " and runs that: its scores may differ; load the version in a process of its own, as emonet serve does",
            UserWarning,
            stacklevel=3,
        )


def _sources(package: Path) -> dict[str, bytes]:
    files = (path for suffix in (".py", ".pyi") for path in package.rglob(f"*{suffix}"))
    return {str(path.relative_to(package)): path.read_bytes() for path in files}


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> VoiceModel:
    """What MLflow calls.

    Args:
        data_path: of the voice model.
        model_config: over `SETTINGS`; `EMONET_EXPERTS_PRECISION`, `EMONET_ALLOW_PATHS` and `EMONET_ALLOW_URLS` in
            the environment go over both.

    Raises:
        RequestError: if a setting has no such value, or the folder holds no voice model.

    Warns:
        UserWarning: if this process runs other code than the version was registered with.
    """
    from emonet.experts import ExpertsPrecision
    from emonet.inference import EmotionPipeline

    _tell_other_code(Path(data_path).parent.parent / "code" / "emonet")
    settings = {**SETTINGS, **(model_config or {})}
    precision: Any = os.environ.get(EXPERTS_PRECISION) or settings["experts_precision"]
    if precision not in get_args(ExpertsPrecision):
        raise RequestError(
            "there is no such precision of experts",
            where=f"model_config: experts_precision, or {EXPERTS_PRECISION}",
            expected=", ".join(get_args(ExpertsPrecision)),
            found=repr(precision),
        )
    rules = SourceRules.read(settings, os.environ)
    return VoiceModel(EmotionPipeline.from_folder(data_path, experts_precision=precision), rules)
