"""Predictions that somebody else has made, out of a CSV or Parquet file: a row a clip, a column a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import pandas as pd

from emonet.clips import Clip
from emonet.errors import RequestError, raise_collected, shortened
from emonet.evaluation import Scored
from emonet.names import as_text
from emonet.runtime import Progress, expanded, ignore
from emonet.targets import PUBLISHED, TargetSpec

REFUSAL = "refusal"  # the column of reasons


@final
class Predictions:
    """A table of predictions as a scorer; a clip without a row, or with a score missing, is refused.

    Args:
        file: `.csv` or `.parquet`, with the column `id`, a column for each target (by id, name or alias) on its own
            scale, and, if there is one, the column `refusal` of reasons.
        targets: that it may score; others' columns are left out. None is everything that there is a published expert
            for.

    Raises:
        RequestError: if it cannot be read, has no such columns, or ids twice or scores that are no numbers.
    """

    def __init__(self, file: str, targets: TargetSpec | None) -> None:
        self._path = expanded(file)
        table = _read(self._path)
        known = PUBLISHED if targets is None else targets
        columns = {known[name].id: name for name in map(str, table.columns) if name in known}
        if "id" not in table.columns or not columns:
            raise RequestError(
                "the table is none of predictions",
                where=as_text(self._path),
                expected="the column id, and a column for each target",
                found=shortened(list(map(str, table.columns))),
            )
        self.target_spec = known.subset(columns)
        ids = table["id"].astype(str).reset_index(drop=True)
        scores = table[[columns[name] for name in self.target_spec.ids]].apply(pd.to_numeric, errors="coerce")
        wrong = scores.isna() & table[scores.columns].notna() | np.isinf(scores.to_numpy(np.float64, na_value=np.nan))
        problems = [f"{one} occurs {n} times" for one, n in ids.value_counts().items() if n > 1]
        problems += [
            f"{ids[row]}: {self.target_spec.ids[column]} is no number"
            for row, column in zip(*np.nonzero(wrong.to_numpy()), strict=True)
        ]
        raise_collected("the predictions cannot be used", problems, where=as_text(self._path))
        self._rows = dict(zip(ids, scores.to_numpy(np.float64, na_value=np.nan).tolist(), strict=True))
        reasons = table[REFUSAL] if REFUSAL in table.columns else pd.Series([None] * len(ids))
        self._reasons = {one: str(why) for one, why in zip(ids, reasons, strict=True) if pd.notna(why) and str(why)}

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """The predictions of these clips; those that the table has no row of are refused."""
        progress(0, len(clips))
        progress(len(clips), len(clips))
        return Scored.of(clips, self.target_spec, [self._found(clip.id) for clip in clips])

    def _found(self, name: str) -> list[float] | str:
        if name in self._reasons:
            return self._reasons[name]
        row = self._rows.get(name)
        if row is None:
            return f"{self._path.name} has no row of it, but of {shortened(list(self._rows), 2) or 'none'}"
        missing = [one for one, score in zip(self.target_spec.ids, row, strict=True) if np.isnan(score)]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"{self._path.name} has no score of {missing[0]}{more}" if missing else row


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype={"id": str}, keep_default_na=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise RequestError(
            "the predictions cannot be read", where=as_text(path), expected="a CSV or Parquet file", found=error
        ) from error
