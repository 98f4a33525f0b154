from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.errors import RequestError
from experiments.listen.pcm import PcmReader

SAMPLES = np.random.default_rng(0).normal(0, 0.1, (300, 2)).astype(np.float32)


def wav(samples: np.ndarray = SAMPLES, subtype: str = "PCM_16", form: str = "WAV") -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, 48_000, format=form, subtype=subtype)
    return file.getvalue()


def read(content: bytes, cuts: list[int], kind: str = "auto", rate: int | None = None) -> tuple[PcmReader, np.ndarray]:
    parts = [content[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True)]
    reader, found = PcmReader(kind, rate), list[np.ndarray]()
    for part in [*parts, b""]:
        if not reader.ready:
            if part or part is parts[-1] or not found:
                reader.begin(part) if part else None
            if reader.ready:
                found.append(reader.samples(b""))
        elif part and not reader.ended:
            found.append(reader.samples(part))
    return reader, np.concatenate(found)


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 1_000), max_size=12), kind=st.sampled_from(["PCM_16", "PCM_32", "FLOAT"]))
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_a_wav_in_any_pieces(form: str, cuts: list[int], kind: str) -> None:
    content = wav(subtype=kind, form=form)
    reader, found = read(content, cuts)
    expected, _ = sf.read(io.BytesIO(content), dtype={"PCM_16": "int16", "PCM_32": "int32", "FLOAT": "float32"}[kind])
    assert reader.rate == 48_000
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_does_not_know_its_length(size: int) -> None:
    content = bytearray(wav())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    _, found = read(bytes(content), [100, 333])
    assert found.shape == (300, 2)


def test_what_follows_the_samples_is_not_heard() -> None:
    reader, found = read(wav() + b"LIST\x04\x00\x00\x00abcd", [500])
    assert found.shape == (300, 2)
    assert reader.ended


@pytest.mark.parametrize(("named", "kind"), [("s16le", "<i2"), ("auto", "<i2"), ("f32le", "<f4")])
def test_raw_samples(named: str, kind: str) -> None:
    samples = np.arange(-50, 50).astype(kind)
    reader, found = read(samples.tobytes() + b"\x00", [1, 2, 3, 77], named, 8_000)
    assert reader.rate == 8_000
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"\x01\x02" * 20, {}, r"(?s)no WAV.*do not say their rate.*--rate 16000"),
        (b"", {"format": "s16le"}, r"(?s)raw samples do not say their rate.*--rate"),
        (wav(subtype="PCM_24"), {}, r"(?s)cannot be listened to.*format 1 of 24 bits, 2 channels.*pcm_s16le"),
        (wav(subtype="ALAW"), {}, r"format 6 of 8 bits"),
        (wav()[:30], {}, r"(?s)WAV header has no end.*fmt and data"),
        (b"RIF", {}, r"no WAV"),
    ],
)
def test_what_cannot_be_listened_to(content: bytes, options: dict[str, Any], message: str) -> None:
    def begin() -> None:
        reader = PcmReader(**{"format": "auto", "rate": None, **options})
        reader.begin(content)
        reader.begin(b"")

    with pytest.raises(RequestError, match=message):
        begin()
