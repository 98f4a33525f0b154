"""Lengths that headers tell wrongly, in either direction."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from emonet.audio import decode, probe
from emonet.audio.lengths import _chunks, flac_samples, is_cut_ogg, mpeg, ogg_links, undeclared
from emonet.errors import AudioError

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * 150 * time) + np.random.default_rng(seed).normal(0, 0.1, len(time))
    return (0.3 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def encoded(seconds: float, form: str, subtype: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, voice(seconds), RATE, format=form, subtype=subtype, **options)
    return buffer.getvalue()


def declaring(content: bytes, form: str, size: int) -> bytes:
    """A file of 16-bit mono whose header declares so many bytes of samples."""
    changed, big = bytearray(content), form in {"AIFF", "AU", "CAF"}
    if form == "AU":
        changed[8:12] = struct.pack(">I", size)
        return bytes(changed)
    marker = content.index(b"SSND" if form == "AIFF" else b"data")
    if form == "CAF":
        changed[marker + 4 : marker + 12] = struct.pack(">q", size + 4)
    else:
        changed[marker + 4 : marker + 8] = struct.pack(">I" if big else "<I", size + 8 * (form == "AIFF"))
    if form == "RF64":
        place = content.index(b"ds64")
        changed[marker + 4 : marker + 8] = b"\xff" * 4
        changed[place + 16 : place + 32] = struct.pack("<QQ", size, size // 2)
    return bytes(changed)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "AU"])
def test_a_recorder_that_was_killed_leaves_a_size_of_zero(form: str, tmp_path: Path) -> None:
    whole = encoded(2.0, form, "PCM_16")
    path = tmp_path / "killed"
    path.write_bytes(declaring(whole, form, 0))
    for audio in (path, path.read_bytes()):
        heard = decode(audio)
        np.testing.assert_array_equal(heard.samples, decode(whole).samples)
        assert [notice.text for notice in heard.notices] == [
            "the header declares 0.0 s, and 2.0 s are there and were read"
        ]
        assert probe(audio).seconds == 2.0


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF"])
def test_a_size_of_the_last_save_is_not_the_end(form: str) -> None:
    whole = encoded(2.0, form, "PCM_16")
    content = declaring(whole, form, RATE)  # half a second
    if form == "CAF":
        content = content[: content.index(b"data") + 16 + 4 * RATE]  # libsndfile pads what it writes
    heard = decode(content)
    np.testing.assert_array_equal(heard.samples, decode(whole).samples)
    assert "declares 0.5 s, and 2.0 s are there" in heard.notices[0].text
    assert probe(content).seconds == 2.0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_samples_of_every_plain_kind_are_found(subtype: str) -> None:
    whole = encoded(1.0, "WAV", subtype)
    marker = whole.index(b"data")
    content = whole[: marker + 4] + bytes(4) + whole[marker + 8 :]
    np.testing.assert_array_equal(decode(content).samples, decode(whole).samples)


@pytest.mark.parametrize(
    "rest",
    [
        b"LIST\x04\x00\x00\x00abcd",
        b"TAG" + bytes(125),
        b"ID3\x04" + bytes(60),
        b"\x00",
        b"id3 \x08\x00\x00\x00abcdefgh",
    ],
)
def test_chunks_and_tags_after_the_samples_are_no_sound(rest: bytes) -> None:
    content = encoded(1.0, "WAV", "PCM_16")
    assert undeclared(content + rest) is None
    assert len(decode(content + rest).samples) == RATE


def flac_that_claims(frames: int, seconds: float = 3.0) -> bytes:
    content = bytearray(encoded(seconds, "FLAC"))
    content[21] = (content[21] & 0xF0) | (frames >> 32)
    content[22:26] = struct.pack(">I", frames & 0xFFFF_FFFF)
    return bytes(content)


@given(st.integers(1, 60_000))
def test_the_last_frame_of_a_flac_tells_its_length(samples: int) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, voice(4.0)[:samples], RATE, format="FLAC")
    assert flac_samples(buffer.getvalue()) == samples


def test_a_flac_with_a_total_too_small_is_read_to_its_end() -> None:
    content = flac_that_claims(RATE)
    heard = decode(content)
    np.testing.assert_array_equal(heard.samples, decode(flac_that_claims(3 * RATE)).samples)
    assert "declares 1.0 s, and 3.0 s are there" in heard.notices[0].text
    assert probe(content).seconds == 3.0


def test_a_flac_with_a_total_too_large_is_refused_by_its_header_alone() -> None:
    with pytest.raises(AudioError, match="truncated: 50% of what the header announces is there"):
        probe(flac_that_claims(6 * RATE))


def without_xing(content: bytes) -> bytes:
    """An MP3 without its first frame, which holds the header of variable bit rates and no sound."""
    stream = mpeg(content)
    assert stream is not None
    assert stream.count_at is not None
    start = content.index(b"\xff\xf3")
    return content[content.index(b"\xff\xf3", start + 4) :]


def variable(seconds: float) -> bytes:
    return encoded(seconds, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)


def test_an_mp3_without_its_header_of_variable_bit_rates_is_heard_whole(tmp_path: Path) -> None:
    loud = 0.2 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)  # many bits, then few
    sf.write(
        tmp_path / "a.mp3",
        np.concatenate([loud, 0.01 * voice(15.0)]),
        RATE,
        bitrate_mode="VARIABLE",
        compression_level=0.5,
    )
    content = without_xing((tmp_path / "a.mp3").read_bytes())
    assert sf.info(io.BytesIO(content)).duration < 15  # what libsndfile guesses from the first frame
    assert probe(content).seconds == pytest.approx(20.0, abs=0.2)
    heard = decode(content)
    assert heard.seconds == heard.total == pytest.approx(20.0, abs=0.2)
    assert decode(content, start=17.0, end=19.0).seconds == 2.0
    with pytest.raises(AudioError, match=r"(?s)after the end.*before 20\.\d+ s"):
        decode(content, start=25.0)


def test_an_mp3_behind_a_large_picture_is_heard_whole() -> None:
    bare = without_xing(variable(3.0))
    tag = b"ID3\x04\x00\x00\x00\x12\x27\x60" + bytes(300_000)  # a cover of 300 kB
    assert decode(tag + bare).seconds == decode(bare).seconds == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("form", ["AIFF", "CAF"])
def test_little_endian_samples_in_big_endian_chunks(form: str) -> None:
    whole = encoded(2.0, form, "PCM_16", endian="LITTLE")
    content = declaring(whole, form, RATE)
    if form == "CAF":
        content = content[: content.index(b"data") + 16 + 4 * RATE]
    np.testing.assert_array_equal(decode(content).samples, decode(whole).samples)


@pytest.mark.parametrize("form", ["AIFF", "WAV", "AU"])
def test_a_recorder_that_was_killed_before_the_first_sample(form: str) -> None:
    content = declaring(encoded(1.0, form, "PCM_16"), form, 0)
    with pytest.raises(AudioError, match="no samples"):
        decode(content[: len(content) - 2 * RATE])


def test_an_empty_chunk_of_samples_before_a_tag_is_no_sound() -> None:
    content = declaring(encoded(1.0, "WAV", "PCM_16"), "WAV", 0)[: -2 * RATE]
    with pytest.raises(AudioError, match="no samples"):
        decode(content + b"id3 " + struct.pack("<I", 64_000) + bytes(range(250)) * 256)


def test_mp3_files_put_together_are_heard_whole() -> None:
    content = variable(3.0) + variable(2.0)
    heard = decode(content)
    assert heard.seconds == pytest.approx(5.0, abs=0.2)
    assert "declares 3.1 s, and 5." in heard.notices[0].text
    assert probe(content).seconds == pytest.approx(5.0, abs=0.2)


def test_tags_before_an_mp3_are_passed_over() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\xff\xfb\x90\x00" * 64  # 256 bytes that look like frames
    stream, tagged = mpeg(variable(2.0)), mpeg(tag + variable(2.0))
    assert stream is not None
    assert tagged is not None
    assert (stream.frames, stream.rate) == (tagged.frames, tagged.rate)


@given(st.binary(max_size=400))
def test_noise_is_no_mpeg_flac_or_chunked_file(content: bytes) -> None:
    for magic in (b"", b"RIFF", b"FORM", b"caff", b".snd", b"fLaC", b"OggS", b"ID3"):
        for look in (mpeg, flac_samples, undeclared, ogg_links):
            look(magic + content)  # whatever it is: no crash, no endless loop


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_was_cut_is_told(subtype: str) -> None:
    whole = encoded(6.0, "OGG", subtype)
    assert all(is_cut_ogg(whole[:end]) for end in range(whole.rfind(b"OggS"), whole.rfind(b"OggS") + 6))
    sound = decode(whole[: 3 * len(whole) // 4])
    assert sound.seconds < 5.5
    assert sound.notices[0].text.startswith("the stream has no end: it was cut")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_recordings_chained_in_one_ogg_file_are_told(subtype: str) -> None:
    content = encoded(1.0, "OGG", subtype)
    assert decode(content).notices == ()
    heard = decode(content + content)
    assert heard.seconds == 1.0
    assert heard.notices[0].text == "2 recordings one after the other in one file, of which only the first is heard"


def test_space_that_a_recorder_has_reserved_is_no_row_of_chunks(make_wav: Callable[..., Path]) -> None:
    """A gigabyte of it would take minutes, chunk by chunk."""
    content = make_wav(seconds=0.5).read_bytes() + bytes(1 << 20)
    assert [chunk.name for chunk in _chunks(content)] == [b"fmt ", b"data"]
    found = undeclared(content)
    assert found is not None
    assert not found.big_endian
    assert found.found == len(content) - found.offset
