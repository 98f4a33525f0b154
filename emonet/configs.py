"""Configuration of each stage, section by section; light to import, so that the command line answers at once."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from pydantic_core import PydanticCustomError

from emonet.schema import Schema

Precision = Literal["auto", "float32", "bf16"]
Strategy = Literal["ddp", "fsdp"]
EncoderPrecision = Literal["float32", "bf16", "float16", "int8"]
"""Arithmetic that states may have been computed in: Whisper's in the first two."""
CodecTier = Literal["none", "lossless", "bfloat", "int8"]
InputForm = Literal["flatten", "statistics", "moments", "attention"]
Pool = Literal["none", "statistics"]
Layers = Literal["last", "middle", "all"] | tuple[PositiveInt, ...]
"""Which of an encoder's layers give the states, counted from 1 as Hugging Face's hidden_states are: the last one stands
behind the final norm. `middle` is the half around three fifths of the depth."""
Preset = Literal["small", "large"]
Loss = Literal["mae", "huber", "mse", "ccc"]
CalibrationKind = Literal["affine", "isotonic"]
BaselineChoice = Literal[
    "auto", "egemaps_ridge", "egemaps_svr", "compare2016_ridge", "compare2016_svr", "whisper_last_mean"
]
HIDDEN: dict[Preset, tuple[int, ...]] = {"small": (64, 64, 32, 16), "large": (128, 128, 64, 32)}
"""Outputs of the projection and of each hidden layer after it (EmoNet-Voice Small and Large)."""


class AugmentConfig(Schema):
    """Augmentation of the captioner's training audio; what could change the emotion is off by default."""

    frequency_masks: int = Field(2, ge=0)
    """SpecAugment: masks over mel bands per clip (count)."""
    frequency_width: int = Field(12, ge=0)
    """SpecAugment: widest frequency mask (mel bands)."""
    time_masks: int = Field(2, ge=0)
    """SpecAugment: masks over time per clip (count)."""
    time_width: int = Field(40, ge=0)
    """SpecAugment: widest time mask (mel frames of 10 ms)."""
    noise_probability: float = Field(0.0, ge=0, le=1)
    """Share of clips that get white noise (0 to 1)."""
    noise_snr_low: float = 15.0
    """Loudest noise: lowest signal-to-noise ratio (dB)."""
    noise_snr_high: float = 35.0
    """Faintest noise: highest signal-to-noise ratio (dB)."""
    shift_seconds: float = Field(0.2, ge=0)
    """Clips start up to this much later in the window (seconds)."""
    gain_db: float = Field(0.0, ge=0)
    """Loudness changes by up to this much, up or down (dB); off, since loudness carries emotion."""
    speed_percent: float = Field(0.0, ge=0, le=30)
    """Speed and pitch change by up to this much, up or down (percent); off, since both carry emotion."""


class CaptionerConfig(Schema):
    """Stage 1: the Whisper that learns to write how the speaker feels."""

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"frozen_layers", "devices", "num_nodes", "strategy", "save_every_minutes"}
    )
    how_fields: ClassVar[frozenset[str]] = frozenset({"strategy", "save_every_minutes"})
    """How it is trained, not what comes out: results are the same, whatever they hold."""

    model: str = "scratch:nano"
    """The weights: hub id (NAME[@REVISION]), folder, registry URI, or scratch:SIZE: nano, tiny, base, small, medium."""
    window_seconds: float | Literal["auto"] = 30.0
    """Audio that the model hears (seconds, up to 30): a pretrained model's positions are cut to it; auto takes the
    fewest whole seconds that hold 99 % of the corpus' clips."""
    epochs: PositiveInt = 10
    """Most passes over the training clips (count)."""
    batch_size: PositiveInt = 32
    """Clips per step on one device (count)."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are added up before a step; their loss is averaged over tokens (count)."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate of AdamW (per step)."""
    encoder_rate: float = Field(1.0, ge=0, le=1)
    """The encoder's learning rate as a share of the rest's; small keeps what its states hold beside the captions, and
    0 keeps the encoder as it is."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay of AdamW (per step, times the learning rate)."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of all steps over which the learning rate rises (0 to 1)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    gradient_clip: PositiveFloat = 1.0
    """Largest norm of the gradient (L2)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside Whisper (0 to 1)."""
    precision: Precision = "auto"
    """Arithmetic of training: bf16 where the processor or GPU has it with auto, else float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    freeze: tuple[Literal["encoder_conv", "encoder", "decoder", "embeddings"], ...] = ()
    """Parts of Whisper that keep their weights."""
    frozen_layers: int = Field(0, ge=0)
    """The encoder's first layers, and what lies before them, that keep their weights (count)."""
    patience: PositiveInt = 5
    """Epochs without a better validation loss after which training stops (count)."""
    sample_captions: int = Field(4, ge=0)
    """Generated captions shown after each epoch (count)."""
    hit_clips: PositiveInt = 256
    """Validation clips that captions are generated for, to count hits; spread over all of them (count)."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of the training audio."""
    devices: PositiveInt = 1
    """GPUs of a machine that train together, or processes where it has none (count); each takes batches of its own, so
    that a step sees so many times more clips."""
    num_nodes: PositiveInt = 1
    """Machines that train together, each with that many devices (count)."""
    strategy: Strategy = "ddp"
    """What several devices share: the work (ddp), or also weights and optimiser (fsdp, GPUs only)."""
    save_every_minutes: PositiveFloat = 15.0
    """Time between checkpoints within an epoch, which a run that was cut short goes on from (minutes)."""


class ExtractionConfig(Schema):
    """Between the stages: the frozen encoder's states of every clip, in the feature store."""

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"layers", "window_seconds", "pool", "store", "engine", "address", "processors_per_worker"}
    )

    encoder: str = "captioner"
    """What makes the states: captioner (its encoder), or NAME[:ARGUMENT] of a plug-in, which needs no captioner."""
    captioner: str | None = None
    """Whose encoder: hub id (NAME[@REVISION]), folder or registry URI, of a Whisper, wav2vec 2.0, HuBERT, WavLM or
    data2vec (audio); by default this experiment's own captioner."""
    batch_size: PositiveInt | Literal["auto"] = "auto"
    """Clips per pass through the encoder (count); auto tries what a GPU holds, or follows the encoder's size."""
    shard_clips: PositiveInt = 64
    """Clips per shard, the unit that a killed extraction resumes at (count)."""
    layers: Layers = "last"
    """Layers whose states are kept, side by side: last (behind the final norm, as published), middle (the half around
    three fifths of the depth), all, or numbers from 1; those above the highest one are not computed."""
    window_seconds: float | Literal["auto"] | None = None
    """Audio that the encoder hears (seconds, by default the captioner's window, and no more than that); auto takes the
    fewest whole seconds that hold 99 % of the corpus' clips."""
    pool: Pool = "none"
    """What is kept of the states: all (none), or statistics over those that hear the clip: mean, minimum, maximum and
    deviation, some tens of kilobytes a clip."""
    precision: Precision = "auto"
    """Arithmetic of the encoder: bf16 where the processor or GPU has it with auto, else float32."""
    codec: CodecTier = "lossless"
    """How states are stored: none, lossless, bfloat (8 significant bits), or int8 (a scale per clip and channel)."""
    frames: Literal["all", "speech"] = "all"
    """Which states are stored: all, or those that hear the clip; the rest then reads as the mean of silence."""
    workers: PositiveInt | Literal["auto"] = "auto"
    """Processes that decode audio (count); auto: two, or on a GPU up to eight, a quarter of the processors."""
    decode_timeout: PositiveFloat = 60.0
    """A recording that takes longer to decode is tried once more, then given up (seconds)."""
    max_failed: float = Field(0.25, ge=0, le=1)
    """Share of the corpus' clips that may fail; beyond it the run stops (0 to 1)."""
    copies: Literal["refuse", "note"] = "refuse"
    """Clips of the same sound in two splits (pretrain hears them, too): refuse them, or only say so."""
    engine: Literal["local", "ray"] = "local"
    """Who hands out the shards: this process takes them itself (local), or a Ray cluster's workers get them (ray)."""
    address: str | None = None
    """Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default one of this machine alone, for this run."""
    processors_per_worker: PositiveInt | Literal["auto"] = "auto"
    """Processors of a Ray worker (count); auto: a GPU's share of its node, or without GPUs 8, if a node has so many."""
    devices: tuple[str, ...] = ()
    """One process on each, e.g. cuda:0 cuda:1; by default every GPU of the machine, or else the processor. Several are
    a Ray cluster of this machine."""
    num_shards: PositiveInt = 1
    """Parts that a job array splits the extraction into (count)."""
    shard_index: int = Field(0, ge=0)
    """Which of these parts this process does (from 0)."""
    store: str | None = None
    """Where the feature store lies, instead of in the experiment's folder: a folder of another disk or a URL (s3://,
    gs://, az://BUCKET/PATH), below which NAME/store.zarr is made, or the store itself if it ends in .zarr."""
    compile: bool = False
    """Compile the encoder first: a minute more before the start, faster on GPUs."""


class HeadsConfig(Schema):
    """Stage 2: the experts, one per rated target."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"layers", "ensemble", "devices", "num_shards", "shard_index"})
    how_fields: ClassVar[frozenset[str]] = frozenset({"memory", "devices", "num_shards", "shard_index"})
    """Fields that say where experts are trained, and change none of them."""

    inputs: tuple[InputForm, ...] = Field(("flatten",), min_length=1)
    """What an expert sees: flatten (the paper), statistics, moments (of these, mean and deviation alone) or attention;
    of several, validation picks one."""
    layers: Literal["all", "mix"] | tuple[PositiveInt, ...] = "all"
    """Which of the store's layers an expert hears: all side by side, numbers as in extraction.layers, or mix: their
    mean, whose weights each expert learns for itself (statistics and moments)."""
    preset: Preset = "small"
    """Width of the published experts: small 64-64-32-16-1, large 128-128-64-32-1."""
    hidden: tuple[PositiveInt, ...] = ()
    """Other widths: outputs of the projection and of each hidden layer (count)."""
    ensemble: PositiveInt = 1
    """Experts of each target that differ in their seed (count): their mean is the score, their spread its doubt."""
    frames: Literal["all", "speech"] = "all"
    """Which states statistics, moments and attention pool over: all (the paper), or those that hear the clip."""
    epochs: PositiveInt = 60
    """Most passes over the training clips (count)."""
    patience: PositiveInt = 10
    """Epochs without a better validation error (squared under mse, else absolute) after which an expert stops
    (count)."""
    batch_size: PositiveInt = 64
    """Clips per step (count)."""
    learning_rate: PositiveFloat = 3e-4
    """Learning rate of AdamW (per step)."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay of AdamW (per step, times the learning rate)."""
    dropout: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field((0.0, 0.1, 0.1, 0.1), min_length=1)
    """Dropout after the projection and after each hidden layer (0 to 1); further layers have the last one's."""
    loss: Literal["auto"] | Loss = "mae"
    """Of each expert: mae (the paper), huber (of width 1), mse, ccc (1 minus the concordance within a batch), or auto:
    mse where each score is the lowest or the highest, as of class labels, whose median says nothing; else mae."""
    features: Literal["states", "principal"] = "states"
    """What flatten is trained on: the states, or their principal coordinates, far cheaper; lifted back when saved."""
    rank: Literal["all"] | Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(gt=0, lt=1)] = "all"
    """Principal coordinates: all, the first so many (count), or those with this share of the energy (0 to 1)."""
    standardise: bool | Literal["speaker"] = True
    """Scale inputs to zero mean and unit deviation; folded into the saved weights, which keep the published form.
    speaker: each speaker's clips by their own first (transductive), for statistics and moments in `heads --folds`
    alone."""
    select_by: Literal["mae", "pearson", "ua"] = "pearson"
    """The validation metric by which one of several input forms is chosen: a mean over experts, or ua over classes."""
    states_gib: PositiveFloat = 4.0
    """States up to this size stay in memory; beyond it each epoch reads the store, in pools of this size (GiB)."""
    memory: PositiveFloat | Literal["auto"] = "auto"
    """Memory that training may take, states included (GiB): experts that do not fit are trained group after group. Each
    GPU may take as much; processes on the processor share it."""
    devices: tuple[str, ...] = ()
    """Train groups of experts at the same time, one process on each, e.g. cuda:0 cuda:1; by default one device."""
    num_shards: PositiveInt = 1
    """Parts that nodes or a job array split the experts into (count)."""
    shard_index: int = Field(0, ge=0)
    """Which of these parts this process trains (from 0); the part that ends last joins them."""
    precision: Literal["float32", "mixed", "bf16"] = "float32"
    """Of training: mixed multiplies in bf16; bf16 also keeps weights and moments in it, rounded at random."""
    optimiser_state: str = "full"
    """AdamW's moments: full, of the type of the weights; there is nothing else to choose."""
    calibration: Literal["none"] | CalibrationKind = "none"
    """What becomes of scores: a line (affine) or a monotone curve (isotonic) per expert, fitted on validation clips."""
    compare_inputs: bool = False
    """Train every form of input, and tell which serves which targets."""

    @field_validator("optimiser_state")
    @classmethod
    def _full(cls, value: str) -> str:
        if value != "full":  # the field stays, for stages that are done are known by all their settings
            raise PydanticCustomError(
                "full",
                "Input should be 'full': 8bit (torchao's) is gone, never tried on a GPU; precision bf16 saves memory",
            )
        return value

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of the projection and of each hidden layer: `hidden`, or else the preset's."""
        return self.hidden or HIDDEN[self.preset]

    @property
    def fixing(self) -> dict[str, Any]:
        """What fixes the experts, wherever they are trained, JSON-able."""
        return self.distinguishing(exclude=self.how_fields)


class EvaluationConfig(Schema):
    """How the test figures are made."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"baselines"})
    resamples: PositiveInt = 1000
    """Bootstrap resamples behind each interval (count)."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals (0 to 1)."""
    baselines: tuple[BaselineChoice, ...] = ("auto",)
    """Beside median, mel_ridge and states_ridge: auto is openSMILE's where it is installed; others are named."""
