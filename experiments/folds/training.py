"""Training fold after fold: the store's clips are prepared once, and every choice is made within a fold's speakers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import pandas as pd
from jaxtyping import Float

from emonet.baselines import STATES, fit_ridge, median_scores
from emonet.clips import SPLITS, Corpus, Fold, HeldOut, hold_out, values_of
from emonet.configs import HeadsConfig, InputForm
from emonet.errors import RequestError
from emonet.experts import Features, InputSpec, standardised_within
from emonet.runtime import ignore
from emonet.targets import NO_CLASS, majority
from experiments.core import StageContext, counted
from experiments.folds.results import EXPERTS, FoldFacts
from experiments.heads import (
    MAJORITY,
    HeadsData,
    best_by_figures,
    calibrated,
    classes_of,
    require_selectable,
    validation_figures,
)

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from lightningmodules.experts import TrainedExperts

MEDIAN = "median"
GIB = 1 << 30
Predictions = Float[np.ndarray, "clips experts"]


@dataclass(frozen=True)
class DoneFold:
    """A fold that is trained and tested.

    Args:
        facts: of it.
        table: one row per test clip: id, speaker, language, fold; `truth.ID`, `prediction.ID` and, of the baselines,
            `median.ID` and `states_ridge.ID` for each target with an expert; ids of targets in `class` and, by argmax,
            `predicted`, `predicted.states_ridge` and `predicted.majority`, where there are classes.
    """

    facts: FoldFacts
    table: pd.DataFrame


@dataclass(frozen=True)
class _Turn:
    """What came of holding out some of a fold's training clips.

    Args:
        data: with these as validation clips.
        held_out: what they are.
        figures: of the experts on them, by form of input.
        predictions: of the test clips, by form or baseline.
    """

    data: HeadsData
    held_out: HeldOut
    figures: Mapping[InputForm, Mapping[str, float]]
    predictions: Mapping[str, Predictions]


@final
class FoldTrainer:
    """Trains and tests the experts and the baselines of one fold after the other; none depends on those before it.

    Args:
        job: whose experiment it is.
        store: with any splits.
        corpus: that the store was made from.

    Raises:
        RequestError: if the store does not serve a form of input that is asked for, or speakers are to be standardised
            whose clips do not fit into memory, or have one clip each.
    """

    def __init__(self, job: StageContext, store: FeatureStore, corpus: Corpus) -> None:
        from datamodules.expert_inputs import spec_of

        for form in job.experiment.heads.inputs:
            spec_of(store, form, job.experiment.heads)  # refused by its own name, before anything is read
        self._job, self._store, self._corpus = job, store, corpus
        self._config = job.experiment.heads
        forms = [form for form in dict.fromkeys(self._config.inputs) if not self._in_coordinates(form)]
        self._every = {form: self._prepared(form, self._config) for form in forms}
        shared = self._config.frames == "speech" and "statistics" in self._every
        self._of_ridge = self._every["statistics"] if shared else self._prepared("statistics", self._as_ridge_hears())

    def run(self, fold: Fold, scratch: Path) -> DoneFold:
        """Train, choose and calibrate on a fold's training and validation clips, and predict its test clips.

        Of an ensemble, each member holds out other training speakers, so that all of them are learned from.

        Args:
            fold: that comes with validation clips, or whose training clips some are held out of.
            scratch: a folder for experts that wait.

        Raises:
            RequestError: if no target is rated in both its training and its validation clips, or memory does not
                suffice.
            EmonetError: if the training diverged, or the store changed.
        """
        from cache.principal import forget_divisions

        given = len(fold.validation) > 0
        held_out = [hold_out(fold, self._corpus.clips, turn) for turn in range(1 if given else self._config.ensemble)]
        try:
            turns = [self._turn(one, kind, number, scratch) for number, (one, kind) in enumerate(held_out)]
        finally:
            forget_divisions(self._store)  # of this fold's training clips: nobody reads them again
        rated = tuple(target for target in self._store.targets.ids if any(target in one.data.rated for one in turns))
        figures = {form: _mean_figures([one.figures[form] for one in turns]) for form in turns[0].figures}
        form = best_by_figures(figures, self._config)
        data = replace(turns[0].data, rated=rated)
        predicted = {name: _mean(rated, turns, name) for name in (form, MEDIAN, STATES) if name in turns[0].predictions}
        predicted[EXPERTS] = predicted.pop(form)
        facts = FoldFacts(
            name=fold.name,
            clips={split: len(data.store.rows(split)) for split in SPLITS},
            speakers={split: len(set(data.speakers(split))) for split in SPLITS},
            shared_speakers=held_out[0][0].shared(self._corpus.clips),
            held_out=turns[0].held_out,
            members=len(turns),
            input=form,
            rated=rated,
        )
        return DoneFold(facts, _table(fold, data, predicted))

    def _turn(self, fold: Fold, held_out: HeldOut, turn: int, scratch: Path) -> _Turn:
        store = self._store.with_splits(fold.splits(len(self._corpus)))
        data = HeadsData.of(store, self._corpus, f"fold {fold.name} of {store.path}")
        require_selectable(data, self._config)
        settings = self._config.model_dump() | ({} if held_out == "files" else {"ensemble": 1})
        config = HeadsConfig.model_validate(settings)
        trained = {form: self._train(data, form, config, turn, scratch) for form in dict.fromkeys(config.inputs)}
        predictions: dict[str, Predictions] = {
            form: calibrated(self._job, data, one)[0].predictions["test"] for form, one in trained.items()
        }
        predictions[MEDIAN] = median_scores(data.truth("train"), len(store.rows("test")))
        if (ridge := self._ridge(data)) is not None:
            predictions[STATES] = ridge
        figures = {form: validation_figures(data, one) for form, one in trained.items()}
        return _Turn(data, held_out, figures, predictions)

    def _train(self, data: HeadsData, form: InputForm, config: HeadsConfig, turn: int, scratch: Path) -> TrainedExperts:
        from datamodules.expert_inputs import divided_inputs, spec_of
        from lightningmodules.experts import TrainingCallbacks, TrainingRequest, train_experts

        spec, every = spec_of(data.store, form, config), self._every.get(form)
        inputs = None if every is None else divided_inputs(data.store, spec, every)
        seed = self._job.experiment.seed + turn
        wanted = TrainingRequest(data.store, spec, data.rated, config, seed, data.weights(), inputs=inputs)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            return train_experts(wanted, TrainingCallbacks(ignore, lambda *_: nullcontext(ignore), Path(folder)))

    def _ridge(self, data: HeadsData) -> Predictions | None:
        """Ridge on statistics over the states that hear the clip; None where memory does not hold them."""
        every = self._of_ridge
        if every is None:
            return None
        places = {split: np.searchsorted(data.store.rows(), data.store.rows(split)) for split in SPLITS}
        x = {split: every.values.numpy()[rows] for split, rows in places.items()}
        ridge = fit_ridge((x["train"], data.truth("train")), (x["validation"], data.truth("validation")))
        return ridge.predict(x["test"])

    def _in_coordinates(self, form: InputForm) -> bool:
        return form == "flatten" and self._config.features == "principal"

    def _as_ridge_hears(self) -> HeadsConfig:
        """As the baseline of `emonet heads`: over speech, whatever the experts pool over; of all layers they hear."""
        layers = "all" if self._config.layers == "mix" else self._config.layers
        return HeadsConfig.model_validate({**self._config.model_dump(), "frames": "speech", "layers": layers})

    def _prepared(self, form: InputForm, config: HeadsConfig) -> Features | None:
        """All clips in memory; None where they do not fit, and each fold reads the store."""
        from datamodules.expert_inputs import read_all, spec_of

        spec, clips = spec_of(self._store, form, config), len(self._store.rows())
        size = clips * spec.bytes_per_clip / GIB
        if size > self._config.states_gib:
            if self._config.standardise == "speaker":
                raise RequestError(
                    "speakers are standardised in memory",
                    where=self._store.path,
                    expected=f"--heads.states-gib {size:.1f} or more",
                    found=f"{self._config.states_gib:g} for {counted(clips, 'clip')}",
                )
            return None
        with self._job.progress(f"reading states ({form})") as progress:
            features = read_all(self._store, spec, progress=progress)
        return self._by_speaker(spec, features) if self._config.standardise == "speaker" else features

    def _by_speaker(self, spec: InputSpec, features: Features) -> Features:
        every = values_of(self._corpus.clips, "speaker")
        speakers = [every[row] for row in self._store.rows()]
        names, groups, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
        alone = int((counts == 1).sum())
        if alone == len(names):
            raise RequestError(
                "no speaker has two clips, so that none can be standardised", where=self._corpus.name, found=names[0]
            )
        if alone:
            self._job.say(f"[yellow]note[/] of {counted(alone, 'speaker')} with a single clip, nothing is left of it")
        return standardised_within(spec, features, groups)


def _mean_figures(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    common = set.intersection(*(set(one) for one in each))
    return {name: float(np.mean([one[name] for one in each])) for name in each[0] if name in common}


def _mean(rated: tuple[str, ...], turns: Sequence[_Turn], name: str) -> Predictions:
    """Mean predictions of the turns in which a target has an expert."""
    total = np.zeros((len(next(iter(turns[0].predictions.values()))), len(rated)))
    counts = np.zeros(len(rated))
    for turn in turns:
        columns = [rated.index(target) for target in turn.data.rated]
        total[:, columns] += turn.predictions[name]
        counts[columns] += 1
    return total / counts


def _table(fold: Fold, data: HeadsData, predicted: Mapping[str, Predictions]) -> pd.DataFrame:
    rows = data.store.rows("test")
    table = data.store.clips.iloc[rows][["id", "speaker", "language"]].reset_index(drop=True)
    columns: dict[str, object] = {"fold": fold.name}
    truth = data.truth("test")
    for place, target in enumerate(data.rated):
        columns[f"truth.{target}"] = truth[:, place]
        columns |= {f"{column_of(name)}.{target}": values[:, place] for name, values in predicted.items()}
    columns |= _classes(data, predicted)
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)


def _classes(data: HeadsData, predicted: Mapping[str, Predictions]) -> dict[str, object]:
    """The class that was given to each test clip, and those predicted; empty where the fold tells none apart."""
    classes = classes_of(data)
    if classes is None:
        return {}
    spec, names = data.store.targets.subset(data.rated), [*classes.names, None]  # the last one is that of NO_CLASS
    assert NO_CLASS == -1
    meant = data.corpus.classes
    found: dict[str, object] = {"class": [meant.get(label or "") for label in data.labels("test")]}
    frequent = majority(classes.given(data.labels("train")), len(data.store.rows("test")))
    told = {MAJORITY: frequent} | {
        name: classes.predicted(values, spec) for name, values in predicted.items() if name != MEDIAN
    }
    return found | {class_column(name): [names[one] for one in values] for name, values in told.items()}


def column_of(name: str) -> str:
    """What columns of scores begin with."""
    return "prediction" if name == EXPERTS else name


def class_column(name: str) -> str:
    """The column of predicted classes."""
    return "predicted" if name == EXPERTS else f"predicted.{name}"
