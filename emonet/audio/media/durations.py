"""How long the sound of a container is: what its header declares, compared with its packets."""

from __future__ import annotations

import struct
from contextlib import ExitStack, suppress
from typing import Any, Final

from emonet.audio.lengths import Content
from emonet.audio.media.containers import mp4_atoms, share_there
from emonet.audio.media.demuxing import MP4_FORMAT, Readable, demuxed
from emonet.audio.notices import Notice
from emonet.audio.source import CUT, TOLERANCE, UNSURE, length_notice, truncated

_UNDECLARED: Final = {"aac", "loas", "amr", "amrnb", "amrwb", "mpegts", "mpeg", "ac3", "eac3", "dts", "truehd", "mlp"}
# streams without a header, whose length FFmpeg guesses from the bit rate
_WALKED = 1 << 28  # bytes; up to here a length that is declared is compared with all packets


def track_length(
    audio: Readable, container: Any, track: Any, content: Content, where: str
) -> tuple[float | None, tuple[Notice, ...]]:
    """Seconds that the track has, by its header and its packets, and a notice if the former says too little."""
    declared = _declared(container, track)
    if container.format.name == MP4_FORMAT:
        share = share_there(track, content)
        if b"moof" in mp4_atoms(content):  # recorded live: each fragment has an index of its own
            return _packets_seconds(audio, track.index), (Notice("length", CUT),) if share < 1 else ()
        if share < 1 - TOLERANCE:
            raise truncated(share, where)
        return declared, ()  # its index lists all packets
    if declared is not None and len(content) > _WALKED:
        return declared, ()
    found = _packets_seconds(audio, track.index)
    if declared is None or not declared > 0:
        return found, ()
    if found < (1 - TOLERANCE) * declared - UNSURE:
        raise truncated(found / declared, where)
    if abs(found - declared) <= UNSURE:
        return declared, ()
    return found, length_notice(declared, found)


def _declared(container: Any, track: Any) -> float | None:
    """Seconds that the header declares for the track; None if it does not, or they are a guess from the bit rate."""
    if container.format.name in _UNDECLARED:
        return None
    if track.duration is not None:
        return float(track.duration * track.time_base)
    if container.duration is not None and len(container.streams) == 1:  # pictures may last longer than the sound
        return float(container.duration) / 1_000_000
    return None


def _packets_seconds(audio: Readable, index: int) -> float:
    """Seconds of all packets of a track, without decoding them."""
    import av

    total, first, last, skipped = 0, None, 0, 0
    with ExitStack() as stack:
        container = demuxed(audio, stack)
        track = container.streams[index]
        packets = container.demux(track)
        with suppress(av.error.FFmpegError):  # what follows is damaged: reading it tells
            for packet in packets:
                if not packet.size:
                    continue
                if first is None:
                    first = packet.pts or 0
                    skipped = _skipped(packet)
                total += packet.duration or 0
                last = max(last, (packet.pts or 0) + (packet.duration or 0))
        return max(0.0, float(max(total, last - (first or 0)) * track.time_base) - skipped / (track.rate or 1))


def _skipped(packet: Any) -> int:
    """Frames at the beginning that only fill the encoder, as its packet says."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int(struct.unpack("<I", bytes(packet.get_sidedata("skip_samples"))[:4])[0])
