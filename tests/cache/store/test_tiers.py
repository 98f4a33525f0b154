from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs import BitRound

from cache.store import TIERS
from cache.store.tiers import DamagedChunkError, channel_scales, checked, rounded, transposed, unchecked

pytestmark = pytest.mark.numeric

FINITE = st.floats(-65504, 65504, width=16, allow_subnormal=True)


@st.composite
def states_of_a_clip(draw: Any) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 140)))
    return np.asarray(draw(hnp.arrays(np.float16, shape, elements=FINITE, fill=FINITE)))


def restored(tier: str, states: np.ndarray) -> np.ndarray:
    encoded = TIERS[tier].encode(states)  # type: ignore[index]
    out = np.full(states.shape, np.nan, np.float16)
    TIERS[tier].decode(encoded.chunk, encoded.scales, out)  # type: ignore[index]
    np.testing.assert_array_equal(out, encoded.restored)  # what is said to be read is read
    return out


@pytest.mark.parametrize("tier", ["none", "lossless"])
@given(states=states_of_a_clip())
def test_lossless_tiers_give_back_every_bit(tier: str, states: np.ndarray) -> None:
    np.testing.assert_array_equal(restored(tier, states).view(np.uint16), states.view(np.uint16))


@given(states=states_of_a_clip())
def test_bfloat_is_off_by_half_a_step_of_eight_bits_at_most(states: np.ndarray) -> None:
    error = np.abs(restored("bfloat", states).astype(float) - states.astype(float))
    step = np.maximum(np.abs(states.astype(float)) * 2.0**-8, 2.0**-22)  # the last: subnormal float16
    at_the_top = np.abs(states.astype(float)) > 65280  # rounds to what float16 does not have
    assert (error <= np.where(at_the_top, 256, step)).all()


def test_rounding_is_that_of_numcodecs() -> None:
    states = np.random.default_rng(0).normal(0, 3, (20, 30)).astype(np.float16)
    expected = BitRound(7).decode(BitRound(7).encode(states)).view(np.float16)
    np.testing.assert_array_equal(rounded(states, 7), expected)
    assert not (rounded(states, 7).view(np.uint16) & 0b111).any()
    assert np.isfinite(rounded(np.array([[65504.0, -65504.0]], np.float16), 7)).all()


@given(states=states_of_a_clip())
def test_int8_is_off_by_half_a_step_of_its_channel_at_most(states: np.ndarray) -> None:
    error = np.abs(restored("int8", states).astype(float) - states.astype(float))
    step = channel_scales(states).astype(float)
    assert (error <= 0.5001 * step + np.abs(states.astype(float)) * 2.0**-11 + 2.0**-24).all()


def test_an_outlier_channel_does_not_cost_the_others_precision() -> None:
    states = np.random.default_rng(0).normal(0, 1, (100, 8)).astype(np.float16)
    alone = np.abs(restored("int8", states) - states)[:, :7].max()
    states[:, 7] *= 1000
    assert np.abs(restored("int8", states) - states)[:, :7].max() == alone
    assert alone < 0.02


def test_a_channel_of_zeros_stays_zero() -> None:
    assert not restored("int8", np.zeros((5, 3), np.float16)).any()


@pytest.mark.parametrize("tier", list(TIERS))
@given(data=st.data())
def test_any_flipped_bit_is_noticed(tier: str, data: st.DataObject) -> None:
    states = np.random.default_rng(1).normal(0, 1, (10, 6)).astype(np.float16)
    encoded = TIERS[tier].encode(states)  # type: ignore[index]
    part = data.draw(st.sampled_from(["chunk", "scales"] if encoded.scales else ["chunk"]))
    content = {"chunk": bytearray(encoded.chunk), "scales": bytearray(encoded.scales or b"")}
    bit = data.draw(st.integers(0, 8 * len(content[part]) - 1))
    content[part][bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedChunkError, match="checksum"):
        TIERS[tier].decode(content["chunk"], content["scales"] or None, np.empty_like(states))  # type: ignore[index]


def test_a_chunk_of_another_shape_is_damaged() -> None:
    states = np.ones((4, 3), np.float16)
    with pytest.raises(DamagedChunkError, match="24 bytes instead of 30"):
        TIERS["none"].decode(TIERS["none"].encode(states).chunk, None, np.empty((5, 3), np.float16))
    for tier, size, shape, wanted in (
        ("lossless", 24, (3, 3), 18),
        ("lossless", 24, (5, 3), 30),
        ("int8", 12, (5, 3), 15),
    ):
        encoded = TIERS[tier].encode(states)  # type: ignore[index]
        with pytest.raises(DamagedChunkError, match=f"{size} bytes instead of {wanted}"):
            TIERS[tier].decode(encoded.chunk, encoded.scales, np.empty(shape, np.float16))  # type: ignore[index]
    with pytest.raises(DamagedChunkError, match="0 bytes instead of 24"):
        TIERS["lossless"].decode(checked(b"abc"), None, np.empty((4, 3), np.float16))
    encoded, other = (TIERS["int8"].encode(np.ones((4, width), np.float16)) for width in (3, 1))
    with pytest.raises(DamagedChunkError, match="4 bytes of scales instead of 12"):
        TIERS["int8"].decode(encoded.chunk, other.scales, np.empty((4, 3), np.float16))
    with pytest.raises(DamagedChunkError, match="checksum"):
        unchecked(b"abc")


def test_a_chunk_of_fewer_values_does_not_show_the_clip_before() -> None:
    """The memory that is decompressed into is used again, so what is not written to is the last clip's."""
    states, out = np.ones((50, 8), np.float16), np.empty((50, 8), np.float16)
    TIERS["lossless"].decode(TIERS["lossless"].encode(states).chunk, None, out)
    with pytest.raises(DamagedChunkError, match="640 bytes instead of 800"):
        TIERS["lossless"].decode(TIERS["lossless"].encode(states[:40]).chunk, None, out)


@given(states=states_of_a_clip())
def test_channels_come_first(states: np.ndarray) -> None:
    np.testing.assert_array_equal(transposed(states), states.T)
    assert transposed(states).flags.c_contiguous


def test_neighbours_in_time_compress_better_than_neighbours_in_width() -> None:
    """Why chunks are transposed: channels differ from each other and change slowly."""
    rng = np.random.default_rng(0)
    slow = rng.normal(0, 0.02, (500, 64)).cumsum(axis=0) + rng.normal(0, 3, 64)
    states = slow.astype(np.float16)
    along_time = len(TIERS["lossless"].encode(states).chunk)
    along_width = len(TIERS["lossless"].encode(np.ascontiguousarray(states.T)).chunk)
    assert along_time < 0.95 * along_width


def test_the_checksum_is_that_of_the_specification() -> None:
    assert checked(b"123456789")[-4:] == (0xE3069283).to_bytes(4, "little")  # the check value of CRC-32C
