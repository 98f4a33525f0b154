"""Caption templates: sentences about how a speaker feels, written from scores, and read back to judge a captioner."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from emonet.captioner.band_captions import bands, in_words
from emonet.errors import RequestError
from emonet.targets import Target, TargetSpec

# Neutral and emotional captions share their first words. Otherwise greedy decoding decides "neutral or not" on the
# first word, where the one neutral opening beats several emotional ones that split the probability among them.
_OPENINGS = (
    "The speaker feels {}.",
    "The voice expresses {}.",
    "One hears {}.",
    "There is {} in the voice.",
)
_NEUTRAL = ("no particular emotion", "no strong feeling")
_INTENSITIES = (  # by band: up to 1, 2, 3 and 4 of 4; band 0 is not mentioned
    ("slight", "faint"),
    ("moderate", "noticeable"),
    ("strong", "marked"),
    ("intense", "extreme"),
)
_DESCRIPTIONS = ("The voice has {}.", "One hears {}.", "There is {} in the voice.")  # of what is no emotion
_FURTHER = 2  # emotions named after the strongest
# The first of several choices is taken this often: a small model learns the sentence, and still sees the others.
_USUAL = 0.6
# Terms of the taxonomy that do not read as a noun behind "strong"; they are understood, but not written.
_UNWRITTEN = frozenset(
    {
        *("awestruck", "being drunk", "butterflies in the stomach", "desire to harm", "feeling horny"),
        *("feeling turned on", "flabbergasted", "having a crush", "mocking playfully", "provoking lightly"),
        *("self-confidently", "upset"),
    }
)


def write_caption(scores: Mapping[str, float], spec: TargetSpec, rng: np.random.Generator) -> str:
    """One sentence naming the strongest emotion first, then up to two more, each with its intensity.

    What is no emotion is told in a sentence of its own, each target with its band: "low arousal and high dominance".

    Args:
        scores: target id -> score in the target's range; absent or NaN means that nobody rated it, and it is not
            mentioned.
        spec: what the scores mean.
        rng: chooses among templates, intensity words, terms and tied emotions.

    Returns:
        An English sentence, or two; a neutral one if every emotion's score is the lowest.

    Raises:
        RequestError: if nothing was rated, or a name or score is not the spec's.
    """
    levels = spec.shares(scores)
    if not levels:
        raise RequestError("a caption cannot be written without scores", expected="at least one rated target")
    emotions = {name: level for name, level in levels.items() if name in spec.ranked}
    sentences = [_feelings(emotions, spec, rng)] if emotions else []
    if told := bands(levels, spec):
        description = _joined([in_words(spec[name], band) for name, band in told.items()])
        sentences.append(_choose(_DESCRIPTIONS, rng).format(description))
    return " ".join(sentences)


def _feelings(levels: Mapping[str, float], spec: TargetSpec, rng: np.random.Generator) -> str:
    spec = emotions_of(spec)
    shuffled = [list(levels)[i] for i in rng.permutation(len(levels))]  # a tie falls either way
    ranked = sorted(shuffled, key=lambda name: -levels[name])
    named = [name for name in ranked[:1] if levels[name] > 0]
    named += [name for name in ranked[1 : 1 + _FURTHER] if _band(levels[name]) > 0]
    phrases = [f"{_intensity(levels[name], rng)} {_choose(_writable(spec)[name], rng)}" for name in named]
    return _choose(_OPENINGS, rng).format(_joined(phrases) if phrases else _choose(_NEUTRAL, rng))


def strongest(scores: Mapping[str, float], spec: TargetSpec) -> frozenset[str]:
    """Ids of the strongest rated emotion and those tied with it; empty where every score is the lowest or missing."""
    levels = {name: level for name, level in spec.shares(scores).items() if name in spec.ranked}
    top = max(levels.values(), default=0.0)
    return frozenset(name for name, level in levels.items() if level == top > 0)


def rated_in_words(scores: Mapping[str, float], spec: TargetSpec) -> str:
    """What a caption should tell, for people: `strongest anger or fear`, `low arousal, high dominance`."""
    shares = spec.shares(scores)
    emotions = " or ".join(sorted(strongest(scores, spec))) or "nothing"
    parts = [f"strongest {emotions}"] if spec.ranked else []
    parts += [in_words(spec[name], band) for name, band in bands(shares, spec).items()]
    return ", ".join(parts) or "nothing rated"


def named_emotions(caption: str, spec: TargetSpec) -> tuple[str, ...]:
    """Ids of the emotions that a sentence names, in order of mention, each once.

    An emotion is named by its id, its name, a part of its name ("Hope" of "Hope/Enthusiasm/Optimism") or one of its
    terms; the longest match wins, and words that belong to several emotions count for none of them.

    Args:
        caption: any sentence; upper and lower case are alike.
        spec: the targets to look for; only its emotions are.
    """
    meanings, pattern = _lexicon(emotions_of(spec))
    if pattern is None:
        return ()
    found = (meanings[match.group().casefold()] for match in pattern.finditer(caption))
    return tuple(dict.fromkeys(name for name in found if name is not None))


def emotions_of(spec: TargetSpec) -> TargetSpec:
    """The emotions of a set; empty if it has none."""
    return spec.subset(spec.ranked) if spec.apart else spec


def _band(level: float) -> int:
    """0 (not mentioned) to 4, the nearest of the scale's whole steps."""
    return int(np.floor(level * len(_INTENSITIES) + 0.5))


def _intensity(level: float, rng: np.random.Generator) -> str:
    return _choose(_INTENSITIES[max(_band(level), 1) - 1], rng)


def _choose(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    usual = len(choices) == 1 or rng.random() < _USUAL
    return choices[0] if usual else choices[int(rng.integers(1, len(choices)))]


def _joined(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _phrases(target: Target) -> tuple[str, ...]:
    """Everything that may name a target, lower case, the most usual first."""
    name = target.name.casefold()
    parts = [part.strip() for part in re.split(r"/|&|\band\b", name)]
    words = [*parts, target.id.casefold().replace("_", " "), *(term.casefold() for term in target.terms)]
    return tuple(dict.fromkeys(phrase for phrase in [*words, name, *(a.casefold() for a in target.aliases)] if phrase))


@lru_cache(maxsize=8)
def _lexicon(spec: TargetSpec) -> tuple[dict[str, str | None], re.Pattern[str] | None]:
    """Phrase -> id (None where several targets share it), and a pattern that finds the longest phrase."""
    owners: dict[str, set[str]] = defaultdict(set)
    for target in spec:
        for phrase in _phrases(target):
            owners[phrase].add(target.id)
    meanings = {phrase: next(iter(ids)) if len(ids) == 1 else None for phrase, ids in owners.items()}
    if not meanings:
        return {}, None
    longest_first = sorted(meanings, key=lambda phrase: (-len(phrase), phrase))
    # No word character and no hyphen on either side: "ease" is not in "disease", nor "pity" in "self-pity".
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])", re.IGNORECASE)
    return meanings, pattern


@lru_cache(maxsize=8)
def _writable(spec: TargetSpec) -> dict[str, tuple[str, ...]]:
    """Id -> the words that captions use for it: unambiguous, readable as a noun, the name first."""
    meanings, _ = _lexicon(spec)
    writable = {}
    for target in spec:
        own = [phrase for phrase in _phrases(target) if meanings[phrase] == target.id]
        plain = [p for p in own if p not in _UNWRITTEN and not re.search(r"[/&]|\band\b", p)]
        if not own:
            raise RequestError(
                f"captions cannot name {target.id!r}: other targets share all of its names",
                found=", ".join(_phrases(target)),
                hint="give the target a name or a term of its own",
            )
        writable[target.id] = tuple(plain or own[:1])
    return writable
