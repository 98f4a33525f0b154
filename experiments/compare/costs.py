"""Costs of a model: size, memory, time per clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from emonet.evaluation import ContenderFacts
from emonet.experts import ExpertsPrecision
from experiments.compare.clips import ComparedClips
from experiments.compare.models import Model
from experiments.compare.origins import Origin, overlap_text
from experiments.compare.predictions import timed
from experiments.compare.states import Encoders

if TYPE_CHECKING:
    from emonet.clips import Clip
    from emonet.encoders import ReadyEncoder

TIMED_CLIPS = 3  # an encoder takes seconds for each


@dataclass(frozen=True)
class Costs:
    """Measures what models cost, on a few of the clips that they are compared on.

    Args:
        clips: of the comparison.
        ids: of those that are compared.
        encoders: of the models.
        precision: how experts on flattened states are held.
    """

    clips: ComparedClips
    ids: Sequence[str]
    encoders: Encoders
    precision: ExpertsPrecision

    def of(self, model: Model, origin: Origin, experts_ms: float) -> ContenderFacts:
        """The facts of one model.

        Args:
            model: of the comparison.
            origin: what it knows of the clips.
            experts_ms: its experts' time for one clip's states (ms).
        """
        there = self.encoders.find(model.encoder_digest) is not None
        encoder = self.encoders.load(model.encoder_digest) if there else None
        encoder_ms = self._encoder_ms(model.encoder_digest, encoder)
        mebibyte = 2**20
        weights, encoder_bytes = (encoder.parameters, encoder.weight_bytes) if encoder else (0, 0)  # None: not known
        experts_bytes = model.bytes_loaded(self.precision)
        details = {
            "version": "-" if model.version is None else str(model.version.version),
            "trained on": _training(model),
            "experts": f"{len(model.targets)}, {model.parameters:,} weights, {experts_ms:.2f} ms a clip",
            "encoder": f"{model.encoder_digest[:12]}, "
            + ("not measured" if encoder_ms is None else f"{encoder_ms:.1f} ms a clip"),
            "calibrated": model.calibrated or "no",
            "held in": self.precision,
        }
        if origin.overlaps:
            details["FORCED"] = overlap_text(origin)
        return ContenderFacts(
            source=model.given,
            seen_clips=None if origin.known == "unknown" else origin.trained + origin.chosen,
            parameters=None if weights is None else model.parameters + weights,
            megabytes=model.bytes_stored / 1e6,
            milliseconds=experts_ms + (encoder_ms or 0.0),
            memory_mib=None if encoder_bytes is None else (experts_bytes + encoder_bytes) / mebibyte,
            details=details,
        )

    @cached_property
    def _heard(self) -> list[Clip]:
        """The clips that encoders are timed on; none where there is no audio."""
        if self.clips.corpus is None:
            return []
        wanted = set(self.ids[:TIMED_CLIPS])
        return [clip for clip in self.clips.corpus.of_split(self.clips.split) if clip.id in wanted]

    @cached_property
    def _measured(self) -> dict[str, float]:
        return {}

    def _encoder_ms(self, digest: str, encoder: ReadyEncoder | None) -> float | None:
        """Decoding and encoding one clip (ms), the median of a few; measured once for each encoder."""
        if encoder is None or not self._heard:
            return None
        if digest not in self._measured:
            from emonet.audio import decode, pad

            window, heard = encoder.window, self._heard

            def hear(number: int) -> object:
                clip = heard[number]
                sound = decode(clip.audio, start=clip.start, end=clip.end, seconds=window.seconds)
                return encoder.states(pad([sound.samples], window))

            self._measured[digest] = timed(hear, len(heard))
        return self._measured[digest]


def _training(model: Model) -> str:
    from emonet.tracking import lineage

    found = None if model.origin is None else lineage.read(model.origin)
    if found is None:
        return "unknown"
    return f"{found.corpus} ({found.clips.get('train', 0)} clips, corpus {found.corpus_fingerprint[:12]})"
