"""The verb `pretrain`: a Whisper learns to write how the speaker feels; what is kept is its ear."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from emonet.clips import Rejection, Split
from emonet.corpora import NOTHING_HEARD, SoundReport
from emonet.errors import EmonetError
from emonet.schema import Registered, Schema
from experiments.core import (
    Experiment,
    StageContext,
    StageResult,
    console,
    open_experiments_corpus,
    rejected,
    resolve_source,
    run_stage,
    show_sounds,
    with_window,
)

if TYPE_CHECKING:
    from emonet.clips import Corpus
    from emonet.configs import CaptionerConfig
    from lightningmodules.captioner import CaptionTask, FittedCaptioner
    from lightningmodules.ranks import Place
    from lightningmodules.team import Team

CAPTIONER = "captioner"
TRAINING = "captioner.training"


class SampleCaption(Schema):
    """A validation clip and what the captioner writes about it."""

    id: str
    """The clip."""
    strongest: tuple[str, ...]
    """Its strongest rated emotion and those tied with it; none for a neutral clip."""
    rated: str = ""
    """What its scores say, in words: the strongest emotions, and the bands of other targets."""
    caption: str
    """What the captioner writes."""


class PretrainResult(StageResult):
    """What `emonet pretrain` trained, and how good it is."""

    captioner: Path
    """An ordinary Hugging Face folder: `from_pretrained` opens it."""
    val_loss: float
    """Cross entropy on the validation clips at the best epoch (nats per token)."""
    token_accuracy: float = Field(ge=0, le=1)
    """Share of the validation captions' tokens that are predicted (0 to 1)."""
    emotion_hit_rate: float = Field(ge=0, le=1)
    """Share of validation clips whose caption names the strongest rated emotion first; of targets that are no emotions,
    the share whose band it says (0 to 1)."""
    samples: tuple[SampleCaption, ...]
    """Some validation clips with their generated captions."""
    epochs: int
    """Passes over the training clips (count)."""
    best_epoch: int
    """The epoch whose weights are kept, counted from 1."""
    parameters: int
    """Of the captioner (count)."""
    window_seconds: float
    """Audio that it hears (seconds)."""
    clips: dict[Split, int]
    """Clips used in each split (count)."""
    unreadable: tuple[Rejection, ...]
    """Training and validation clips that were left out because they could not be decoded."""
    sounds: SoundReport = NOTHING_HEARD
    """What was heard of the training and validation clips; nothing where they do not fit into memory."""
    rejected: dict[str, str] = Field(default_factory=dict)
    """Recordings that were left out of the corpus: id -> reason."""
    registered: Registered | None = None
    """The version of `emonet-captioner`; None where the training is done, and it was not registered yet."""

    @property
    def settled(self) -> bool:
        """Whether the captioner is registered."""
        return self.registered is not None


def run(experiment: Experiment, *, out: Path | None = None, parent: str | None = None) -> PretrainResult:
    """Train, save and register the experiment's captioner.

    Args:
        experiment: the resolved configuration.
        out: folder for the captioner and the result; by default the experiment's own.
        parent: id of the MLflow run that this one is a part of.

    Raises:
        RequestError: if the corpus cannot be used, there is no such model, or the window does not fit it.
        EmonetError: if the hub cannot be reached or a GPU's memory does not suffice.
    """
    with _placed(experiment.captioner) as place:
        corpus = open_experiments_corpus(experiment)
        experiment = with_window(experiment, "captioner", corpus)
        source = resolve_source(experiment.captioner.model, experiment)
        stage = _Stage(experiment, corpus, source, out, parent)
        if place is None or not place.in_company:
            return stage.run()
        from lightningmodules.captioner import follow_captioner
        from lightningmodules.team import joined

        with joined(place, stage.task) as team:
            if team.leads:
                return stage.run(team)
            follow_captioner(stage.task, team)
    raise SystemExit(0)  # the first process has the result


@dataclass(frozen=True)
class _Stage:
    """What `run` was asked for, with everything that it names opened."""

    experiment: Experiment
    corpus: Corpus
    source: str
    out: Path | None
    parent: str | None

    @property
    def folder(self) -> Path:
        """The captioner's."""
        return (self.out or self.experiment.folder) / CAPTIONER

    @property
    def task(self) -> CaptionTask:
        """What each process trains."""
        from lightningmodules.captioner import CaptionTask

        experiment = self.experiment
        return CaptionTask(
            self.corpus,
            experiment.captioner,
            experiment.seed,
            self.folder.with_name(TRAINING),
            self.source,
            experiment.extraction.copies == "note",
        )

    def run(self, team: Team | None = None) -> PretrainResult:
        """The stage; `team` are processes that others have started, or None."""
        from emonet.encoders import weights_identity

        settings = self.experiment.captioner
        inputs = {
            "corpus": self.corpus.fingerprint,
            "captioner": settings.distinguishing(exclude=settings.how_fields),
            "weights": weights_identity(self.source),
            "seed": self.experiment.seed,
        }
        return run_stage(
            self.experiment,
            "pretrain",
            PretrainResult,
            inputs,
            [self.folder / "model.safetensors"],
            lambda job: _work(job, self, team),
            out=self.out,
            parent=self.parent,
            resume=_registered,
        )


@contextmanager
def _placed(settings: CaptionerConfig) -> Iterator[Place | None]:
    """Which process of how many this is; None where one was asked for. The others speak when they fail."""
    if settings.devices * settings.num_nodes == 1:
        yield None
        return
    from lightningmodules.ranks import ToldError, place_of

    try:
        place = place_of(settings.devices, settings.num_nodes)
        console.console.quiet = not place.leads
        yield place
    except ToldError as error:
        raise SystemExit(error.exit_code) from error
    except EmonetError:
        console.console.quiet = False
        raise


def show(result: PretrainResult) -> None:
    """A summary on stderr."""
    console.say(
        f"{console.name(result.captioner)}: {result.parameters / 1e6:.1f} M parameters, "
        f"{console.counted(result.epochs, 'epoch')} (best {result.best_epoch}), "
        f"validation loss {result.val_loss:.3f}, token accuracy {result.token_accuracy:.3f}, "
        f"hit rate {result.emotion_hit_rate:.3f}"
    )
    for sample in result.samples:
        rated = sample.rated or f"strongest {' or '.join(sample.strongest) or 'nothing'}"
        console.say(f"  {console.name(sample.id)} ({console.name(rated)}): {console.name(sample.caption)}")
    show_sounds(result.sounds)
    if result.unreadable:
        left_out = console.counted(len(result.unreadable), "clip")
        console.say(f"  [yellow]{left_out} could not be used and took no part[/]; pretrain.json has the reasons")


def _work(job: StageContext, stage: _Stage, team: Team | None) -> Mapping[str, Any]:
    from emonet.captioner import save_captioner
    from lightningmodules.captioner import CaptionerCallbacks, fit_captioner
    from lightningmodules.run_logger import RunLogger

    task, folder = stage.task, stage.folder
    if job.experiment.force:
        shutil.rmtree(task.folder, ignore_errors=True)  # --force means from the start
    watch = CaptionerCallbacks(job.progress, lambda text: job.say(console.name(text)), job.run.text, RunLogger(job.run))
    fitted = fit_captioner(
        task.corpus,
        task.config,
        seed=task.seed,
        folder=task.folder,
        watch=watch,
        source=task.source,
        allow_copies=task.allow_copies,
        team=team,
    )
    job.commit()
    save_captioner(fitted.model, fitted.processor, folder)
    done = job.keep(_fields(fitted, stage.corpus) | {"captioner": folder})
    shutil.rmtree(task.folder)
    return _registered(job, done)


def _registered(job: StageContext, done: PretrainResult) -> Mapping[str, Any]:
    """What follows the training, from what it left on disk: figures in the log, and the registered captioner."""
    from emonet.registry import register_captioner

    metrics = {name: getattr(done, name) for name in ("val_loss", "token_accuracy", "emotion_hit_rate")}
    job.run.metrics({f"best_{name}": value for name, value in metrics.items()}, done.best_epoch)
    return {**dict(done), "registered": register_captioner(job.run, done.captioner, metrics)}


def _fields(fitted: FittedCaptioner, corpus: Corpus) -> dict[str, Any]:
    from emonet.captioner import rated_in_words, strongest, window_of

    samples = [
        SampleCaption(
            id=one.clip.id,
            strongest=tuple(sorted(strongest(one.clip.scores, corpus.targets))),
            rated=rated_in_words(one.clip.scores, corpus.targets),
            caption=one.caption,
        )
        for one in fitted.samples
    ]
    return {
        **fitted.metrics,
        "samples": samples,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "parameters": sum(parameter.numel() for parameter in fitted.model.parameters()),
        "window_seconds": window_of(fitted.model).seconds,
        "clips": dict(fitted.clips),
        "unreadable": fitted.rejected,
        "sounds": fitted.sounds,
        "rejected": rejected(corpus),
    }
