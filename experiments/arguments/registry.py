"""Arguments of the verbs that compare models and keep the registry, as models; their docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from emonet.clips import Split
from experiments.arguments.flags import Positional
from experiments.arguments.verbs import Common

ModelName = Literal["emonet-voice", "emonet-captioner"]


class CompareArguments(Common):
    """Compare models on the same clips: figures with intervals, differences with p values, speed and size."""

    models: Positional[tuple[str, ...]]
    """Versions (3, champion, models:/emonet-voice@candidate), MLflow run ids, folders of voice models or of experts, or
    scorer:NAME[:ARGUMENT] of a peer or a plug-in (docs/benchmark-peers.md)."""
    on: str | None = None
    """The clips: a feature store's folder, or a corpus such as ravdess:PATH; by default the first model's corpus."""
    targets: str | None = None
    """What a corpus is opened for: a set's name or a YAML file; by default what the models score."""
    labels: Path | None = None
    """YAML or JSON file that says which target each class label stands for; by default as in the models' training."""
    split: Split = "test"
    """Of the clips."""
    experts_precision: Literal["float32", "bf16", "int8"] = "float32"
    """How experts on flattened states are held: bf16 and int8 need a half and a quarter of the memory."""
    baselines: bool = True
    """The training median and ridge regressions as rows, fitted on the corpus' train clips; --no-baselines leaves them
    out."""
    resamples: PositiveInt = 1000
    """Bootstrap resamples behind each interval (count)."""
    seed: int = Field(0, ge=0)
    """Of resamples and permutations (integer)."""
    promote: bool = False
    """Make the challenger @champion if it is better by the rule of docs/comparing.md."""
    margin: float = Field(0.025, ge=0, le=1)
    """Of --promote: each target's interval of the MAE's difference must end below this share of its range (0 to 1)."""
    out: Path | None = None
    """The folder to write; by default one below runs/compare."""
    force: bool = False
    """Compare on clips that a model was trained on, too; every output is then marked, and nothing is promoted."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class PushArguments(Common):
    """Upload a voice model to the Hugging Face hub: card, config.json, encoder and experts, in one commit."""

    model: Positional[str]
    """A registry URI, or a folder that `emonet heads` or `emonet experts import` made."""
    repository: Positional[str]
    """ORG/NAME; it is made if it is not there."""
    private: bool = False
    """Make the repository private."""
    revision: str | None = None
    """The branch; by default main, and made if it is not there."""
    licence: str | None = None
    """Of the weights, by its id on the hub, e.g. cc-by-4.0; by default as the model's card says, which may be none."""
    dry_run: bool = False
    """Only tell what would be uploaded; the hub is not asked."""
    force: bool = False
    """Replace another model that is there."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class RegistryArguments(Common):
    """List the registered versions: aliases, origin, figures, date, size, and whether their files are there."""

    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class RegistryShowArguments(RegistryArguments):
    """Tell all that is known of one version: lineage, tags, metrics, files."""

    version: Positional[str]
    """A number or an alias, e.g. 3 or champion."""
    name: ModelName = "emonet-voice"
    """The registered model."""


class RegistryPromoteArguments(RegistryArguments):
    """Make a version @champion by hand, without a comparison; `emonet registry rollback` undoes it."""

    version: Positional[str]
    """A number or an alias, e.g. 3 or candidate."""
    name: ModelName = "emonet-voice"
    """The registered model."""
    yes: bool = False
    """Do it; without this flag it only says what would change."""


class RegistryRollbackArguments(RegistryArguments):
    """Undo the last promotion: the former champion is @champion again; a second time undoes the one before it."""

    name: ModelName = "emonet-voice"
    """The registered model."""


class RegistryPruneArguments(RegistryArguments):
    """Delete versions that nobody needs: without an alias, never champion, and not among the newest."""

    name: ModelName = "emonet-voice"
    """The registered model."""
    keep: int = Field(5, ge=0)
    """How many of the newest versions stay in any case (count)."""
    yes: bool = False
    """Delete; without this flag it only lists what would go."""
