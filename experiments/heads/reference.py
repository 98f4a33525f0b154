"""Reference of a model, saved with its experts: what they give their training clips, and what these clips are like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

if TYPE_CHECKING:
    from emonet.checkpoints import Calibration, Familiarity, Population
    from emonet.clips import Split
    from emonet.experts import InputSpec
    from experiments.core import StageContext
    from experiments.heads.forms import HeadsData
    from lightningmodules.experts import TrainedExperts

MOST_BYTES = 1 << 28  # of the training clips' mean states; of more clips, some that are spread over all of them
READ_CLIPS = 16  # at once


def population_of(data: HeadsData, trained: TrainedExperts, calibration: Calibration | None) -> Population:
    """What the experts give their training clips, as users see scores.

    Args:
        data: store and corpus.
        trained: with predictions of the training clips, not calibrated.
        calibration: of the scores.
    """
    from emonet.checkpoints import fit_population

    scores: np.ndarray = trained.predictions["train"]
    if calibration is not None:
        scores = calibration.apply(scores, trained.targets)
    return fit_population(scores, data.store.targets.subset(trained.targets))


def familiarity_of(job: StageContext, data: HeadsData, spec: InputSpec) -> Familiarity | None:
    """What the training clips are like, calibrated on validation clips; None where there are too few.

    Args:
        job: whose run it is; told if there are too few.
        data: store and corpus; no test clip is read.
        spec: which layers the experts hear.
    """
    from emonet.checkpoints import fit_familiarity

    splits: tuple[Split, ...] = ("train", "validation")
    rows = {split: _some(data.store.rows(split), spec) for split in splits}
    with job.progress("what training clips are like", "clips") as progress:
        total, done = sum(map(len, rows.values())), 0
        means = {split: np.empty((len(some), spec.width), np.float32) for split, some in rows.items()}
        for split, some in rows.items():
            for start in range(0, len(some), READ_CLIPS):
                part = _means(data, spec, some[start : start + READ_CLIPS])
                means[split][start : start + len(part)] = part
                done += len(part)
                progress(done, total)
        found = fit_familiarity(means["train"], means["validation"], spec)
    if found is None:
        job.say("unfamiliar recordings will not be told: there are too few training or validation clips")
    return found


def _some(rows: Int[np.ndarray, " clips"], spec: InputSpec) -> Int[np.ndarray, " some"]:
    most = max(1, MOST_BYTES // (4 * spec.width))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _means(data: HeadsData, spec: InputSpec, rows: Int[np.ndarray, " some"]) -> Float32[np.ndarray, "some width"]:
    import torch

    store = data.store
    states, heard = torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows))
    means: np.ndarray = spec.means(states, heard, pooled=store.pooled).numpy()
    return means
