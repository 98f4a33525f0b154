"""Scale of samples: float files that hold 16-bit values, and values that no convention explains."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float32

from emonet.audio.notices import Notice
from emonet.errors import AudioError

HOTTEST = 8.0  # full scale is 1; mixes in float go beyond it, and by more than 18 dB none was seen
BITS: Final = {16: 1.05 * 2**15, 24: 1.05 * 2**23, 32: 1.05 * 2**31}  # conventions; resampling goes a little beyond
FAINTEST = 1e-3  # of full scale (-60 dB): what a conversion would leave next to nothing of was another scale
USUAL = 99.9  # percentile of the samples' size; beyond it a file may have damaged ones


def to_full_scale(
    mono: Float32[np.ndarray, " samples"], where: str
) -> tuple[Float32[np.ndarray, " samples"], Notice | None]:
    """Bring samples to full scale at 1.

    Args:
        mono: finite samples.
        where: how messages name the recording.

    Returns:
        The samples, and a notice if they had another scale.

    Raises:
        AudioError: if their size is that of no convention, or a few are far larger than the rest.
    """
    divisor, notice = scale_of(mono, where)
    return (mono if notice is None else mono / np.float32(divisor)), notice


def scale_of(mono: Float32[np.ndarray, " samples"], where: str) -> tuple[float, Notice | None]:
    """What samples are to be divided by for full scale at 1, and a notice if that is not 1; as `to_full_scale`."""
    size = np.abs(mono)
    peak = float(size.max())
    if peak <= HOTTEST:
        return 1.0, None
    usual = float(np.percentile(size, USUAL))
    bits = next((bits for bits, most in BITS.items() if peak <= most), None)
    if bits is None or usual <= HOTTEST or usual / 2 ** (bits - 1) < FAINTEST:
        rest = f"most are below {usual:.3g}" if usual <= HOTTEST else "full scale is 1"
        raise AudioError(
            f"samples up to {peak:.3g} where {rest}: damaged, or of an unknown scale",
            where=where,
            expected="samples from -1 to 1",
            found=f"{peak:.3g}",
        )
    text = f"samples up to {peak:,.0f} in a float file: taken as {bits}-bit values, divided by {2 ** (bits - 1):,}"
    return 2.0 ** (bits - 1), Notice("scale", text)
