"""What errors go along with: correlation of each clip's error with its loudness, signal-to-noise ratio and length."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from emonet.audio import estimated_snr, shared_decoders, speech_level
from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.errors import AudioError
from emonet.evaluation import ACCENT, DPI, GRID, INK, Scored, bare, weighted_metrics
from emonet.protocols.audits.judging import Draws, Truth, errors, estimates, matrix
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row
from emonet.runtime import Progress, ignore

if TYPE_CHECKING:
    import pandas as pd

PROPERTIES: Final = {
    "level": "speech level (dB of full scale)",
    "snr": "signal-to-noise ratio, estimated (dB)",
    "seconds": "length (s)",
}
"""Properties of a recording: column -> what tables call it."""


def sound_properties(clips: Sequence[Clip], *, progress: Progress = ignore) -> pd.DataFrame:
    """Level, signal-to-noise ratio and length of each clip, by its id; NaN where it cannot be decoded.

    Args:
        clips: to hear, at most 30 s of each.
        progress: told of clips.
    """
    import pandas as pd

    found = np.full((len(clips), len(PROPERTIES)), np.nan)
    progress(0, len(clips))
    for row, sound in enumerate(shared_decoders().decode(clips)):
        if not isinstance(sound, AudioError):
            found[row] = speech_level(sound.samples), estimated_snr(sound.samples), sound.seconds
        progress(row + 1, len(clips))
    return pd.DataFrame(found, index=pd.Index([clip.id for clip in clips], name="id"), columns=list(PROPERTIES))


def correlates_table(
    scored: Scored,
    clips: Sequence[Clip],
    truth: Truth,
    properties: pd.DataFrame,
    *,
    evaluation: EvaluationConfig | None = None,
    seed: int = 0,
) -> ProtocolTable:
    """Correlation of clips' errors with each property.

    Args:
        scored: by the model.
        clips: that were scored.
        truth: what people said of them.
        properties: numbers by clip's id, as `sound_properties` gives them; other columns are taken, too.
        evaluation: resamples and coverage.
        seed: of the resamples.

    Raises:
        RequestError: if the scores are of other clips.
    """
    evaluation = evaluation or EvaluationConfig()
    wrong = errors(truth, matrix(scored, clips, truth.spec))
    speakers, rows = np.array([clip.speaker for clip in clips]), []
    for name in properties.columns:
        values = properties.loc[[clip.id for clip in clips], name].to_numpy(np.float64)
        known = np.isfinite(values) & np.isfinite(wrong)
        cells: dict[str, Cell] = {"property": PROPERTIES.get(name, name), "clips": int(known.sum())}
        if known.any():
            cells |= _correlated(values[known], wrong[known], speakers[known].tolist(), evaluation, seed)
        rows.append(Row(cells=cells))
    kind = (
        "mean absolute error, as a share of the targets' ranges" if truth.ratings is not None else "1 if wrong, else 0"
    )
    return ProtocolTable(
        name="fairness_correlates",
        title="What errors go along with",
        source="audit of emonet; see docs/benchmark-robustness.md",
        columns=(
            Column(name="property", label="Property"),
            Column(name="speakers", label="Speakers"),
            Column(name="clips", label="Clips"),
            Column(name="middle", label="Median (quartiles)"),
            Column(name="spearman", label="Spearman", about="Of a clip's error and the property (-1 to 1)."),
            Column(name="pearson", label="Pearson", about="The same, of values instead of ranks."),
        ),
        rows=tuple(rows),
        notes=(f"a clip's error: {kind}", "speakers differ in both: a correlation is no cause"),
    )


def _correlated(
    values: Float64[np.ndarray, " clips"],
    wrong: Float64[np.ndarray, " clips"],
    speakers: Sequence[str],
    evaluation: EvaluationConfig,
    seed: int,
) -> dict[str, Cell]:
    draws = Draws.of(speakers, evaluation, seed)
    found = weighted_metrics(values[:, None], wrong[:, None], draws.weights, draws.owner)
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        "speakers": len(set(speakers)),
        "middle": f"{middle:.1f} ({low:.1f} to {high:.1f})",
        **estimates({"spearman": found["spearman"][:, 0], "pearson": found["pearson"][:, 0]}, draws, evaluation),
    }


def correlates_figure(
    scored: Scored, clips: Sequence[Clip], truth: Truth, properties: pd.DataFrame, path: Path | BytesIO
) -> None:
    """Error of each clip by each property, a panel for each; the line joins means of tenths of the clips.

    Args:
        scored: by the model.
        clips: that were scored.
        truth: what people said of them.
        properties: as for `correlates_table`.
        path: where to, in the format of its suffix.
    """
    wrong = errors(truth, matrix(scored, clips, truth.spec))
    figure = Figure(figsize=(2.9 * len(properties.columns), 2.7), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(properties.columns), sharey=True)).ravel()
    for axis, name in zip(axes, properties.columns, strict=True):
        values = properties.loc[[clip.id for clip in clips], name].to_numpy(np.float64)
        known = np.flatnonzero(np.isfinite(values) & np.isfinite(wrong))
        tenths = [part for part in np.array_split(known[np.argsort(values[known], kind="stable")], 10) if len(part)]
        axis.scatter(values[known], wrong[known], s=5, alpha=0.4, color=INK, linewidths=0, rasterized=True)
        axis.plot([values[part].mean() for part in tenths], [wrong[part].mean() for part in tenths], ".-", color=ACCENT)
        axis.set_xlabel(PROPERTIES.get(str(name), str(name)), fontsize=8, color=INK)
        axis.grid(color=GRID)
        axis.set_axisbelow(True)
        bare(axis)
    figure.supylabel("error of a clip", fontsize=8, color=INK)
    figure.savefig(path)
