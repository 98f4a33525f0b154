"""Generation: captions that a captioner writes about clips, and how often the strongest emotion or bands are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import WhisperForConditionalGeneration, WhisperProcessor

from datamodules.caption_batches import Batches
from emonet.captioner import bands, generated, named_emotions, said_bands, strongest
from emonet.clips import Clip
from emonet.runtime import Progress, ignore
from emonet.targets import TargetSpec


@dataclass(frozen=True, slots=True)
class Generated:
    """A clip and what the captioner writes about it.

    Args:
        clip: with its scores.
        caption: written greedily.
    """

    clip: Clip
    caption: str

    def hits(self, spec: TargetSpec) -> float | None:
        """How right the caption is, 0 to 1; None where nothing was rated.

        Of emotions: 1 if the first one named is the strongest one rated, or one tied with it. A clip whose scores are
        all lowest is hit by a caption that names no emotion. Of other targets: the share whose band it says. Their mean
        where both were rated.
        """
        shares = spec.shares(self.clip.scores)
        hits = []
        if any(name in shares for name in spec.ranked):
            named, wanted = named_emotions(self.caption, spec), strongest(self.clip.scores, spec)
            hits.append(float(named[0] in wanted if named else not wanted))
        if right := bands(shares, spec):
            said = said_bands(self.caption, spec)
            hits.append(sum(said.get(name) == band for name, band in right.items()) / len(right))
        return sum(hits) / len(hits) if hits else None


def hit_rate(heard: Sequence[Generated], spec: TargetSpec) -> float:
    """Mean hit of the rated clips, 0 to 1; 0 where no clip was rated."""
    hits = [hit for hit in (one.hits(spec) for one in heard) if hit is not None]
    return sum(hits) / len(hits) if hits else 0.0


def generate(
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    batches: Batches,
    progress: Progress = ignore,
    waiting: Callable[[], object] = ignore,
) -> tuple[Generated, ...]:
    """Write a caption for each clip, greedily; the model is in evaluation mode afterwards.

    Args:
        model: on any device.
        processor: its tokenizer decodes.
        batches: the clips.
        progress: told about clips.
        waiting: asked before each batch whether something waits (not None), for which the rest is left out.
    """
    model.eval()
    heard = list[Generated]()
    progress(0, len(batches.clips))
    for batch in batches:
        if waiting() is not None:
            break
        captions = generated(model, processor, batch.waveforms)
        heard.extend(Generated(clip, text) for clip, text in zip(batch.clips, captions, strict=True))
        progress(len(heard), len(batches.clips))
    return tuple(heard)
