"""Length of a recording, told by its bytes: what headers declare is too large, too small or only an estimate.

A recorder that was killed leaves a size of 0, one that saves now and then leaves the size of its last save, two MP3
files put together keep the length of the first one. Formats: RIFF, RF64, AIFF, CAF and AU; FLAC (RFC 9639); MPEG audio
(ISO 11172-3, 13818-3); Ogg (RFC 3533).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Final

from emonet.objects import Ranges

Content = bytes | mmap | Ranges
"""A whole recording: in memory, or a file or object that is read where it is looked at."""

_CHUNKED: Final = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"FORM": ">", b"caff": ">"}  # magic -> byte order
_SAMPLES: Final = {b"data": 0, b"SSND": 8}  # chunk of samples -> bytes before the first one (CAF: 4)
_UNKNOWN = 0xFFFF_FFFF  # size of a chunk whose length stands elsewhere, or was not known
_STREAMED = 0x7FFF_F000  # bytes; programs that write to a pipe leave a size from here up
_HEAD = 42  # bytes; no recording of any kind is shorter
_FLAC_TAIL = 1 << 18  # bytes; four times what the largest frames of music take
_BIT_RATES: Final = {  # kbit/s by the index in the header; (MPEG 1?, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz by version
_FEWEST = 3  # frames in a row that make a stream


@dataclass(frozen=True, slots=True)
class RawSamples:
    """Uncompressed samples of which the header declares too few, or none.

    Args:
        offset: of the first one, in bytes.
        declared: size that the header tells, in bytes.
        found: size of what follows, in bytes.
        big_endian: whether the most significant byte comes first.
    """

    offset: int
    declared: int
    found: int
    big_endian: bool


def undeclared(content: Content) -> RawSamples | None:
    """Samples beyond the size that a chunked or AU file declares for them; None where it declares them all."""
    magic = bytes(content[:4]) if len(content) >= _HEAD else b""
    if magic == b".snd":
        first, declared = struct.unpack(">II", content[4:12])
        there = len(content) - first
        return RawSamples(first, declared, there, big_endian=True) if declared < there else None
    for chunk in _chunks(content) if magic in _CHUNKED else ():
        if chunk.name not in _SAMPLES:
            continue
        size = chunk.size
        if size == _UNKNOWN and magic == b"RF64":
            size = struct.unpack("<Q", content[28:36])[0]  # the chunk ds64, which comes first
        elif not 0 <= size < _STREAMED:
            return None  # a stream: libsndfile reads on to the end
        end = chunk.body + size + size % 2
        if end >= len(content) or _is_rest(content, end):
            return None
        skipped = _SAMPLES[chunk.name] if magic != b"caff" else 4
        first = chunk.body + skipped
        return RawSamples(first, max(0, size - skipped), max(0, len(content) - first), _is_big_endian(content))
    return None


def _is_big_endian(content: Content) -> bool:
    """The byte order of samples, which in AIFF-C and CAF need not be that of the chunks."""
    for chunk in _chunks(content):
        if chunk.name == b"COMM" and content[8:12] == b"AIFC":
            return bytes(content[chunk.body + 18 : chunk.body + 22]) != b"sowt"
        if chunk.name == b"desc":
            return not content[chunk.body + 15] & 2  # the flag of little-endian samples
    return _CHUNKED[bytes(content[:4])] == ">"


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    body: int  # offset of what it holds
    size: int


def _chunk(content: Content, at: int) -> _Chunk | None:
    """The chunk that begins here; None where fewer bytes are left than a chunk begins with."""
    name, order = bytes(content[at : at + 4]), _CHUNKED[bytes(content[:4])]
    layout = struct.Struct(order + ("q" if content[:4] == b"caff" else "I"))
    if at + 4 + layout.size > len(content):
        return None
    return _Chunk(name, at + 4 + layout.size, layout.unpack(content[at + 4 : at + 4 + layout.size])[0])


def _chunks(content: Content) -> Iterator[_Chunk]:
    """The chunks of a file, as far as they follow each other; zeros, which a recorder has reserved, are none."""
    at = 8 if content[:4] == b"caff" else 12
    while (chunk := _chunk(content, at)) is not None and chunk.name != bytes(4):
        yield chunk
        at = chunk.body + max(0, chunk.size) + (chunk.size % 2 if content[:4] != b"caff" else 0)


def _is_rest(content: Content, at: int) -> bool:
    """Whether what follows the samples is no sound: another chunk, a tag, or a few bytes of padding."""
    chunk = _chunk(content, at)
    if chunk is None or content[at : at + 3] in (b"TAG", b"ID3"):
        return True
    return all(32 <= byte < 127 for byte in chunk.name) and 0 <= chunk.size <= len(content) - chunk.body


def flac_samples(content: Content) -> int | None:
    """Samples per channel of a FLAC file by the number in its last frame; None where there is no whole one."""
    if content[:4] != b"fLaC" or len(content) < _HEAD:
        return None
    largest = struct.unpack(">H", content[10:12])[0]  # block size in samples, for streams of fixed blocks
    first = max(0, len(content) - _FLAC_TAIL)
    tail = bytes(content[first:])
    at = len(tail)
    while (at := max(tail.rfind(b"\xff\xf8", 0, at), tail.rfind(b"\xff\xf9", 0, at))) >= 0:
        last = _flac_frame(tail[at : at + 17], largest)
        if last is not None:
            return last
    return None


def _flac_frame(head: bytes, block: int) -> int | None:
    """The number of the sample after the frame that begins with `head`; None if none does (RFC 9639, 9.1)."""
    if len(head) < 6 or head[3] & 1:
        return None
    extra = len(bin(head[4])[2:].zfill(8).split("0")[0])  # leading ones: bytes of a number coded as in UTF-8
    length = max(1, extra)
    if extra == 1 or extra > 7 or len(head) < 4 + length:
        return None
    number = head[4] & (0x7F >> extra) if extra else head[4]
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at = 4 + length
    code = head[2] >> 4
    own = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}.get(code)
    if code in (6, 7):
        own = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if own is None or len(head) <= at or _crc8(head[:at]) != head[at]:
        return None
    return number + own if head[1] & 1 else number * block + own


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


@dataclass(frozen=True, slots=True)
class Mpeg:
    """What the frames of an MPEG audio file tell.

    Args:
        first: offset of the first frame, in bytes.
        frames: of sound (count), without the one that carries the Xing or Info header.
        samples: per frame and channel (count).
        rate: samples per second.
        count_at: offset of the number of frames in the Xing or Info header, in bytes; None where there is none.
        counted: that number.
    """

    first: int
    frames: int
    samples: int
    rate: int
    count_at: int | None = None
    counted: int = 0

    @property
    def is_counted(self) -> bool:
        """Whether the header's number of frames is right, but for what encoders leave out."""
        return self.count_at is not None and abs(self.frames - self.counted) <= max(2, 0.01 * self.frames)


def mpeg(content: Content) -> Mpeg | None:
    """Walk through the frames of an MPEG audio file; None where there are no three in a row."""
    at = _after_id3(content)
    kind: tuple[int, int, int] | None = None
    frames, samples, rate, first = 0, 0, 0, 0
    while at + 4 <= len(content):
        head = _mpeg_frame(content, at)
        if head is None or (kind is not None and head[0] != kind) or (kind is None and not _begins(content, at)):
            at = content.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        if kind is None:
            (kind, _, samples, rate), first = head, at
        frames += 1
        at += head[1]
    if kind is None:
        return None
    count_at, counted = _count(content, first)
    return Mpeg(first, frames - (count_at is not None), samples, rate, count_at, counted)


def _after_id3(content: Content) -> int:
    if content[:3] != b"ID3" or len(content) < _HEAD:
        return 0
    size = 0
    for byte in content[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if content[5] & 0x10 else 0)


def _mpeg_frame(content: Content, at: int) -> tuple[tuple[int, int, int], int, int, int] | None:
    """Kind, size in bytes, samples and rate of the frame that begins here; None if none does."""
    head = content[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate_code = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate_code == 3:
        return None
    rate, padding = _RATES[version][rate_code], head[2] >> 1 & 1
    bit_rate = 1000 * _BIT_RATES[version == 3, layer][bits]
    if layer == 1:
        return (version, layer, rate), (12 * bit_rate // rate + padding) * 4, 384, rate
    samples = 576 if layer == 3 and version != 3 else 1152
    return (version, layer, rate), samples // 8 * bit_rate // rate + padding, samples, rate


def _begins(content: Content, at: int) -> bool:
    """Whether frames of one kind follow each other from here on, or up to the end."""
    kinds: set[tuple[int, int, int]] = set()
    for _ in range(_FEWEST):
        head = _mpeg_frame(content, at)
        if head is None:
            return at >= len(content) and bool(kinds)
        kinds.add(head[0])
        at += head[1]
    return len(kinds) == 1


def _count(content: Content, first: int) -> tuple[int | None, int]:
    """Where the first frame keeps the number of frames, and that number."""
    for word in (b"Xing", b"Info"):
        at = content.find(word, first, first + 200)
        if 0 <= at <= len(content) - 12:
            flags, counted = struct.unpack(">II", content[at + 4 : at + 12])
            return (at + 8, counted) if flags & 1 else (None, 0)
    return None, 0


def is_adts(content: Content) -> bool:
    """Whether frames of AAC follow each other from the beginning (ISO 13818-7, 6.2)."""
    at = _after_id3(content)
    for _ in range(_FEWEST):
        head = content[at : at + 6]
        if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:  # layer 0, which MPEG audio never has
            return False
        at += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return True


def is_cut_ogg(content: Content) -> bool:
    """Whether an Ogg file does not end with the last page of its stream."""
    if content[:4] != b"OggS":
        return False
    last = content.rfind(b"OggS")
    return len(content) < last + 6 or not content[last + 5] & 4


def ogg_links(content: Content) -> int:
    """How many recordings stand one after the other in an Ogg file (1 as a rule)."""
    if content[:4] != b"OggS":
        return 1
    links, at = 1, content.find(b"OggS\x00\x00", 4)
    while at >= 0 and (at := content.find(b"OggS\x00\x02", at + 4)) >= 0:
        links += 1
        at = content.find(b"OggS\x00\x00", at + 4)
    return links
