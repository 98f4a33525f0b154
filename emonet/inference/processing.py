"""Scores of files and parts of files as tables of audformat, with the methods that audinterface has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32, Float64

from emonet.audio import Excerpt
from emonet.errors import RequestError, brief
from emonet.inference.parts import PartScores
from emonet.runtime import Progress, ignore
from emonet.tables import as_seconds, is_missing
from emonet.windows import Window

if TYPE_CHECKING:
    import pandas as pd

    from emonet.inference.predictions import SampleScores

Time = object
"""Seconds, a `timedelta` (pandas' is one), text with a unit or of the clock; None or NaT."""
Errors = Literal["raise", "nan"]
LONGEST = 1e9  # seconds: 31 years; timedeltas end at 292
_INDEX = ("file", "start", "end")


class Hears(Protocol):
    """What is known of an encoder here."""

    @property
    def window(self) -> Window:
        """As much audio as it hears."""


class FileProcessing(ABC):
    """Scores files as tables whose index is audformat's: file, start and end.

    What is longer than the model's window is heard whole: in consecutive windows of equal length, over whose scores the
    mean is taken, each as long as it is heard. Windows of digital silence do not count. (`predict`, on the other hand,
    hears the first window.) A part that ends behind its recording ends with it.

    Everywhere:

    * times are seconds, a `timedelta`, or text as `00:01:02.5` or `1500 ms`; None or NaT is the beginning or the end;
    * `root` is the folder that relative names start from; it is not in the index;
    * `errors="raise"`: a recording that cannot be used raises `AudioError`; `errors="nan"`: its rows are NaN.
    """

    encoder: Hears

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Ids of what is scored."""

    @abstractmethod
    def score_samples(self, sounds: Sequence[Float32[np.ndarray, " _samples"]]) -> list[SampleScores]:
        """Scores of sounds in memory, each at most as long as the window."""

    def process_file(
        self,
        file: Path | str,
        *,
        start: Time = None,
        end: Time = None,
        root: Path | str | None = None,
        errors: Errors = "raise",
    ) -> pd.DataFrame:
        """Scores of a file, or of a part of it: one row, one column per target.

        Args:
            file: that can be decoded.
            start: where the part begins.
            end: where it ends.
            root: see the class.
            errors: see the class.

        Raises:
            AudioError: if it cannot be used.
            RequestError: if a time is none.
        """
        return self.process_files([file], starts=[start], ends=[end], root=root, errors=errors)

    def process_files(
        self,
        files: Sequence[Path | str],
        *,
        starts: Sequence[Time] | Time = None,
        ends: Sequence[Time] | Time = None,
        root: Path | str | None = None,
        errors: Errors = "raise",
        progress: Progress = ignore,
    ) -> pd.DataFrame:
        """Scores of files, or of a part of each: one row each, in order, one column per target.

        Args:
            files: that can be decoded; may be repeated.
            starts: where the part of each begins; one for all, or one for each.
            ends: where it ends.
            root: see the class.
            errors: see the class.
            progress: called with the number of finished windows.

        Raises:
            AudioError: if one cannot be used.
            RequestError: if a time is none, or there are more or fewer times than files.
        """
        folder = Path() if root is None else Path(root)
        spans = list(zip(_times(starts, "starts", len(files)), _times(ends, "ends", len(files)), strict=True))
        excerpts = [Excerpt(folder / file, *span) for file, span in zip(files, spans, strict=True)]
        found = PartScores(self, excerpts)
        found.score(progress)
        if errors == "raise":
            for error in found.errors.values():
                raise error
        ends_found = [
            end if end is not None else found.lengths.get(one.audio, math.nan)
            for one, (_, end) in zip(excerpts, spans, strict=True)
        ]
        return self._table(list(map(str, files)), [start or 0.0 for start, _ in spans], ends_found, found.means())

    def process_index(
        self,
        index: pd.Index,
        *,
        preserve_index: bool = False,
        root: Path | str | None = None,
        errors: Errors = "raise",
        progress: Progress = ignore,
    ) -> pd.DataFrame:
        """Scores of what an index of audformat names: one row for each of its entries, in order.

        Args:
            index: with the level `file`, and, if parts are meant, `start` and `end` (NaT is the file's end).
            preserve_index: give the table this very index; else files' ends take the place of NaT, and a filewise
                index becomes a segmented one.
            root: see the class.
            errors: see the class.
            progress: called with the number of finished windows.

        Raises:
            AudioError: if a recording cannot be used.
            RequestError: if the index is none of audformat's.
        """
        if tuple(index.names) not in (_INDEX, _INDEX[:1]):
            raise RequestError(
                "this is no index of audformat",
                expected="the levels file, start, end, or file alone",
                found=", ".join(map(str, index.names)),
            )
        parts = {name: index.get_level_values(name).tolist() for name in map(str, index.names)}
        table = self.process_files(
            parts["file"],
            starts=parts.get("start"),
            ends=parts.get("end"),
            root=root,
            errors=errors,
            progress=progress,
        )
        return table.set_axis(index) if preserve_index else table

    def _table(
        self,
        files: Sequence[str],
        starts: Sequence[float],
        ends: Sequence[float],
        scores: Float64[np.ndarray, "rows targets"],
    ) -> pd.DataFrame:
        import pandas as pd

        times = [pd.to_timedelta(np.array(seconds, float), unit="s").as_unit("ns") for seconds in (starts, ends)]
        index = pd.MultiIndex.from_arrays([pd.array(list(files), dtype="string"), *times], names=list(_INDEX))
        return pd.DataFrame(scores, index=index, columns=list(self.targets))


def _times(values: Any, name: str, count: int) -> list[float | None]:
    several: list[Any] = [values] * count if np.ndim(values) == 0 else list(values)
    if len(several) != count:
        raise RequestError(f"{name} are not as many as files", expected=count, found=len(several))
    return [_seconds(value, name) for value in several]


def _seconds(value: Any, name: str) -> float | None:
    if is_missing(value):
        return None
    seconds = as_seconds(value)
    if seconds is None or not 0 <= seconds < LONGEST:
        raise RequestError(
            f"one of the {name} is no time in a recording",
            expected="seconds from 0, a timedelta, or text such as 00:01:02.5",
            found=brief(value),
        )
    return seconds
