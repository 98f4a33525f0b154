"""Streams at once in real time, and how late their scores are."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emonet import EmotionPipeline
from emonet.windows import SAMPLE_RATE

CHUNK = 0.05  # seconds that are fed at once
HOP = 1.0


@dataclass(frozen=True)
class Live:
    """What came of some streams that were fed in real time.

    Args:
        streams: at once (count).
        hops: that were scored (count).
        skipped: hops that were not (count).
        p50: from a hop's last sample to its scores, the median (seconds).
        p95: 95 % were not later (seconds).
    """

    streams: int
    hops: int
    skipped: int
    p50: float
    p95: float

    @property
    def in_real_time(self) -> bool:
        """No hop was left out, and scores were there before the next hop was."""
        return not self.skipped and self.p95 <= HOP


def listen(pipeline: EmotionPipeline, speech: np.ndarray, streams: int, *, seconds: float) -> Live:
    """Feed streams in real time, each from a thread of its own and with hops at other moments.

    Args:
        pipeline: scores them.
        speech: at 16 kHz, again and again.
        streams: at once (count).
        seconds: of sound in each.
    """
    late: list[float] = []
    skipped = [0] * streams

    def feed(number: int) -> None:
        time.sleep(HOP * number / streams)
        started, step = time.monotonic(), round(CHUNK * SAMPLE_RATE)
        with pipeline.open_stream(SAMPLE_RATE, hop=HOP) as stream:
            for chunk in range(round(seconds / CHUNK)):
                time.sleep(max(0.0, started + (chunk + 1) * CHUNK - time.monotonic()))
                places = np.arange(chunk * step, (chunk + 1) * step) % len(speech)
                late.extend(one.late_s for one in stream.feed(speech[places]))
            late.extend(one.late_s for one in stream.close())
            skipped[number] = stream.skipped

    feeding = [threading.Thread(target=feed, args=(number,)) for number in range(streams)]
    for thread in feeding:
        thread.start()
    for thread in feeding:
        thread.join()
    p50, p95 = np.percentile(late, [50, 95]).tolist()
    return Live(streams, len(late), sum(skipped), p50, p95)


def most_streams(
    pipeline: EmotionPipeline, speech: np.ndarray, counts: Sequence[int], *, seconds: float
) -> tuple[int, list[Live]]:
    """Try more and more streams; the most that were scored in real time, and all that was found."""
    listen(pipeline, speech, counts[0], seconds=2 * HOP)  # starts threads, and finds what later passes have
    tried: list[Live] = []
    for count in counts:
        tried.append(listen(pipeline, speech, count, seconds=seconds))
        if not tried[-1].in_real_time:
            break
    return max((one.streams for one in tried if one.in_real_time), default=0), tried
