"""Predictions of models and baselines for the compared clips, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from emonet.clips import SPLITS, Clip, Split
from emonet.errors import AudioError, EmonetError
from emonet.experts import ExpertsPrecision
from experiments.core import console

if TYPE_CHECKING:
    import torch

    from emonet.checkpoints import LoadedBank
    from emonet.windows import Window
    from experiments.compare.clips import ComparedClips
    from experiments.compare.models import Model
    from experiments.compare.states import States

READ_CLIPS = 16  # at once: 37 MB of Whisper small's states
TIMED_CLIPS = 5
TIMED_MS = 300.0  # runs are timed for so long, at most MOST_TIMED of them: other programs disturb single ones
MOST_TIMED = 50
FEATURES = "baselines"  # folder of the features that they are fitted on
SHARE = 0.5  # of the free memory that experts may take at once


@dataclass(frozen=True)
class Predicted:
    """What a model predicts, and how fast.

    Args:
        scores: shape (clips, targets).
        milliseconds: of all experts for one clip's states, the median of a few (ms).
    """

    scores: Float64[np.ndarray, "clips targets"]
    milliseconds: float


def predict(
    models: Sequence[Model], states: States, ids: Sequence[str], targets: Sequence[str], precision: ExpertsPrecision
) -> dict[str, Predicted]:
    """Run models that hear the same states on the same clips; each clip is read once for as many as memory holds.

    Args:
        models: of one encoder.
        states: by it.
        ids: of the clips, in order.
        targets: ids, in the order of the columns.
        precision: how experts on flattened states are held.

    Raises:
        EmonetError: if states are damaged, or a score is not finite.
    """
    found: dict[str, Predicted] = {}
    for part in _parts(models, precision):
        running = [_Running(model, precision, states.store.pooled) for model in part]
        rows = [states.rows[one] for one in ids]
        names = ", ".join(model.label for model in part)
        with console.progress(f"scoring by {names}") as progress:
            for done, batch in _batches(states, rows):
                for one in running:
                    one.score(*batch)
                progress(done, len(rows))
        for one in running:
            found[one.model.label] = Predicted(one.scores(targets), one.milliseconds(*batch))
    return found


class _Running:
    """A model whose experts are in memory; `pooled` says whether what they are given are statistics of states."""

    def __init__(self, model: Model, precision: ExpertsPrecision, pooled: bool) -> None:
        from emonet.checkpoints import load_banks, read_calibration

        self.model, self._pooled = model, pooled
        self._banks: tuple[LoadedBank, ...] = load_banks(model.experts, precision)
        self._calibration = read_calibration(model.experts)
        self._found: list[np.ndarray] = []

    def score(self, states: torch.Tensor, lengths: torch.Tensor) -> None:
        """Score one more batch."""
        self._found.append(self._run(states, lengths))

    def _run(self, states: torch.Tensor, lengths: torch.Tensor) -> np.ndarray:
        import torch

        with torch.inference_mode():
            scores = [bank.scores(states, lengths, pooled=self._pooled).mean(2) for bank in self._banks]
            together: np.ndarray = torch.cat(scores, 1).numpy()
        return together

    def scores(self, targets: Sequence[str]) -> Float64[np.ndarray, "clips targets"]:
        """Of all batches, calibrated where the model is."""
        every = np.concatenate(self._found).astype(np.float64)
        if self._calibration is not None:
            every = self._calibration.apply(every, self.model.targets)
        if not np.isfinite(every).all():
            raise EmonetError(
                f"{self.model.label} gives scores that are not finite", where=self.model.experts, hint="train it again"
            )
        columns = [self.model.targets.index(target) for target in targets]
        return every[:, columns]

    def milliseconds(self, states: torch.Tensor, lengths: torch.Tensor) -> float:
        """For one clip, the median over the first of those given, after one to warm up."""
        return timed(
            lambda row: self._run(states[row : row + 1], lengths[row : row + 1]), min(TIMED_CLIPS, len(states))
        )


def timed(work: Callable[[int], object], count: int) -> float:
    """Median time of `work(0)` to `work(count - 1)` in ms, again and again for a moment, after one to warm up."""
    work(0)
    found: list[float] = []
    while len(found) < count or (sum(found) < TIMED_MS and len(found) < MOST_TIMED):
        started = time.perf_counter()
        work(len(found) % count)
        found.append(1000 * (time.perf_counter() - started))
    return median(found)


def predict_baselines(
    clips: ComparedClips, ids: Sequence[str], targets: Sequence[str], window: Window, runs: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """What the training median and the ridge regressions predict, and why one is left out.

    Args:
        clips: of the comparison.
        ids: of those that are compared.
        targets: ids, in the order of the columns.
        window: of one of the models, which the baselines hear, too.
        runs: where features are kept, of a corpus that no store was named of.
    """
    if clips.corpus is None:
        return _median_of_store(clips, ids, targets)
    from emonet.baselines import Wanted, baseline_predictions, chosen_baselines, licence_of

    columns, spec = [clips.targets.index(target) for target in targets], clips.targets.subset(targets)
    parts: dict[Split, list[Clip]] = {split: list(clips.corpus.of_split(split)) for split in SPLITS}
    by_id = {clip.id: clip for clip in parts[clips.split]}
    parts[clips.split] = [by_id[one] for one in ids]
    truth = {split: clips.corpus.scores(parts[split])[:, columns] for split in SPLITS}
    if problem := _unfit(parts, truth):
        return {}, [f"baselines are left out: {problem}"]
    rated = not np.isnan(truth["validation"]).all(0).any() if parts["validation"] else False
    validated = parts if rated else {**parts, "validation": []}
    heard = sum(map(len, validated.values()))
    wanted = Wanted(
        chosen_baselines(["auto"], heard), window, _kept(clips, runs), say=lambda text: console.say(console.name(text))
    )
    try:
        found = baseline_predictions(validated, truth, spec, wanted, console.progress, split=clips.split)
    except AudioError as error:
        return {}, [f"baselines are left out: {error.what}"]
    notes = [] if rated else ["ridge baselines are left out: some target is not rated in the validation split"]
    return found, [*notes, *filter(None, [licence_of(found)])]


def _kept(clips: ComparedClips, runs: Path) -> Path:
    """Where features of baselines are kept: beside the store, or in `runs/compare/baselines` by corpus."""
    if clips.store is not None:
        return clips.store.home.parent / FEATURES
    return runs / "compare" / FEATURES / clips.fingerprint[:12]


def _unfit(parts: Mapping[Split, Sequence[Clip]], truth: Mapping[Split, np.ndarray]) -> str | None:
    if not parts["train"]:
        return "the corpus has no train clips to fit them on"
    if np.isnan(truth["train"]).all(0).any():
        return "some target is not rated in the train split"
    return None


def _median_of_store(
    clips: ComparedClips, ids: Sequence[str], targets: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    from emonet.baselines import median_scores

    assert clips.store is not None
    store = clips.store
    columns = [store.targets.index(target) for target in targets]
    train = store.scores(store.rows("train"))[:, columns]
    if not len(train) or np.isnan(train).all(0).any():
        return {}, ["baselines are left out: the store has no train clips to fit them on"]
    return {"median": median_scores(train, len(ids))}, ["ridge baselines are left out: they need the corpus' audio"]


def _parts(models: Sequence[Model], precision: ExpertsPrecision) -> Iterator[list[Model]]:
    """Models whose experts are in memory at the same time: as many as half of what is free holds, one at least."""
    import torch

    from emonet.training import free_bytes

    budget = SHARE * free_bytes(torch.device("cpu"))
    part: list[Model] = []
    for model in models:
        if part and sum(one.bytes_loaded(precision) for one in [*part, model]) > budget:
            yield part
            part = []
        part.append(model)
    yield part


def _batches(states: States, rows: Sequence[int]) -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor]]]:
    from emonet.runtime import prefetched

    def read() -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor]]]:
        for start in range(0, len(rows), READ_CLIPS):
            batch = rows[start : start + READ_CLIPS]
            yield start + len(batch), _read(states, batch)

    return prefetched(read)


def _read(states: States, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.from_numpy(states.store.read(rows)), torch.from_numpy(states.store.speech_frames(rows))
