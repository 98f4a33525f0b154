"""Arguments (flags) of each verb, as models; their docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from emonet.clips import Split
from emonet.schema import Schema
from experiments.arguments.flags import Positional, spelled
from experiments.core import Experiment


class Common(Schema):
    """Flags that every verb has."""

    json_output: Annotated[bool, spelled(name="json")] = False
    """Write the result to stdout as JSON, and nothing else."""
    debug: bool = False
    """Show the traceback of an error."""

    @property
    def writes_json(self) -> bool:
        """Whether stdout gets the result as JSON."""
        return self.json_output


class StageArguments(Common):
    """Flags of the stages: which experiment, and any of its fields."""

    experiment: str = "sandbox"
    """A shipped experiment (see `emonet experiments`) or a YAML file."""
    config: Annotated[Experiment, spelled(name="")] = Experiment()
    """Fields of the experiment."""


class ExtractArguments(StageArguments):
    """Flags of `extract`: those of a stage, and whether Slurm is to do it."""

    array: int | None = Field(None, ge=1)
    """Instead of extracting, write a Slurm script whose job array does it in so many parts (count)."""


class HeadsArguments(StageArguments):
    """Flags of `heads`: those of a stage, and whether it is an evaluation over folds."""

    folds: str | None = None
    """Instead of training a model, train and test fold by fold over speakers: so many folds, loso (one for each
    speaker), a .yaml, .json or .csv file with the fold of each speaker or clip, or emobox:FOLDER. Everything is chosen
    within the training speakers of each fold; nothing is saved or registered but figures and predictions."""


class PlanArguments(StageArguments):
    """Flags of `plan`: emonet plan EXPERIMENT, how many clips, on what machines, and any field of the experiment."""

    clips: int | None = Field(None, ge=1)
    """Clips of all splits (count); by default those of the corpus, which has to be there then."""
    clip_seconds: float | None = Field(None, gt=0)
    """Length of a clip in the mean (seconds); by default the corpus', or 10 where it is not there."""
    gpus: str | None = None
    """NUMBERxCARD, e.g. 8xh100, of rtx3060, rtx4090, a10, l4, a100-40, a100-80, h100, h200, b200; by default this
    machine is measured."""
    usd: float | None = Field(None, ge=0)
    """Price of an hour of one GPU, or of this machine (US dollars); by default the table's, or nothing."""


class CorpusArguments(Common):
    """Report on a corpus: clips, hours, speakers, languages, rated targets, rejected clips with reasons."""

    spec: Positional[str]
    """sandbox, ravdess:PATH, emodb:PATH, nemo:PATH, manifest:FILE, tars:SHARDS or NAME:PATH of a plug-in;
    several are joined with +."""
    targets: str = "emotions"
    """What is scored: emotions, attributes, quality, published, classes, or a YAML file of targets of your own."""
    labels: Path | None = None
    """YAML or JSON file that says which target each class label stands for."""
    listen: int = Field(2000, ge=0)
    """Clips to decode, spread over the corpus, for what is odd about their sound (count); 0 for none."""
    window: float = Field(30.0, ge=0.5, le=30)
    """How much of each clip a model will hear (seconds)."""
    runs: Path = Path("runs")
    """Folder below which synthesised corpora are kept."""


class StoreArguments(Common):
    """Tell what a feature store is made of: corpus, encoder, shape, codec, sizes, splits, errors of a lossy codec."""

    store: Annotated[Positional[Path], spelled(metavar="STORE")]
    """The folder NAME.zarr, or its URL (s3://, gs://, az://BUCKET/PATH/NAME.zarr)."""


class StoreVerifyArguments(StoreArguments):
    """Check a feature store: record, markers, shards and table; with --deep every chunk."""

    deep: bool = False
    """Read every chunk back."""


class StoreRepairArguments(StoreArguments):
    """Make a feature store whole: every chunk is read, and only the shards that are damaged are extracted again."""

    corpus: str | None = None
    """The corpus, where it lies elsewhere now; by default as the store's record says."""
    captioner: str | None = None
    """Whose encoder, where it lies elsewhere now; by default as the store's record says."""
    runs: Path = Path("runs")
    """Folder with synthesised corpora and the embedded registry."""


class StoreExportArguments(StoreArguments):
    """Write the states and the table of a feature store for other programs."""

    out: Annotated[Positional[Path], spelled(metavar="OUT")]
    """The folder to make."""
    format: Literal["safetensors", "npy"] = "safetensors"
    """Several safetensors files, or one memory-mappable states.npy."""
    split: Split | None = None
    """Only clips of this split; by default all."""
    force: bool = False
    """Replace an export that already exists."""


class StoreCopyArguments(Common):
    """Copy a feature store, between disks and object stores: shard by shard, checked; the same command goes on."""

    source: Annotated[Positional[str], spelled(metavar="FROM")]
    """The folder NAME.zarr, or its URL (s3://, gs://, az://BUCKET/PATH/NAME.zarr)."""
    target: Annotated[Positional[str], spelled(metavar="TO")]
    """Where the copy shall lie: a folder NAME.zarr or a URL."""
    unchecked: Annotated[bool, spelled(name="no-check")] = False
    """Do not read each shard back from the copy, and do not compare it."""
    force: bool = False
    """Replace another store that is there."""


class ModelArguments(Common):
    """Flags of the verbs that score sound: which model, and where it computes."""

    model: str = "models:/emonet-voice@champion"
    """A registry URI, a folder that `emonet heads` or `emonet experts import` made, or hf://ORG/NAME[@REVISION]."""
    experts: Path | None = None
    """Instead of a model: a folder of published experts (model_NAME_best.pth), or of our own; needs --encoder."""
    encoder: str | None = None
    """Of --experts: folder, hub id (NAME[@REVISION]) or registry URI of the captioner that they hear, or
    plugin:NAME[:ARGUMENT]."""
    experts_precision: Literal["float32", "bf16", "int8"] = "float32"
    """How experts on flattened states are held: bf16 and int8 need a half and a quarter of the memory."""
    device: str | None = None
    """Where encoder and experts compute, e.g. cpu or cuda:0; by default the first GPU, else the processor."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class PredictArguments(ModelArguments):
    """Score recordings: the emotions of each file, strongest first, and what else the experts score."""

    files: Positional[tuple[Path, ...]]
    """Audio files, or folders that are searched for them, or one table of recordings (.csv, .tsv, .jsonl, .parquet)."""
    segments: Path | None = None
    """Score each segment that this file marks: .csv (start, end, file, speaker), .rttm, .TextGrid, .srt, .vtt, .eaf."""
    channels: Literal["mix", "each"] = "mix"
    """Mix the channels of a recording, or score each one alone."""
    scorer: str | None = None
    """Instead of a model: NAME[:ARGUMENT] of a peer or a plug-in (docs/benchmark-peers.md)."""
    uncertainty: bool = False
    """Tell how far each score may be off, as the spread of its experts says: of ensembles (heads.ensemble) only."""
    rank_by: Literal["score", "z"] = "score"
    """Strongest first by the score itself, or by how far it lies above what the model gave its training clips."""
    format: Literal["emonet", "hume"] = "emonet"
    """hume: JSON on stdout as the predictions of Hume's service that ended (docs/hume.md)."""
    csv: Path | None = None
    """Write one row per file or segment to this CSV file, or Parquet file if its name ends in .parquet."""
    plot: Path | None = None
    """Draw the strongest emotions of each file into this PNG file."""
    top: int = Field(10, ge=1)
    """Emotions shown per file (count)."""
    batch_size: int = Field(8, ge=1)
    """Files per pass through the model (count)."""

    @property
    def writes_json(self) -> bool:
        """Whether stdout gets the result; other forms than ours are JSON, too."""
        return self.json_output or self.format != "emonet"


class ExpertsImportArguments(Common):
    """Make a voice model of published experts (a folder of model_NAME_best.pth) and the encoder that they hear."""

    folder: Annotated[Positional[Path], spelled(metavar="FOLDER")]
    """The folder of model_NAME_best.pth; some of the published experts are enough."""
    out: Annotated[Positional[Path], spelled(metavar="OUT")]
    """The folder to make: `emonet predict --model OUT` uses it."""
    encoder: str
    """Folder, hub id (NAME[@REVISION]) or registry URI of the captioner whose encoder they were trained on."""
    registered: Annotated[bool, spelled(name="register")] = False
    """Register it as a version of emonet-voice, too; the registry keeps a copy of its own."""
    force: bool = False
    """Replace OUT if it already exists."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class ExpertsExportArguments(Common):
    """Write a model's experts as published ones: one model_NAME_best.pth each, a float32 state dict."""

    model: Annotated[Positional[str], spelled(metavar="MODEL")]
    """A registry URI, a voice model's folder or a folder of experts."""
    out: Annotated[Positional[Path], spelled(metavar="OUT")]
    """The folder to make."""
    force: bool = False
    """Replace OUT if it already exists."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""


class UiArguments(Common):
    """Open MLflow's pages on 127.0.0.1: runs, curves, artefacts, registered models."""

    port: int = Field(5000, ge=1, le=65535)
    """Port to listen on."""
    runs: Path = Path("runs")
    """Folder with the embedded tracking database."""


class DashboardArguments(Common):
    """Open Optuna's pages on 127.0.0.1: a sweep's trials, curves, importance."""

    experiment: str = "sandbox"
    """Whose storage: a shipped experiment, or a YAML file."""
    storage: str | None = None
    """Another storage: a database URL."""
    port: int = Field(8080, ge=1, le=65535)
    """Port to listen on."""
    runs: Path = Path("runs")
    """Folder with `optuna.db`."""


class TargetsArguments(Common):
    """List a set of targets: id, name, scale, what it measures, and terms."""

    set: Positional[str] = "emotions"
    """emotions, attributes, quality, published, or a YAML file of your own."""


class ExperimentsArguments(Common):
    """List the experiments that come with emonet."""
