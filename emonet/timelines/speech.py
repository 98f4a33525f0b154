"""Speech detection: where somebody speaks in a recording, by silero-vad's model, while the recording streams by.

The model comes with the package silero-vad, whose Python code needs torchaudio; here ONNX Runtime runs it, a block at a
time. What becomes of its probabilities is silero's `get_speech_timestamps`, as a stream.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from emonet.errors import RequestError
from emonet.timelines.options import TimelineOptions
from emonet.windows import SAMPLE_RATE

FRAME = 512  # samples, 32 ms: one probability
CONTEXT = 64  # samples before a frame that the model hears with it
LEAVING = 0.15  # below the threshold: speech ends where the probability falls so far
_STATE = (1, 1, 128)
_MODEL = Path("data") / "silero_vad_16k_sequence.onnx"


class SpeechModel:
    """Probabilities of speech, one for each 32 ms; keeps its state from block to block."""

    def __init__(self) -> None:
        self._hidden, self._cell = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " frames"]:
        """Probabilities of the frames that are complete with these samples (16 kHz)."""
        heard = np.concatenate([self._rest, samples])
        whole = len(heard) // FRAME * FRAME
        self._rest = heard[whole:]
        return self._frames(heard[:whole])

    def finish(self) -> Float32[np.ndarray, " frames"]:
        """The probability of the last frame, filled up with zeros; nothing where there is none."""
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        return self._frames(np.pad(rest, (0, -len(rest) % FRAME)))

    def _frames(self, heard: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " frames"]:
        if not len(heard):
            return np.zeros(0, np.float32)
        frames = heard.reshape(-1, FRAME)
        before = np.concatenate([self._context[None], frames[:-1, -CONTEXT:]])
        self._context = frames[-1, -CONTEXT:].copy()
        fed = {"input": np.concatenate([before, frames], axis=1), "h": self._hidden, "c": self._cell}
        found, self._hidden, self._cell = _session().run(None, fed)
        return np.asarray(found, np.float32)


@cache
def _session() -> Any:
    """ONNX Runtime's session of the model, on one thread: it is a small one, and results stay the same."""
    import onnxruntime  # a third of a second, which nothing else needs

    package = importlib.util.find_spec("silero_vad")
    file = None if package is None or package.origin is None else Path(package.origin).parent / _MODEL
    if file is None or not file.is_file():
        raise RequestError("the model that finds speech is not there", where=file, hint="pip install silero-vad==6.2.3")
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors alone: it warns of its own optimisations
    return onnxruntime.InferenceSession(str(file), sess_options=options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class Span:
    """Samples from `start` up to, and without, `end`; counted from the recording's beginning at 16 kHz."""

    start: int
    end: int

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.end - self.start


class SpeechSpans:
    """Spans of speech out of probabilities, as these come.

    Speech begins where the probability reaches the threshold, and ends where it falls 0.15 below and does not come back
    before a pause is over. Spans that are too short are dropped, the others padded into the silence around them, half
    of it at most.

    Args:
        options: threshold, pause, least speech and padding.
    """

    def __init__(self, options: TimelineOptions) -> None:
        self._enter = options.threshold
        self._leave = max(options.threshold - LEAVING, 0.01)
        self._pause = options.pause * SAMPLE_RATE
        self._least = options.least_speech * SAMPLE_RATE
        self._padding = round(options.padding * SAMPLE_RATE)
        self._frames = 0
        self._start: int | None = None
        self._silence: int | None = None  # where the probability fell below, and has not come back since
        self._waiting: Span | None = None  # its end is padded when the next one's start is known
        self._padded_start = 0
        self._placed: int | None = None  # where the open span begins, once the waiting one has gone

    def feed(self, probabilities: Float32[np.ndarray, " frames"]) -> Iterator[Span]:
        """Spans whose end is known with these frames."""
        for probability in probabilities.tolist():
            now = self._frames * FRAME
            self._frames += 1
            if probability >= self._enter:
                self._silence = None
                if self._start is None:
                    self._start = now
            elif probability < self._leave and self._start is not None:
                self._silence = now if self._silence is None else self._silence
                if now - self._silence >= self._pause:
                    yield from self._close(self._silence)
            yield from self._settled(now)

    def finish(self, samples: int) -> Iterator[Span]:
        """The last ones.

        Args:
            samples: of the whole recording.
        """
        if self._start is not None:
            yield from self._close(samples)
        if self._waiting is not None:
            yield self._padded_waiting(min(samples, self._waiting.end + self._padding))

    @property
    def open(self) -> Span | None:
        """Speech that has not ended yet: from its start, with its padding, as far as is certain; None without any."""
        if self._start is None or self._waiting is not None:
            return None
        return Span(self._place(self._start), self._silence or (self._frames - 1) * FRAME)

    @property
    def quiet_from(self) -> int:
        """No span that is still to come begins before this sample."""
        if self._waiting is not None:
            return self._padded_start
        return max(0, (self._frames * FRAME if self._start is None else self._start) - self._padding)

    def _settled(self, now: int) -> Iterator[Span]:
        """The waiting span, once it is known how far its padding reaches."""
        if self._waiting is None:
            return
        if self._start is None:
            if now + FRAME - self._waiting.end > 2 * self._padding:
                yield self._padded_waiting(self._waiting.end + self._padding)
        elif (self._silence or now) - self._start > self._least:  # whatever comes, this is the next one
            self._placed, end = self._place(self._start), self._waiting.end
            yield self._padded_waiting(end + min(self._padding, (self._start - end) // 2))

    def _close(self, end: int) -> Iterator[Span]:
        assert self._start is not None
        found, place, before = Span(self._start, end), self._place(self._start), self._waiting
        self._start = self._silence = self._placed = None
        if not found.samples > self._least:
            return
        if before is not None:
            yield self._padded_waiting(before.end + min(self._padding, (found.start - before.end) // 2))
        self._waiting, self._padded_start = found, place

    def _place(self, start: int) -> int:
        """Where a span that starts here begins with its padding."""
        if self._placed is not None:
            return self._placed
        if self._waiting is None:
            return max(0, start - self._padding)
        return start - min(self._padding, (start - self._waiting.end) // 2)

    def _padded_waiting(self, end: int) -> Span:
        assert self._waiting is not None
        found, self._waiting = Span(self._padded_start, end), None
        return found
