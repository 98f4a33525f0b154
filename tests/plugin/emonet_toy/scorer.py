"""A scorer that takes loud voices for angry ones."""

from collections.abc import Sequence

import numpy as np
import torch

from emonet import EMOTIONS, AudioError, Clip, Progress, Scored
from emonet.audio import decode


class Loudness:
    """`loudness:GAIN` multiplies the root mean square of the samples by GAIN; what is shorter than 0.3 s is refused."""

    target_spec = EMOTIONS.subset(["anger"])

    def __init__(self, argument: str, *, device: torch.device) -> None:
        self._gain = float(argument or 10)

    def score(self, clips: Sequence[Clip], *, progress: Progress) -> Scored:
        """One row a clip; a reason in its place refuses the clip."""
        found: list[list[float] | str] = []
        progress(0, len(clips))
        for clip in clips:
            found.append(self._anger(clip))
            progress(len(found), len(clips))
        return Scored.of(clips, self.target_spec, found)

    def _anger(self, clip: Clip) -> list[float] | str:
        try:
            sound = decode(clip.audio, start=clip.start, end=clip.end)
        except AudioError as error:
            return error.reason
        if sound.seconds < 0.3:
            return "shorter than 0.3 s"
        return [min(4.0, self._gain * float(np.sqrt(np.square(sound.samples).mean())))]
