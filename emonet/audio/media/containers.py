"""Containers of sound and video, told by their first bytes, and what is missing of an MP4 file (ISO 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from emonet.audio.lengths import Content, is_adts

_MAGIC: Final = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM file",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "WMA file",
    b"#!AMR": "AMR file",
    b"FLV\x01": "FLV file",
    b".RMF": "RealMedia file",
    b".ra\xfd": "RealAudio file",
    b"MAC ": "Monkey's Audio file",
    b"wvpk": "WavPack file",
    b"MPCK": "Musepack file",
    b"MP+": "Musepack file",
    b"TTA1": "True Audio file",
    b"tBaK": "TAK file",
    b"ajkg": "Shorten file",
    b"\x0b\x77": "AC-3 stream",
    b"DSD ": "DSF file",
}
_ATOMS: Final = {b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"wide", b"pnot"}
_FULL = 8  # bytes of an atom's size and name
MP4: Final = "MP4 file"


def container_of(content: Content) -> str | None:
    """What kind of file this is; None if it is none of those that FFmpeg alone reads."""
    if bytes(content[4:8]) in _ATOMS:
        return MP4
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "AVI file"
    if is_adts(content):
        return "AAC stream"
    head = bytes(content[:8])
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def mp4_atoms(content: Content) -> Iterator[bytes]:
    """Names of the outermost atoms of an MP4 file, in their order."""
    at = 0
    while at + _FULL <= len(content):
        size, name = int.from_bytes(content[at : at + 4], "big"), bytes(content[at + 4 : at + _FULL])
        if size == 1:
            size = int.from_bytes(content[at + _FULL : at + 2 * _FULL], "big")
        yield name
        if size < _FULL:  # 0: up to the end
            return
        at += size


def share_there(track: Any, content: Content) -> float:
    """How much (0 to 1) of what the index of an MP4's track lists lies within the file."""
    entries = track.index_entries
    inside, beyond = 0, len(entries)
    while inside < beyond:
        middle = (inside + beyond) // 2
        entry = entries[middle]
        if entry.pos + entry.size <= len(content):
            inside = middle + 1
        else:
            beyond = middle
    return inside / len(entries) if len(entries) else 1.0
