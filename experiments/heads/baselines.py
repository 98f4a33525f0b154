"""The baselines of `heads`: test figures of simple models, ridge on the experts' own states among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32

from emonet.baselines import ABOUT, STATES, licence_of
from emonet.clips import SPLITS
from emonet.numbers import shown
from experiments.core import decoration
from experiments.heads.classes import baseline_class_scores

if TYPE_CHECKING:
    from emonet.baselines import Wanted
    from emonet.clips import Split
    from emonet.evaluation import ClassScores, Estimate, Scores
    from emonet.experts import InputSpec
    from emonet.runtime import Progress
    from experiments.core import StageContext
    from experiments.heads.forms import HeadsData
    from experiments.heads.verb import HeadsResult

KEPT = "baselines"  # folder beside the store: features of baselines
READ_CLIPS = 64  # at once


def wanted_baselines(job: StageContext, data: HeadsData) -> Wanted:
    """What the configuration asks for; checked, so that nothing is trained in vain.

    Raises:
        RequestError: if a baseline is asked for that cannot be computed here.
    """
    from emonet.baselines import Wanted, chosen_baselines, require_whisper
    from emonet.windows import Window
    from experiments.core import console
    from experiments.heads.forms import captioner_of

    store, captioner = data.store, captioner_of(job.experiment)
    names = chosen_baselines(job.experiment.evaluation.baselines, len(store.rows()))
    require_whisper(names, captioner)
    folder, window = store.home.parent / KEPT, Window(store.record.window_seconds)
    return Wanted(names, window, folder, captioner, lambda text: job.say(f"[yellow]note[/] {console.name(text)}"))


def run_baselines(
    job: StageContext, data: HeadsData, spec: InputSpec
) -> tuple[dict[str, Scores], dict[str, ClassScores]]:
    """Test figures of the baselines, on the same clips, targets and resamples.

    Where clips have classes, also those of the argmax over each regression, and of the most frequent class.

    Args:
        job: whose experiment it is.
        data: what the experts were trained on.
        spec: what they see.
    """
    from emonet.baselines import baseline_predictions, median_scores

    experiment, store = job.experiment, data.store
    clips = {split: [data.corpus.clips[row] for row in store.rows(split)] for split in SPLITS}
    truth, targets = {split: data.truth(split) for split in SPLITS}, store.targets.subset(data.rated)
    found: dict[str, np.ndarray] = {"median": median_scores(truth["train"], len(clips["test"]))}
    with job.progress(f"baseline {STATES}") as told:
        found[STATES] = states_ridge(data, spec, told)
    with decoration("baselines that hear the clips"):  # recordings may be gone by now, which the states survive
        found |= baseline_predictions(clips, truth, targets, wanted_baselines(job, data), job.progress)
    predictions = {name: found[name] for name in ABOUT if name in found}
    scores = {name: data.scores("test", predicted, experiment) for name, predicted in predictions.items()}
    return scores, baseline_class_scores(data, predictions, experiment)


def states_ridge(data: HeadsData, spec: InputSpec, progress: Progress) -> Float[np.ndarray, "clips experts"]:
    """What ridge regression predicts for the test clips, out of the states that the experts see.

    It has mean, minimum, maximum and deviation over the states that hear the clip, whatever the experts make of them.

    Args:
        data: what the experts were trained on.
        spec: what they see.
        progress: called with the number of clips that were read.
    """
    from emonet.baselines import fit_ridge, some_clips

    pooled = replace(spec, form="statistics", pool_over="speech")
    fitted_on: tuple[Split, ...] = ("train", "validation")
    some = {split: some_clips(data.truth(split), pooled.features) for split in fitted_on}
    rows = {split: data.store.rows(split)[chosen] for split, chosen in some.items()}
    test, done = data.store.rows("test"), 0
    total = sum(map(len, rows.values())) + len(test)
    progress(0, total)

    def batches(wanted: np.ndarray) -> Iterator[np.ndarray]:
        nonlocal done
        for batch in _statistics(data, pooled, wanted):
            done += len(batch)
            yield batch
            progress(done, total)

    train, validation = (
        (np.concatenate([*batches(rows[split])]), data.truth(split)[some[split]]) for split in fitted_on
    )
    model = fit_ridge(train, validation)
    return np.concatenate([model.predict(batch) for batch in batches(test)])


def _statistics(data: HeadsData, spec: InputSpec, rows: np.ndarray) -> Iterator[Float32[np.ndarray, "clips features"]]:
    import torch

    store, pooled = data.store, data.store.record.pool == "statistics"
    for first in range(0, len(rows), READ_CLIPS):
        some = rows[first : first + READ_CLIPS]
        states, heard = torch.from_numpy(store.read(some)), torch.from_numpy(store.speech_frames(some))
        yield spec.prepare(states, heard, pooled=pooled).values.float().numpy()


def baseline_notes(result: HeadsResult) -> list[str]:
    """What must be said beside the figures: whether the experts lose to ridge on their own states; a licence."""
    return [note for note in (_lost(result), licence_of(result.baselines)) if note is not None]


def _lost(result: HeadsResult) -> str | None:
    pairs: dict[str, tuple[Estimate, Estimate]] = {}
    if STATES in result.baselines:
        pairs |= {"Pearson": (result.test.pearson.mean, result.baselines[STATES].pearson.mean)}
    if result.classes is not None and STATES in result.baseline_classes:
        pairs |= {"UA": (result.classes.ua, result.baseline_classes[STATES].ua)}
    lost = [
        f"{metric} {shown(experts.value)} against {shown(ridge.value)}"
        for metric, (experts, ridge) in pairs.items()
        if ridge.value is not None and (experts.value is None or experts.value < ridge.value)
    ]
    if not lost:
        return None
    what = f"the experts lose to ridge on the same states ({STATES}): {', '.join(lost)}"
    return f"{what}; they may need more training, or another form of input"
