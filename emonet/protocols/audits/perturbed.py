"""Perturbed clips and their scores, condition by condition: any scorer hears them as WAV files in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from emonet.audio import PERTURBATION_VERSION, Perturbation, as_wav, perturb, shared_decoders
from emonet.clips import Clip
from emonet.errors import AudioError, RequestError
from emonet.evaluation import Scored, Scorer
from emonet.protocols.audits.kept_scores import KeptScores, clip_set
from emonet.runtime import Progress, ignore, seed_of
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

CLEAN: Final = "clean"
"""The condition without a perturbation: decoded, mixed down and resampled like all others."""
BLOCK: Final = 128  # clips in memory at once: 120 MiB if all are 30 s long


def score_conditions(
    scorer: Scorer,
    clips: Sequence[Clip],
    perturbations: Sequence[Perturbation],
    *,
    model: str = "",
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress = ignore,
) -> dict[str, Scored]:
    """Scores of the clean clips and of the perturbed ones, by condition: `clean`, `white_noise:20` and so on.

    Args:
        scorer: any model.
        clips: with unique ids.
        perturbations: in the order in which they are made.
        model: what tells the scorer from others in the folder, such as a digest of its weights.
        folder: where each condition's scores are kept, and found again; None keeps nothing.
        seed: of noises and rooms; each clip has its own.
        progress: told of scored clips, over all conditions.

    Raises:
        RequestError: if there are no clips, an id occurs twice, or scores are to be kept of a model without a name.
    """
    twice = [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]
    if not clips or twice:
        raise RequestError(
            "these clips cannot be audited",
            expected="clips with ids of their own",
            found=", ".join(twice[:3]) or "none",
        )
    if folder is not None and not model:
        raise RequestError("scores are kept by their model, and it has no name", expected="a digest of its weights")
    targets = scorer.target_spec
    settled = {"model": model, "clips": clip_set(clips), "targets": targets.to_json(), "seed": seed}
    kept = KeptScores(folder, settled | {"perturbations": PERTURBATION_VERSION, "seconds": PRETRAINED_SECONDS})
    conditions: dict[str, Perturbation | None] = {CLEAN: None, **{str(one): one for one in perturbations}}
    found, total = {}, len(conditions) * len(clips)
    for number, (name, perturbation) in enumerate(conditions.items()):
        before = number * len(clips)
        progress(before, total, name)
        scored = kept.read(name, clips, targets)
        if scored is None:
            scored = _scored(scorer, clips, perturbation, seed, partial(_after, progress, before, total))
            kept.write(name, scored)
        found[name] = scored
    progress(total, total)
    return found


def every_condition(clips: Sequence[Clip], perturbations: Sequence[Perturbation], *, seed: int = 0) -> Iterator[Clip]:
    """All that `score_conditions` would let a model hear, one by one; what cannot be decoded is passed over."""
    for perturbation in (None, *perturbations):
        yield from (one for one in perturbed(clips, perturbation, seed=seed) if isinstance(one, Clip))


def _after(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def perturbed(
    clips: Sequence[Clip], perturbation: Perturbation | None, *, seed: int = 0
) -> Iterator[Clip | AudioError]:
    """Each clip as a WAV file in memory, at most 30 s of the original; or why it cannot be heard.

    Args:
        clips: to hear.
        perturbation: what is done to them; None for nothing.
        seed: of noises and rooms.
    """
    heard = shared_decoders().decode(clips, seconds=PRETRAINED_SECONDS)
    for clip, sound in zip(clips, heard, strict=True):
        if isinstance(sound, AudioError):
            yield sound
            continue
        samples = sound.samples
        if perturbation is not None:
            samples = perturb(samples, perturbation, seed=seed_of(seed, clip.id))
        yield replace(clip, audio=as_wav(samples), start=None, end=None, seconds=len(samples) / SAMPLE_RATE)


def _scored(
    scorer: Scorer, clips: Sequence[Clip], perturbation: Perturbation | None, seed: int, progress: Callable[[int], None]
) -> Scored:
    """Scores of a condition, block by block: each clip is scored for itself, and memory stays small."""
    import pandas as pd

    tables: list[pd.DataFrame] = []
    refusals: dict[str, str] = {}
    for start in range(0, len(clips), BLOCK):
        block = clips[start : start + BLOCK]
        heard = list(perturbed(block, perturbation, seed=seed))
        refusals |= {clip.id: one.reason for clip, one in zip(block, heard, strict=True) if isinstance(one, AudioError)}
        usable = [one for one in heard if isinstance(one, Clip)]
        if usable:
            scored = scorer.score(usable)
            tables.append(scored.scores)
            refusals |= scored.refusals
        progress(min(start + BLOCK, len(clips)))
    columns = list(scorer.target_spec.ids)
    table = pd.concat(tables) if tables else pd.DataFrame(columns=columns, dtype=float)
    return Scored(table.reindex([clip.id for clip in clips]).rename_axis("id"), refusals)
