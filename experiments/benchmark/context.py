"""Context of a benchmark's protocols: models, corpora, scores and states, each opened or made once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emonet.clips import Clip, Corpus, Split, values_of
from emonet.configs import ExtractionConfig, Pool
from emonet.errors import RequestError
from emonet.peers import Terms
from emonet.protocols import score_conditions
from emonet.runtime import Progress
from experiments import extract
from experiments.benchmark.models import OpenModel, new_clips, open_model
from experiments.benchmark.parts import PARTS, Draft
from experiments.benchmark.plan import NamedEncoder, Plan
from experiments.core import Experiment, console, open_quietly

if TYPE_CHECKING:
    from cache.store import FeatureStore
    from emonet.audio import Perturbation
    from emonet.evaluation import Scored

SCORES, STATES = "scores", "states"


def contents_of(corpus: Corpus) -> Any:
    """What of a corpus fixes outcomes, JSON-able: its fingerprint has no class labels."""
    return [corpus.fingerprint, values_of(corpus.clips, "label"), dict(corpus.classes)]


@dataclass(frozen=True)
class Scoring:
    """What a model will be asked.

    Args:
        model: that scores.
        clips: that it hears.
        perturbations: in which it hears them once more.
    """

    model: OpenModel
    clips: Sequence[Clip]
    perturbations: Sequence[Perturbation] = ()


@dataclass(frozen=True)
class Prepared:
    """A protocol that has all that it needs.

    Args:
        identity: what of its data and models fixes the outcome, JSON-able.
        run: fills a draft.
        scorings: all that it will ask models, which services may want money for.
    """

    identity: Any
    run: Callable[[Draft], None]
    scorings: Callable[[], Sequence[Scoring]] = tuple


@dataclass
class Context:
    """What protocols share.

    Args:
        plan: of the benchmark.
        folder: that it writes to.
        runs: folder with the registry, and with corpora that are made.
        terms: on which services may be called.
    """

    plan: Plan
    folder: Path
    runs: Path
    terms: Terms
    left_out: dict[str, str] = field(default_factory=dict, init=False)
    _opened: dict[str, OpenModel] = field(default_factory=dict, init=False, repr=False)

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.folder / PARTS

    @property
    def settings(self) -> dict[str, Any]:
        """What of the plan fixes every part's outcome."""
        return self.plan.model_dump(mode="json", include={"evaluation", "seed"})

    @property
    def opened(self) -> tuple[OpenModel, ...]:
        """The models that were opened so far."""
        return tuple(self._opened.values())

    def models(self, *, needed: bool = True) -> tuple[OpenModel, ...]:
        """The plan's models, but for optional ones that are not there.

        Args:
            needed: whether a protocol says nothing without any.

        Raises:
            RequestError: if one that is not optional cannot be opened, or one is needed and none is left.
        """
        for entry in self.plan.models:
            if entry.label in self._opened or entry.label in self.left_out:
                continue
            try:
                self._opened[entry.label] = open_model(entry, self.runs, self.terms)
            except RequestError as error:
                if not entry.optional:
                    raise
                self.left_out[entry.label] = error.what
                console.say(f"[yellow]left out[/] the model {console.name(entry.label)}: {console.name(error.what)}")
        if needed and not self._opened:
            raise RequestError(
                "no model takes part",
                found="; ".join(map(": ".join, self.left_out.items())) or "a plan without models",
                hint="models: [champion] in the plan, and emonet heads before it",
            )
        return self.opened

    def corpus(self, spec: str, targets: str = "emotions") -> Corpus:
        """A corpus by its name.

        Raises:
            RequestError: if it is not there, or cannot be used.
        """
        return open_quietly(Experiment(corpus=spec, targets=targets, runs=self.runs))

    def clips(
        self, corpus: Corpus, split: Split | Literal["all"], most: int | None = None
    ) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        """Clips of a corpus that no model was trained on, at most so many, spread over all; and what to say of it.

        Raises:
            RequestError: if there are none.
        """
        every = corpus.clips if split == "all" else corpus.of_split(split)
        found, known = new_clips(every, self.models())
        notes = [
            f"{label} was trained on, or chosen by, {count:,} of these clips: left out for all models"
            for label, count in known.items()
        ]
        if most is not None and len(found) > most:
            notes.append(f"{most:,} of {len(found):,} clips, spread over all of them")
            found = tuple(found[row] for row in np.linspace(0, len(found) - 1, most).round().astype(int))
        if not found:
            raise RequestError(
                "no clip is left to judge models by",
                where=f"{corpus.name}, split {split}",
                found="; ".join(notes) or "an empty split",
            )
        return found, tuple(notes)

    @property
    def unanswered(self) -> int:
        """Clips that services have given no answer for so far, with those that nobody asked them for (count)."""
        return sum(model.peer.unanswered for model in self.opened if model.peer is not None)

    def scores_folder(self, model: OpenModel) -> Path | None:
        """Where a model's scores are kept; None of a service: answers are, and what has none is asked again."""
        return None if model.peer is not None and model.peer.is_service else self.folder / SCORES

    def scores(self, model: OpenModel, clips: Sequence[Clip], what: str) -> Scored:
        """A model's scores of some clips, kept for the next run."""
        with self.progress(f"{model.label}: {what}") as progress:
            found = score_conditions(
                model.scorer,
                clips,
                (),
                model=model.identity,
                folder=self.scores_folder(model),
                seed=self.plan.seed,
                progress=progress,
            )
        return next(iter(found.values()))

    def states(self, encoder: NamedEncoder, spec: str, name: str, pool: Pool = "none") -> FeatureStore:
        """The states of a corpus' clips, extracted once.

        Args:
            encoder: of the plan.
            spec: of the corpus.
            name: of the protocol and corpus, for the folder.
            pool: all of them, or statistics over those that hear the clip.

        Raises:
            RequestError: if there is no such encoder or corpus.
        """
        from cache.store import FeatureStore

        config = ExtractionConfig.model_validate(
            {
                "captioner": encoder.encoder,
                "layers": encoder.layers,
                "window_seconds": encoder.window_seconds,
                "pool": pool,
            }
        )
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{encoder.label}")
        experiment = Experiment(
            name=folder.lstrip("._-"),
            corpus=spec,
            runs=self.folder / STATES,
            extraction=config,
        )
        return FeatureStore.open(extract.run(experiment).store)

    def progress(self, label: str, unit: str = "clips") -> AbstractContextManager[Progress]:
        """A progress callback."""
        return console.progress(label, unit)
