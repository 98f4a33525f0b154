"""Stream a recording of any length as blocks of 16 kHz mono, decoded in a process of their own, in bounded memory."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from emonet.audio.decoders import TIMEOUT
from emonet.audio.decoding_worker import ONE_THREAD, START_SECONDS, crashed, took_long
from emonet.audio.inside import patience_for
from emonet.audio.notices import Notice
from emonet.audio.source import where_of
from emonet.audio.streams.worker import BLOCK, END, NOTICES, REJECTED
from emonet.clips import Audio
from emonet.errors import AudioError, RequestError
from emonet.runtime import Child, ChildDiedError, unpacked
from emonet.windows import SAMPLE_RATE


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a recording, which the next one follows without a gap.

    Args:
        samples: 16 kHz mono.
        start: of the first one, in seconds from the beginning of the recording.
        notices: what was found odd about the recording since the last block.
    """

    samples: Float32[np.ndarray, " samples"]
    start: float
    notices: tuple[Notice, ...] = ()


def stream_blocks(
    audio: Audio,
    *,
    seconds: float = 30.0,
    channel: int | None = None,
    start: float = 0.0,
    timeout: float = TIMEOUT,
) -> Generator[Block, None, None]:
    """Decode a recording from `start` to its end; all blocks together are one resampling of it, sample for sample.

    A worker process decodes a block ahead, and waits while nobody takes it; it ends with the iterator.

    Args:
        audio: path of a file, the encoded bytes of one, or where these are.
        seconds: length of a block, in seconds; the last one may be shorter.
        channel: the only one to take, from 0; None averages them, as `decode` does. Where they cancel each other or
            are empty is decided for each 30 s, or block if that is shorter.
        start: where to begin, in seconds.
        timeout: a block that takes longer has failed, in seconds.

    Raises:
        RequestError: if `seconds` or `start` are out of range.
        AudioError: if the recording is missing, empty, unreadable, cut short, not finite, of no known scale or shorter
            than 0.1 s; if it has no such channel, or ends before `start`; if its decoder crashes or hangs. Blocks
            before the place are given out.
        EmonetError: if the store that it is in does not answer.
    """
    if not (math.isfinite(seconds) and seconds * SAMPLE_RATE >= 1 and math.isfinite(start) and start >= 0):
        raise RequestError(
            "such blocks cannot be cut", expected="seconds above 0, a start from 0", found=f"{seconds} s from {start} s"
        )
    return _received(audio, round(seconds * SAMPLE_RATE), channel, start, timeout)


def _received(
    audio: Audio, size: int, channel: int | None, start: float, timeout: float
) -> Generator[Block, None, None]:
    timeout, given = patience_for(audio, timeout), 0
    notices: tuple[Notice, ...] = ()
    with Child("emonet.audio.streams.worker:serve", environment=ONE_THREAD) as child:
        child.started(START_SECONDS)
        try:
            child.send(pickle.dumps((audio, size, channel, start)), timeout)
            while (message := child.receive(timeout))[0] != END:
                kind, content = message
                if kind == REJECTED:
                    raise unpacked(content)
                if kind == NOTICES:
                    notices += tuple(Notice(*notice) for notice in json.loads(content.tobytes()))
                if kind == BLOCK:
                    samples = content.view(np.float32)
                    yield Block(samples, start + given / SAMPLE_RATE, notices)
                    given += len(samples)
                    notices = ()
        except (ChildDiedError, BrokenPipeError) as error:
            raise AudioError(crashed(child, error), where=where_of(audio)) from error
        except TimeoutError as error:
            raise AudioError(took_long(timeout), where=where_of(audio)) from error
