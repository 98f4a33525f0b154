"""Plan of a benchmark: models, encoders and the protocols that they go through, read from YAML."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PositiveInt, ValidationError, ValidationInfo, field_validator, model_validator

from emonet.clips import Split
from emonet.configs import EvaluationConfig, Layers
from emonet.errors import RequestError, raise_collected
from emonet.protocols import SETTINGS, EmoBoxConfig, Rule
from emonet.schema import Schema

GUIDE = "docs/benchmark.md shows a whole plan"
SHIPPED = Path(__file__).parent / "plans"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
SAMPLE = "sample"  # instead of the benchmark's file: a small one in its form, which is made on the spot


class NamedModel(Schema):
    """A model that scores clips."""

    model: str
    """A voice model's folder, a version or alias of the registry, or a scorer as `emonet compare` names it."""
    name: str = ""
    """What tables call it; by default as it was typed."""
    optional: bool = False
    """Where it is not there: go on without it."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or self.model


class NamedEncoder(Schema):
    """An encoder whose states heads are trained on."""

    encoder: str
    """Folder or hub id of a Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec, or plugin:NAME[:ARGUMENT]."""
    name: str = ""
    """What tables call it; by default as it was typed."""
    layers: Layers = "last"
    """Whose states are heard; EmoBox hears those of the last."""
    window_seconds: float | Literal["auto"] = "auto"
    """Audio that it hears of each clip (seconds)."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or self.encoder


class Entry(Schema):
    """One protocol of a plan."""

    name: str = Field("", pattern=rf"^$|{_FILE_NAME}")
    """Of its folder; by default the protocol's. Two entries of one protocol need names."""
    optional: bool = False
    """Where what it needs is not there: leave it out, with the reason, in place of an error."""


class BenchEntry(Entry):
    """EmoNet-Voice Bench: raters' agreement, and models against their consensus (Tables 5, 6, 9, 10, Figure 1)."""

    protocol: Literal["bench"]
    data: str
    """The published Parquet file; or `sample`, a small file in its form, with noise for voices."""
    rule: Rule = "paper"
    """Of the consensus that models are compared with."""


class RatersEntry(Entry):
    """Label variance: distributions of raters' judgements, and which clips each rule of consensus keeps."""

    protocol: Literal["raters"]
    ratings: str
    """A long table (clip, rater, target, score); the published Parquet file of the Bench; or `sample`."""
    targets: str = "emotions"
    """What the table's targets are."""
    corpus: str | None = None
    """Whose clips a table's are, with their sound; the Bench's file has its own."""
    heads: bool | None = None
    """Heads on the encoders' states, trained on distributions against consensus; by default where both are at hand."""
    folds: str = "3"
    """Of these heads, as in `emonet heads --folds`."""


class SimToRealEntry(Entry):
    """From synthetic to real: do emotions name the classes of an acted corpus (Tables 7 and 11)?"""

    protocol: Literal["sim_to_real"]
    corpus: str = ""
    """With a class label for each clip; by default the plan's."""
    mapping: str
    """Which emotions stand for which class: emodb, ravdess, or a file."""
    split: Split | Literal["all"] = "all"
    """Of its clips; a model that was trained on the others wants `test`."""


class HeadEntry(Entry):
    """What protocols share whose heads are EmoBox's."""

    head: EmoBoxConfig = EmoBoxConfig()
    """How heads are trained: a mapping; or readme (100 epochs) or yaml (20 epochs), as EmoBox says itself."""

    @field_validator("head", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return SETTINGS.get(value, value) if isinstance(value, str) else value


class EmoBoxEntry(HeadEntry):
    """EmoBox over its folds: a small head on the frozen states of each encoder."""

    protocol: Literal["emobox"]
    corpus: str = ""
    """With a class label for each clip; by default the plan's."""
    folds: str
    """ravdess (EmoBox's own), emobox:FOLDER, a file of folds, a number, or loso, as in `emonet heads --folds`."""
    leaderboard: str = ""
    """The corpus of the published leaderboard that the encoder is ranked in, such as ravdess; by default none."""


class CrossCorpusEntry(HeadEntry):
    """Every corpus against every other: trained on one, tested on balanced clips of another."""

    protocol: Literal["cross_corpus"]
    corpora: dict[str, str] = Field(min_length=2)
    """Name -> corpus."""
    most: PositiveInt = 60
    """Test clips of each class (count)."""


class AuditEntry(Entry):
    """What audits share."""

    corpus: str = ""
    """With ratings or class labels; by default the plan's."""
    targets: str = "emotions"
    """What its ratings are of."""
    split: Split | Literal["all"] = "test"
    """Of its clips."""
    clips: PositiveInt | None = None
    """At most so many, spread over all of them (count)."""
    metrics: tuple[str, ...] = ()
    """By default all that its ratings and labels allow."""


class RobustnessEntry(AuditEntry):
    """How far figures fall with noise, rooms, lines, codecs, players."""

    protocol: Literal["robustness"]
    perturbations: tuple[str, ...] = ()
    """Name:level, such as white_noise:10; by default a few of each kind."""


class FairnessEntry(AuditEntry):
    """Figures by group: speaker, gender, language, length, and what a table of one's own says."""

    protocol: Literal["fairness"]
    groups: Path | None = None
    """Table with a column `id` or `speaker`, and one column for each way to divide the clips."""


AnyEntry = Annotated[
    BenchEntry | RatersEntry | SimToRealEntry | EmoBoxEntry | CrossCorpusEntry | RobustnessEntry | FairnessEntry,
    Field(discriminator="protocol"),
]


class Plan(Schema):
    """A benchmark: who goes through which protocols."""

    name: str = Field("benchmark", pattern=_FILE_NAME)
    """Of the folder below `runs`, and of the MLflow run."""
    description: str = ""
    """What it is for, in a sentence; it stands on the page."""
    corpus: str = ""
    """Of the entries that name none, such as ravdess:data/ravdess."""
    models: tuple[NamedModel, ...] = ()
    """That score clips."""
    encoders: tuple[NamedEncoder, ...] = ()
    """Whose states heads are trained on."""
    protocols: tuple[AnyEntry, ...] = Field(min_length=1)
    """In the order of the page."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Resamples and coverage of the intervals."""
    max_cost: float = Field(0.0, ge=0)
    """What calls of other people's services may cost together without asking (US dollars)."""
    seed: int = Field(42, ge=0)
    """Of resamples, heads and perturbations (integer)."""

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return [{"model": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value

    @field_validator("encoders", mode="before")
    @classmethod
    def _encoder(cls, value: Any) -> Any:
        return (
            [{"encoder": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value
        )

    @field_validator("protocols", mode="after")
    @classmethod
    def _on_a_corpus(cls, entries: tuple[AnyEntry, ...], info: ValidationInfo) -> tuple[AnyEntry, ...]:
        corpus = info.data.get("corpus", "")
        filled = []
        for entry in entries:
            if getattr(entry, "corpus", None) == "":
                if not corpus:
                    raise ValueError(f"{key_of(entry)} names no corpus, and neither does the plan")
                entry = type(entry).model_validate({**dict(entry), "corpus": corpus})  # noqa: PLW2901
            filled.append(entry)
        return tuple(filled)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for what, names in {
            "models": [one.label for one in self.models],
            "encoders": [one.label for one in self.encoders],
            "protocols": [key_of(one) for one in self.protocols],
        }.items():
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise ValueError(f"two {what} are called {twice[0]!r}: give them names")
        return self


def key_of(entry: AnyEntry) -> str:
    """What the files of an entry are called."""
    return entry.name or str(entry.protocol)


def load_plan(name_or_file: str, *, corpus: str | None = None, encoder: str | None = None) -> Plan:
    """The plan of a shipped name or of a YAML file.

    Args:
        name_or_file: of it.
        corpus: in place of the plan's.
        encoder: in place of the plan's.

    Raises:
        RequestError: if there is none, or it has fields that cannot be used; all in one message.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    path = shipped.get(name_or_file, Path(name_or_file).expanduser())
    if not path.is_file():
        raise RequestError(
            "there is no such plan", where=name_or_file, expected=f"a YAML file, or {', '.join(shipped)}", hint=GUIDE
        )
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError("the plan cannot be read", where=path, found=error) from error
    if not isinstance(values, dict):
        raise RequestError("the plan is not a mapping", where=path, expected="models, encoders, protocols", hint=GUIDE)
    try:
        others = {"corpus": corpus, "encoders": None if encoder is None else [encoder]}
        given = {name: value for name, value in others.items() if value is not None}
        return Plan.model_validate({"name": path.stem, **values, **given})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg'][0].lower()}{one['msg'][1:]}"
            for one in error.errors()
            if (one["loc"], one["type"]) != (("protocols",), "too_short") or not values.get("protocols")
        ]
    raise_collected("the plan has fields that cannot be used", problems, where=path, hint=GUIDE)
    raise AssertionError  # there was at least one problem
