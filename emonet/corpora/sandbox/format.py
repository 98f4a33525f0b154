"""The sandbox: a corpus that espeak-ng synthesises, so that everything runs on a fresh machine.

A functional stand-in, not a scientific corpus: it shows that the software works and that a model can learn what
was put in (`emonet.targets.affect`, `emonet.corpora.sandbox.prosody`), and says nothing about how people sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from emonet.clips import Corpus, Split
from emonet.corpora.manifest import open_manifest
from emonet.corpora.sandbox import espeak
from emonet.corpora.sandbox.prosody import Prosody
from emonet.corpora.sandbox.sentences import SENTENCES
from emonet.corpora.sandbox.synthesis import MANIFEST, Utterance, synthesise
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore
from emonet.schema import digest
from emonet.targets import EMOTIONS, PLACEMENT, Affect, TargetSpec, scores_for

VOICES: Mapping[str, Split] = MappingProxyType(
    {
        "f1": "train", "f2": "validation", "f3": "train", "f4": "train", "f5": "test", "linda": "train",
        "m1": "train", "m2": "validation", "m3": "train", "m4": "test", "m5": "train",
    }
)  # fmt: skip
"""Variants of espeak-ng, six women and five men, and their splits; a variant is one speaker in all languages."""

LANGUAGES: Mapping[str, str] = MappingProxyType({"en": "en-us", "de": "de", "es": "es", "fr": "fr"})
"""ISO 639-1 code -> voice of espeak-ng."""

RECIPE = 1  # raise it when `Prosody.shape` or `espeak.speak` changes: a new recipe gets a new folder
SEED = 20_250_611
DISTANCE = 3.0  # dB, standard deviation: nobody keeps the same distance from every microphone
JITTER = 0.08  # standard deviation of a clip's displacement, in units of valence, arousal and dominance
INTENSITIES = (2.0, 4.0)  # an emotion that is acted is clearly heard
NOTE = (
    "sandbox: synthesised by espeak-ng with prosody from a formula; a functional stand-in, not a scientific "
    "corpus: figures on it say that the software works, not how well voices are understood."
)


def open_sandbox(
    folder: Path,
    *,
    targets: TargetSpec = EMOTIONS,
    emotions: Sequence[str] = EMOTIONS.ids,
    voices: Sequence[str] = tuple(VOICES),
    languages: Sequence[str] = tuple(LANGUAGES),
    workers: int | None = None,
    progress: Progress = ignore,
) -> Corpus:
    """Open the sandbox; where `folder` does not hold it yet, synthesise it there (under a minute on two cores).

    Args:
        folder: gets a subfolder named by the recipe, with the audio and a manifest.
        targets: what the corpus is for; scores of emotions that are none of them are left out.
        emotions: ids to synthesise.
        voices: variants to synthesise; `f5` and `m4` are the test split, `f2` and `m2` validation.
        languages: ISO 639-1 codes to synthesise.
        workers: processes; None is one per core, 8 at most.
        progress: told about clips.

    Raises:
        RequestError: if an emotion, voice or language is unknown.
        EmonetError: if espeak-ng is missing or fails, or the folder cannot be written.
    """
    utterances = plan(emotions, voices, languages)
    recipe = digest([RECIPE, espeak.version(), [asdict(utterance) for utterance in utterances]])
    root = folder / f"sandbox-{recipe[:12]}"
    synthesise(utterances, root, workers=workers, progress=progress)
    corpus, rated = open_manifest(root / MANIFEST), EMOTIONS.also_in(targets)
    clips = [replace(clip, scores={name: clip.scores[name] for name in rated}) for clip in corpus.clips]
    return replace(corpus, clips=tuple(clips), name="sandbox", targets=targets, note=NOTE)


def plan(emotions: Sequence[str], voices: Sequence[str], languages: Sequence[str]) -> tuple[Utterance, ...]:
    """Every combination, in the order voice, language, emotion; each is independent of the others.

    Raises:
        RequestError: if an emotion, voice or language is unknown.
    """
    for what, wanted, known in (("voice", voices, VOICES), ("language", languages, LANGUAGES)):
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise RequestError(f"the sandbox has no such {what}", expected=", ".join(known), found=", ".join(unknown))
    names = [EMOTIONS[name].id for name in emotions]
    return tuple(_utterance(emotion, voice, code) for voice in voices for code in languages for emotion in names)


def _utterance(emotion: str, voice: str, code: str) -> Utterance:
    key = f"{voice}-{code}-{emotion}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{SEED}/{key}".encode()).digest()[:8]))
    sentence = SENTENCES[code][random.integers(len(SENTENCES[code]))]
    intensity = round(float(random.uniform(*INTENSITIES)), 1)
    point = np.array(PLACEMENT[emotion]) * intensity / EMOTIONS[emotion].high + random.normal(0, JITTER, 3)
    prosody = Prosody.of(Affect(*point.tolist()), distance=float(random.normal(0, DISTANCE)))
    path = f"{voice}/{key}.flac"
    return Utterance(
        path=path,
        speech=espeak.Speech(
            text=sentence,
            voice=f"{LANGUAGES[code]}+{voice}",
            rate=prosody.rate,
            pitch=prosody.pitch,
            range=prosody.range,
            word_gap=prosody.word_gap,
        ),
        prosody=prosody,
        row={
            "audio": path,
            "id": f"sandbox/{key}",
            "speaker": f"sandbox/{voice}",
            "split": VOICES[voice],
            "language": code,
            **scores_for(emotion, intensity),
        },
    )
