"""The model card: what a voice model was trained on, how good it is, and what it is not for.

A README.md with the front matter of Hugging Face's model cards, in the voice model's own folder, so that it travels
with every copy of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emonet.baselines import ABOUT, licence_of
from emonet.checkpoints import Calibration
from emonet.clips import SPLITS, Split
from emonet.evaluation import CLASS_METRICS, METRICS, ClassScores, EnsembleFigures, Scores
from emonet.numbers import shown
from emonet.runtime import durable
from emonet.targets import TargetSpec

CARD = "README.md"
_TEMPLATE = "card.md.j2"


@dataclass(frozen=True)
class SplitFacts:
    """One split of the corpus.

    Args:
        clips: count.
        speakers: count.
        hours: of audio that was heard, at most the window of each clip.
    """

    clips: int
    speakers: int
    hours: float


@dataclass(frozen=True)
class CorpusFacts:
    """The recordings behind a model.

    Args:
        name: the spec that opened the corpus.
        note: what the corpus says of itself (licence, limits); may be empty.
        languages: clips by language code (count); unknown ones under an empty code.
        splits: by name.
    """

    name: str
    note: str
    languages: Mapping[str, int]
    splits: Mapping[Split, SplitFacts]

    @property
    def synthetic(self) -> bool:
        """Whether all voices are synthesised."""
        return self.name == "sandbox"


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells.

    Args:
        name: of the model, its title.
        origin: `trained` here, or `published` by others and imported.
        targets: what there is an expert for.
        window_seconds: how much of a recording is heard (seconds).
        encoder: where it came from.
        encoder_digest: SHA-256 of its weights.
        corpus: None where it is not known.
        test: figures on the test clips; None where there are none.
        baselines: figures of simpler models on the same clips, by name.
        classes: of the argmax over the experts of classes, on the test clips; None where there are none.
        baseline_classes: of simpler models on the same clips, by name.
        confidence: coverage of their intervals (0 to 1).
        calibration: of the scores, if any.
        uncertainty: of the scores, where each target has several experts.
        settings: of the training, as shown.
        fingerprints: of corpus, store, code and the rest, as shown.
        licence: of the weights, as far as it is known.
    """

    name: str
    origin: Literal["trained", "published"]
    targets: TargetSpec
    window_seconds: float
    encoder: str
    encoder_digest: str
    corpus: CorpusFacts | None = None
    test: Scores | None = None
    baselines: Mapping[str, Scores] = field(default_factory=dict)
    classes: ClassScores | None = None
    baseline_classes: Mapping[str, ClassScores] = field(default_factory=dict)
    confidence: float = 0.95
    calibration: Calibration | None = None
    uncertainty: EnsembleFigures | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""

    @property
    def figures(self) -> dict[str, Scores]:
        """Test figures, by what they are of: the experts first."""
        return {"experts": self.test, **self.baselines} if self.test is not None else {}

    @property
    def class_figures(self) -> dict[str, ClassScores]:
        """Classification figures, by what they are of: the experts first; empty where there are no classes."""
        return {"experts": self.classes, **self.baseline_classes} if self.classes is not None else {}


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write README.md into a voice model's folder.

    Args:
        folder: exists.
        facts: what it tells.
    """
    path = folder / CARD
    durable.write(path, render(facts).encode())
    return path


def render(facts: CardFacts) -> str:
    """The card as Markdown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("emonet.registry", "."),
        autoescape=False,  # noqa: S701  # Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "quoted": _quoted, "estimate": format, "shown": shown}
    return environment.get_template(_TEMPLATE).render(
        facts=facts,
        about=ABOUT,
        licence_of=licence_of,
        metrics=METRICS,
        class_metrics=CLASS_METRICS,
        splits=SPLITS,
        languages=_languages(facts),
        card_name=_slug(facts.name),
    )


def summary(facts: CardFacts) -> str:
    """The card in a few sentences, as the description of a registered version."""
    sentences = [f"{len(facts.targets)} experts on the encoder {facts.encoder} ({facts.encoder_digest[:12]})."]
    if facts.corpus is None:
        sentences.append("Training data and figures are not known here.")
    else:
        clips = ", ".join(f"{one.clips} {split}" for split, one in facts.corpus.splits.items())
        sentences.append(f"Corpus {facts.corpus.name}: {clips} clips.")
        if facts.corpus.synthetic:
            sentences.append("Synthetic voices: its scores of human voices mean nothing.")
    if facts.test is not None:
        mae, pearson = (facts.test.of(name).mean for name in ("mae", "pearson"))
        sentences.append(f"On unseen speakers: MAE {mae}, Pearson {pearson}; means over {facts.test.averaged()}.")
    if facts.classes is not None:
        sentences.append(f"UA {facts.classes.ua} over {facts.classes.told()}.")
    if facts.calibration is not None:
        sentences.append(f"Scores are calibrated ({facts.calibration.kind}).")
    return " ".join([*sentences, "Limits and intended use: README.md in its folder."])


def _languages(facts: CardFacts) -> list[str]:
    return sorted(code for code in facts.corpus.languages if code) if facts.corpus is not None else []


def _cell(text: object) -> str:
    """Text that does not end a table's cell or its line."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _quoted(value: object) -> str:
    """A YAML scalar or list: JSON is both."""
    return json.dumps(value, ensure_ascii=False)


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())
