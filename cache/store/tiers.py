"""Codec tiers, or compression: what is done to a clip's states before they are stored, and undone on reading.

Each tier ends in codecs of the Zarr v3 specification alone, so that any Zarr reader opens the array; what is lossy
happens before them. docs/store.md has the measurements behind each choice.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal, final

import google_crc32c
import numpy as np
from jaxtyping import Float16, Float32, Int8, Shaped
from numcodecs import BitRound, blosc

from emonet.configs import CodecTier

CRC_BYTES = 4  # after each chunk, little-endian, as the codec crc32c of the specification
BLOCK = 1 << 20  # bytes: blocks in which the high and the low bytes each fill whole blocks of zstd
LEVEL = 3  # of zstd: 5 is 0.2 % smaller and takes twice the time to write
MANTISSA = 7  # bits that `bfloat` keeps of float16's 10, as bfloat16 has
INT8_LIMIT = 127  # -128 is left out: it stands for a chunk that is missing
_threads = threading.local()
_TILE = 128  # channels transposed at a time, so that they stay in the processor's cache


class DamagedChunkError(ValueError):
    """A stored chunk is not what was written."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One clip as it is stored.

    Args:
        chunk: of the array `states`.
        scales: of the array `scales`, for tiers that have one.
        restored: float16 states (frames, width), as reading will give them.
    """

    chunk: bytes
    scales: bytes | None
    restored: Float16[np.ndarray, "frames width"]


@final
@dataclass(frozen=True, slots=True)
class Tier:
    """One way to store states.

    Args:
        name: as in the configuration.
        dtype: of the stored array.
        compressed: transposed to (width, frames) and compressed by Blosc's zstd; else plain bytes. One channel's
            values lie close together, so neighbours in time compress far better than neighbours in width.
        mantissa: bits kept of each value; None keeps all.
    """

    name: CodecTier
    dtype: Literal["float16", "int8"] = "float16"
    compressed: bool = True
    mantissa: int | None = None

    @property
    def scaled(self) -> bool:
        """Whether values are multiples of a scale per clip and channel."""
        return self.dtype == "int8"

    @property
    def fill_value(self) -> float | int:
        """What a Zarr reader shows for a chunk that is missing; it is never stored."""
        return float("nan") if self.dtype == "float16" else -128

    @property
    def plain(self) -> bool:
        """Whether a chunk is the states themselves, which can be read in place."""
        return not self.compressed and not self.scaled

    def encode(self, states: Float16[np.ndarray, "frames width"]) -> Encoded:
        """Compress one clip."""
        if self.scaled:
            scales = channel_scales(states)
            values: np.ndarray = quantise(states, scales)
            restored = dequantise(values, scales)
            return Encoded(self._pack(values), checked(scales.astype("<f4").tobytes()), restored)
        kept = states if self.mantissa is None else rounded(states, self.mantissa)
        return Encoded(self._pack(kept), None, kept)

    def decode(self, chunk: Any, scales: Any, out: Float16[np.ndarray, "frames width"]) -> None:
        """Undo `encode`, into `out`.

        Args:
            chunk: bytes-like, of the array `states`.
            scales: bytes-like, of the array `scales`; None for tiers without.
            out: float16 (frames, width), C-contiguous; filled.

        Raises:
            DamagedChunkError: if the bytes are not those that were written.
        """
        content = unchecked(chunk)
        if not self.compressed:
            if len(content) != out.nbytes:
                raise DamagedChunkError(f"{len(content)} bytes instead of {out.nbytes}")
            np.copyto(out, np.frombuffer(content, out.dtype).reshape(out.shape))
            return
        turned = _scratch("stored", out.shape[::-1], np.dtype(self.dtype))
        _decompress(content, turned)
        if self.scaled:
            _rescale(turned, unchecked(scales), out)
        else:
            _transpose(turned, out)

    def _pack(self, values: Shaped[np.ndarray, "frames width"]) -> bytes:
        if not self.compressed:
            return checked(np.ascontiguousarray(values).tobytes())
        shuffle = blosc.SHUFFLE if values.itemsize > 1 else blosc.NOSHUFFLE
        return checked(blosc.compress(transposed(values), b"zstd", LEVEL, shuffle, BLOCK))


TIERS: dict[CodecTier, Tier] = {
    tier.name: tier
    for tier in (
        Tier("none", compressed=False),
        Tier("lossless"),
        Tier("bfloat", mantissa=MANTISSA),
        Tier("int8", dtype="int8"),
    )
}


def rounded(states: Float16[np.ndarray, "frames width"], mantissa: int) -> Float16[np.ndarray, "frames width"]:
    """Round to so many bits after the leading one, ties to even (numcodecs' BitRound)."""
    codec = BitRound(mantissa)
    kept: np.ndarray = codec.decode(codec.encode(np.ascontiguousarray(states))).view(np.float16).reshape(states.shape)
    # A value close to the largest float16 rounds up to infinity; one step below is as near as it gets.
    overflown = np.isinf(kept)
    if overflown.any():
        step = np.float16(2.0 ** (15 - mantissa))
        largest = np.float16(65536.0 - float(step))
        kept = np.where(overflown, np.copysign(largest, states), kept).astype(np.float16)
    return kept


def channel_scales(states: Float16[np.ndarray, "frames width"]) -> Float32[np.ndarray, " width"]:
    """The value of one step of int8 for each channel: a channel with outliers does not cost the others precision."""
    peaks = np.abs(states).max(axis=0).astype(np.float32)
    return np.where(peaks > 0, peaks / INT8_LIMIT, np.float32(1.0)).astype(np.float32)


def quantise(
    states: Float16[np.ndarray, "frames width"], scales: Float32[np.ndarray, " width"]
) -> Int8[np.ndarray, "frames width"]:
    """The nearest multiples of each channel's scale, from -127 to 127."""
    steps: np.ndarray = np.rint(states.astype(np.float32) / scales)
    return steps.clip(-INT8_LIMIT, INT8_LIMIT).astype(np.int8)


def dequantise(
    values: Int8[np.ndarray, "frames width"], scales: Float32[np.ndarray, " width"]
) -> Float16[np.ndarray, "frames width"]:
    """States out of multiples of each channel's scale."""
    states: np.ndarray = values * scales
    return states.astype(np.float16)


def transposed(values: Shaped[np.ndarray, "frames width"]) -> Shaped[np.ndarray, "width frames"]:
    """A C-contiguous copy with channels first."""
    turned = np.empty(values.shape[::-1], values.dtype)
    _transpose(values, turned)
    return turned


def _decompress(content: Any, out: np.ndarray) -> None:
    """Undo Blosc, whose header says how many bytes come out: with fewer, the rest of `out` would be another clip's."""
    size = int.from_bytes(content[4:8], "little")
    if size != out.nbytes:
        raise DamagedChunkError(f"{size} bytes instead of {out.nbytes}")
    try:
        blosc.decompress(content, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedChunkError(" ".join(str(error).split())) from error


def _rescale(
    values: Int8[np.ndarray, "width frames"], stored: memoryview, out: Float16[np.ndarray, "frames width"]
) -> None:
    """`dequantise` of channels first, a few at a time in memory that is used again."""
    if stored.nbytes != 4 * len(values):
        raise DamagedChunkError(f"{stored.nbytes} bytes of scales instead of {4 * len(values)}")
    scales = np.frombuffer(stored, "<f4")
    product = _scratch("product", (_TILE, values.shape[1]), np.dtype(np.float32))
    for first in range(0, len(values), _TILE):
        part = values[first : first + _TILE]
        np.multiply(part, scales[first : first + _TILE, None], out=product[: len(part)])
        out[:, first : first + _TILE] = product[: len(part)].T


def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array of this thread's own that is used again: fresh memory costs more than decompressing into it."""
    known: np.ndarray | None = getattr(_threads, name, None)
    if known is None or known.shape != shape or known.dtype != dtype:
        known = np.empty(shape, dtype)
        setattr(_threads, name, known)
    return known


def _transpose(source: np.ndarray, target: np.ndarray) -> None:
    for first in range(0, len(source), _TILE):
        target[:, first : first + _TILE] = source[first : first + _TILE].T


def checked(content: bytes) -> bytes:
    """`content` and its CRC-32C."""
    return content + checksum(content)


def unchecked(stored: Any) -> memoryview:
    """The content of a chunk whose CRC-32C is right.

    Raises:
        DamagedChunkError: if it is not.
    """
    if len(stored) < CRC_BYTES or _crc(stored) != _RESIDUE:
        raise DamagedChunkError("its checksum (CRC-32C) is wrong")
    return memoryview(stored)[:-CRC_BYTES]


def checksum(content: Any) -> bytes:
    """CRC-32C of bytes-like `content`, little-endian."""
    return _crc(content).to_bytes(CRC_BYTES, "little")


def _crc(content: Any) -> int:
    # The library takes bytes and arrays; anything else through NumPy, because bytes() would copy.
    known = content if isinstance(content, bytes | np.ndarray) else np.frombuffer(content, np.uint8)
    return int(google_crc32c.value(known))


_RESIDUE = _crc(checked(b""))  # of any content followed by its CRC-32C
