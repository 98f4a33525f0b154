"""Kept scores: one Parquet file for each condition, by a digest of everything that they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, final

from emonet.clips import Clip, content_key
from emonet.evaluation import Scored
from emonet.runtime import durable
from emonet.schema import digest
from emonet.targets import TargetSpec

_REFUSAL: Final = "refusal:"  # no target is called so


@final
class KeptScores:
    """A folder of scores, so that a run that was cut off goes on with the condition it was at.

    Args:
        folder: made when the first scores are kept; None keeps nothing.
        settled: what all conditions depend on, JSON-able: model, clips, targets, seed.
    """

    def __init__(self, folder: Path | None, settled: Mapping[str, Any]) -> None:
        self._folder, self._settled = folder, dict(settled)

    def read(self, condition: str, clips: Sequence[Clip], targets: TargetSpec) -> Scored | None:
        """What was kept; None where nothing was, or it is damaged."""
        import pandas as pd
        import pyarrow as pa

        path = self._path(condition)
        if path is None or not path.is_file():
            return None
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError, pa.ArrowException):
            return None
        ids = [clip.id for clip in clips]
        if table.index.tolist() != ids or table.columns.tolist() != [*targets.ids, _REFUSAL]:
            return None
        refusals = table[_REFUSAL].dropna()
        return Scored(table[list(targets.ids)], dict(zip(refusals.index, refusals.tolist(), strict=True)))

    def write(self, condition: str, scored: Scored) -> None:
        """Keep a condition's scores, whole or not at all."""
        import pandas as pd

        path = self._path(condition)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        reasons = [scored.refusals.get(name) for name in scored.scores.index]
        content = BytesIO()
        table = scored.scores.copy()
        table[_REFUSAL] = pd.array(reasons, "string")
        table.to_parquet(content)
        durable.write(path, content.getvalue())

    def _path(self, condition: str) -> Path | None:
        if self._folder is None:
            return None
        key = digest({**self._settled, "condition": condition})
        return self._folder / f"{condition.replace(':', '_')}-{key[:16]}.parquet"


def clip_set(clips: Sequence[Clip]) -> str:
    """Digest of what of the clips is heard: ids, parts, and sizes of files or content of bytes."""
    return digest([[clip.id, content_key(clip.audio), clip.start, clip.end] for clip in clips])
