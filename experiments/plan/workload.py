"""Workload of an experiment: which model hears how many clips, as far as it is known before anything is begun."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emonet.clips import values_of
from emonet.encoders import locate, resolve_layers
from emonet.errors import EmonetError, RequestError
from emonet.runtime import PLUGIN
from emonet.windows import PRETRAINED_SECONDS, Window
from experiments.core import Experiment, named_encoder, open_quietly

if TYPE_CHECKING:
    from emonet.clips import Corpus

SECONDS = 10.0  # of a clip whose corpus is not there
LONGEST = 1.5  # times as long as the mean: the window `auto`, of a corpus that is not there
SHARES = (0.8, 0.1, 0.1)  # training, validation and test clips, likewise
TOKENS = 60  # of a caption
CLASSES = 7  # of a corpus that is not there, if classes are what is scored
NANO_WORDS, WORDS = 1000, 51_865  # tokens that a captioner knows


@dataclass(frozen=True)
class Shape:
    """A Whisper, or an encoder like one.

    Args:
        width: of the states.
        layers: of the encoder (count).
        hidden: of its feed-forward layers.
        mels: mel bands; 0 for an encoder that hears samples.
        decoder: layers of the decoder (count).
        words: that it writes (count).
    """

    width: int
    layers: int
    hidden: int
    mels: int = 80
    decoder: int = 0
    words: int = WORDS

    def encoder_flops(self, window: Window, layers: int | None = None) -> float:
        """Operations of the encoder for a window, up to a layer; a multiply-add is two."""
        frames, width = window.frames, self.width
        # An encoder of samples: seven convolutions of 512 channels, most of it in the second, at a fifth of the rate.
        conv = 3 * width * (self.mels * 2 * frames + width * frames) if self.mels else 512 * 512 * 3 * 64 * frames
        layer = frames * width * (4 * width + 2 * self.hidden) + 2 * frames**2 * width
        return 2.0 * (conv + (layers or self.layers) * layer)

    def decoder_flops(self, window: Window) -> float:
        """Operations of the decoder for a caption."""
        cross = 2 * window.frames * self.width**2  # keys and values of all states
        token = self.width * (6 * self.width + 2 * self.hidden) + 2 * window.frames * self.width
        return 2.0 * (self.decoder * (cross + TOKENS * token) + TOKENS * self.width * self.words)

    @property
    def parameters(self) -> int:
        """Weights (count)."""
        encoder = self.layers * (4 * self.width**2 + 2 * self.width * self.hidden)
        decoder = self.decoder * (8 * self.width**2 + 2 * self.width * self.hidden)
        return encoder + decoder + self.words * self.width + 3 * self.width * (self.mels + self.width)


@dataclass(frozen=True)
class Workload:
    """What the stages of an experiment have to do.

    Args:
        clips: of all splits (count).
        train: of these (count).
        validation: of these (count).
        seconds: of a clip, in the mean.
        targets: that get an expert (count).
        captioner: that is trained; None where the experiment takes one that is there.
        encoder: whose states are kept.
        hears: the captioner's window.
        window: the encoder's.
        layers: of the encoder that are kept side by side.
        notes: what is assumed, in sentences.
    """

    clips: int
    train: int
    validation: int
    seconds: float
    targets: int
    captioner: Shape | None
    encoder: Shape
    hears: Window
    window: Window
    layers: tuple[int, ...]
    notes: tuple[str, ...]


def workload_of(experiment: Experiment, clips: int | None, seconds: float | None) -> Workload:
    """What an experiment has to do with so many clips.

    Args:
        experiment: as configured.
        clips: of all splits (count); None takes the corpus', which then has to be there.
        seconds: of a clip, in the mean; None takes the corpus', or 10 s where there is none.

    Raises:
        RequestError: if the encoder is a plug-in's or is not there, or neither the corpus nor a number of clips is.
        EmonetError: if the hub cannot be reached, and the model is none of the published Whispers.
    """
    corpus, notes = _corpus(experiment, clips)
    lengths = [] if corpus is None else [one for one in values_of(corpus.clips, "seconds") if not math.isnan(one)]
    mean = seconds or (sum(lengths) / len(lengths) if lengths else SECONDS)
    if seconds is None and not lengths:
        notes.append(f"a clip is {SECONDS:g} s long (--clip-seconds says otherwise)")
    if seconds is not None:
        lengths = []
    count = len(corpus) if clips is None and corpus is not None else clips or 0
    shares = SHARES if corpus is None else _shares(corpus)
    if corpus is None:
        notes.append(
            "of the clips {:.0%} are for training, {:.0%} for validation and {:.0%} for the test".format(*SHARES)
        )
    targets = len(corpus.rated) if corpus is not None else _targets(experiment)
    if corpus is None and experiment.targets == "classes":
        notes.append(f"the corpus has {CLASSES} classes, each of which gets an expert")
    elif corpus is None:
        notes.append(f"each of the {targets} targets is rated, and gets an expert")
    captioner = None
    if (named := named_encoder(experiment)) is None:
        captioner = encoder = shape_of(experiment.captioner.model)
        hears = _window(experiment.captioner.window_seconds, mean, lengths, notes)
    else:
        encoder, hears = shape_of(named), Window()
    own = experiment.extraction.window_seconds
    window = hears if own is None else _window(own, mean, lengths, notes)
    layers = resolve_layers(experiment.extraction.layers, encoder.layers)
    return Workload(
        count, round(shares[0] * count), round(shares[1] * count), min(mean, PRETRAINED_SECONDS), targets, captioner,
        encoder, hears, window, layers, tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def shape_of(source: str) -> Shape:
    """The dimensions of a model by its name, or as its folder says.

    Raises:
        RequestError: if it is a plug-in's, or there is no such model.
        EmonetError: if the hub cannot be reached.
    """
    from emonet.captioner import SIZES  # imports transformers

    if source.startswith(PLUGIN):
        raise RequestError(
            "nobody knows what a plug-in's encoder costs",
            found=f"--extraction.encoder {source.removeprefix(PLUGIN)}",
            hint="plan with a captioner of about its size, such as --extraction.encoder captioner "
            "--extraction.captioner openai/whisper-base",
        )
    name = source.removeprefix("scratch:").removeprefix("openai/whisper-").split("@")[0].split(".")[0]
    published = source.startswith(("scratch:", "openai/whisper-"))
    if published and name in SIZES:
        size, own = SIZES[name], source == "scratch:nano"
        return Shape(
            size.width, size.encoder_layers, 4 * size.width, 80, size.decoder_layers, NANO_WORDS if own else WORDS
        )
    if published and name.startswith("large"):
        return Shape(1280, 32, 5120, 128 if name.startswith("large-v3") else 80, 4 if "turbo" in name else 32)
    if ":/" in source:
        raise RequestError(
            "a plan takes a model's size from its name or folder", found=source, hint="name the folder of its captioner"
        )
    return _of_folder(Path(locate(source, ("whisper", "wav2vec2", "hubert", "wavlm", "data2vec-audio"))))


def _of_folder(folder: Path) -> Shape:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("model_type") == "whisper":
        words = int(config.get("vocab_size", WORDS))
        return Shape(
            config["d_model"], config["encoder_layers"], config["encoder_ffn_dim"], config.get("num_mel_bins", 80),
            config.get("decoder_layers", 0), words,
        )  # fmt: skip
    return Shape(config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"], mels=0)


def _corpus(experiment: Experiment, clips: int | None) -> tuple[Corpus | None, list[str]]:
    """The corpus, if it is there; the sandbox' own is not made for the sake of a plan."""
    made = "sandbox" in experiment.corpus.split("+") and not [*experiment.corpora.glob("sandbox-*")]
    try:
        if made:
            raise RequestError("it is made when it is first used", hint="emonet corpus sandbox; or --clips NUMBER")
        return open_quietly(experiment), [f"splits, lengths and rated targets as in {experiment.corpus}"]
    except EmonetError as error:
        if clips is None:
            raise RequestError(
                "a plan needs the corpus, or a number of clips",
                where=experiment.corpus,
                found=error.what,
                hint="--clips NUMBER",
            ) from error
        return None, [f"the corpus {experiment.corpus} was not opened: {error.what}"]


def _shares(corpus: Corpus) -> tuple[float, float, float]:
    clips = Counter(values_of(corpus.clips, "split"))
    return clips["train"] / len(corpus), clips["validation"] / len(corpus), clips["test"] / len(corpus)


def _targets(experiment: Experiment) -> int:
    return CLASSES if experiment.targets == "classes" else len(experiment.open_targets().ids)


def _window(wanted: float | str, mean: float, lengths: list[float], notes: list[str]) -> Window:
    if wanted != "auto":
        return Window(float(wanted))
    if lengths:
        return Window.holding(lengths)
    window = Window(float(min(PRETRAINED_SECONDS, max(1, math.ceil(LONGEST * mean)))))
    notes.append(f"the window auto is {window.seconds:g} s: {LONGEST:g} times a clip, in whole seconds")
    return window
