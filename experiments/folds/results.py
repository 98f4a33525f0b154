"""Results over folds: figures of the experts and of baselines, and what each fold was made of; `folds.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from emonet.clips import HeldOut, Split
from emonet.configs import CalibrationKind, InputForm
from emonet.evaluation import ClassScores, FoldEstimate, Scores
from emonet.schema import Schema
from experiments.core import StageResult

EXPERTS = "experts"
CLASS_FIGURES: dict[str, str] = {"ua": "UA", "wa": "WA", "f1": "macro F1"}
"""Field of `FoldFigures` -> what tables call it; more is better in all of them."""


class FoldFigures(Schema):
    """Test figures over folds; those of scores are means over targets. None where there is nothing to compare."""

    ua: FoldEstimate | None = None
    """Unweighted accuracy: mean recall over the classes (0 to 1)."""
    wa: FoldEstimate | None = None
    """Weighted accuracy: share of the clips that are right (0 to 1)."""
    f1: FoldEstimate | None = None
    """Mean over the classes of F1 (0 to 1)."""
    mae: FoldEstimate | None = None
    """Mean absolute error (in units of the score)."""
    rmse: FoldEstimate | None = None
    """Root mean squared error (in units of the score)."""
    pearson: FoldEstimate | None = None
    """Pearson correlation (-1 to 1)."""
    spearman: FoldEstimate | None = None
    """Spearman rank correlation (-1 to 1)."""
    ccc: FoldEstimate | None = None
    """Concordance correlation coefficient (-1 to 1)."""

    def of(self, name: str) -> FoldEstimate | None:
        """One figure by name."""
        estimate: FoldEstimate | None = getattr(self, name)
        return estimate

    def flat(self) -> dict[str, float]:
        """`ua`, `ua/pooled`, `mae` and so on, as they are logged; what is undefined is left out."""
        found: dict[str, float | None] = {}
        for name in FoldFigures.model_fields:
            if (estimate := self.of(name)) is not None:
                found |= {name: estimate.mean, f"{name}/pooled": estimate.pooled.value}
        return {name: value for name, value in found.items() if value is not None}


class FoldFacts(Schema):
    """What one fold was made of, and what was chosen within its training speakers."""

    name: str
    """Its number, the speaker who is left out, or what the file calls it."""
    clips: dict[Split, int]
    """Usable clips (count)."""
    speakers: dict[Split, int]
    """Who speaks in them (count)."""
    shared_speakers: tuple[str, ...]
    """Speakers of test clips who are trained on or chosen by, too."""
    held_out: HeldOut
    """What the validation clips are: those of some training speakers, clips of the only one, or as the files say."""
    members: int = 1
    """Of each expert, each of which holds out other clips; counts are of the first (count)."""
    input: InputForm
    """The form of input chosen on the validation clips."""
    rated: tuple[str, ...]
    """Targets rated in the training and the validation clips: each has an expert."""


class FoldsResult(StageResult, FoldFigures):
    """What `emonet heads --folds` found: the experts' figures, each the mean over folds beside that of all clips."""

    asked: str
    """What `--folds` said."""
    folds: tuple[FoldFacts, ...]
    """In the order of `per_fold`."""
    rated: tuple[str, ...]
    """Targets that have an expert in some fold."""
    transductive: bool
    """Whether the experts heard each speaker against all of that speaker's clips, test speakers' among them."""
    shared_speakers: tuple[str, ...]
    """Speakers who are tested by experts that were trained on them."""
    remarks: tuple[str, ...]
    """What else there is to know of the folds."""
    calibration: Literal["none"] | CalibrationKind
    """What became of the experts' scores, fitted on validation clips."""
    test: Scores
    """The experts' figures on the test clips of all folds together, by target."""
    classes: ClassScores | None = None
    """The same of their argmax over classes; None where clips have none."""
    baselines: dict[str, FoldFigures]
    """majority, median and states_ridge: ridge on the statistics of the states, its penalty chosen as experts are."""
    predictions: Path
    """Scores of each test clip, by the experts of its fold."""
    told: bool = False
    """Whether the report is written and MLflow has the figures."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to tell."""
        return self.told

    @property
    def marks(self) -> tuple[str, ...]:
        """What every output says of these figures; nothing where they are plainly of unheard speakers."""
        marks = []
        if self.transductive:
            marks.append("transductive: each speaker's clips are standardised by themselves, test speakers' too")
        if self.shared_speakers:
            marks.append(
                f"speakers are shared: {len(self.shared_speakers)} of those who are tested are trained on, too"
            )
        return tuple(marks)

    @property
    def rows(self) -> dict[str, FoldFigures]:
        """Label -> figures: the experts', then those of baselines from the best informed to the least."""
        return {EXPERTS: self, **dict(reversed(self.baselines.items()))}
