"""The sound of a recording within a page: MP3, which every browser plays, Safari before 18.4 (no Ogg) included."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

import numpy as np
import soundfile
from jaxtyping import Float32

from emonet.windows import SAMPLE_RATE

LONGEST = 3600.0  # seconds of a recording that a page holds: 18 MB, 24 MB as base64
# 40 kbit/s at 16 kHz. From there on LAME's header fits into a frame; without it browsers play 0.07 s late. The rate is
# constant, since browsers jump within variable ones by a table of a hundred entries.
_MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.8}


def as_mp3(blocks: Iterable[Float32[np.ndarray, " samples"]]) -> bytes:
    """Encode 16 kHz mono.

    Args:
        blocks: consecutive parts of the sound.
    """
    buffer = BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, **_MP3) as sound:
        for block in blocks:
            sound.write(block)
    return buffer.getvalue()
