"""Sources of live sound: chunks as they come from a microphone, a file at its own pace, or standard input."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from emonet.audio import stream_blocks
from emonet.errors import RequestError
from emonet.windows import SAMPLE_RATE
from experiments.listen.pcm import PcmReader, nothing_came

if TYPE_CHECKING:
    from experiments.arguments import ListenArguments

STDIN = "-"
CHUNK = 0.1  # seconds of a file that are heard at once
PATIENCE = 0.2  # seconds without sound, after which the screen is looked after
_WAITING = 128  # chunks of the microphone that wait, at most; beyond that sound is lost, and told
_UNREAD = 16  # reads of standard input that wait; whoever writes waits for us
_READ = 1 << 15  # bytes
_NOTHING = np.zeros(0, np.float32)


@dataclass
class Sound:
    """Sound that comes.

    Args:
        rate: in Hz.
        chunks: as they come; empty ones where nothing comes for a while.
        lost: chunks that nobody took in time (count), in its only entry.
    """

    rate: int
    chunks: Generator[np.ndarray, None, None]
    lost: list[int] = field(default_factory=lambda: [0])


class Source:
    """Where sound comes from: what can be wrong is found when it is made; `start` begins to listen.

    Args:
        arguments: of the verb.

    Raises:
        RequestError: if there is no such file, or no microphone.
    """

    def __init__(self, arguments: ListenArguments) -> None:
        self._arguments = arguments
        self.piped = arguments.source == STDIN
        self.name = "standard input" if self.piped else arguments.source or "the microphone"
        self._microphone = _Microphone(arguments.microphone) if not arguments.source else None
        if arguments.source not in ("", STDIN):
            self._path = Path(arguments.source)
            if not self._path.is_file():
                pipe = f"emonet listen - < {shlex.quote(str(self._path))}" if self._path.is_fifo() else None
                raise RequestError(
                    "this is no file" if self._path.exists() else "there is no such file",
                    where=self._path,
                    hint=pipe or "emonet listen FILE, or - for standard input",
                )

    def start(self) -> Sound:
        """Begin to listen.

        Raises:
            RequestError: if the microphone cannot be opened, or standard input is of no known format.
            AudioError: if the file cannot be used.
        """
        if self._microphone is not None:
            return self._microphone.start()
        if self.piped:
            return piped(sys.stdin.fileno(), self._arguments.format, self._arguments.rate)
        return Sound(SAMPLE_RATE, file_chunks(self._path, fast=self._arguments.fast))


def file_chunks(path: Path, *, fast: bool) -> Generator[np.ndarray, None, None]:
    """A recording at 16 kHz, in real time, or as fast as it is taken."""
    started, heard = time.monotonic(), 0
    for block in stream_blocks(path):
        samples = block.samples
        step = len(samples) if fast else round(CHUNK * SAMPLE_RATE)
        for first in range(0, len(samples), step):
            chunk = samples[first : first + step]
            heard += len(chunk)
            if not fast:  # a chunk is there when its last sample has sounded
                time.sleep(max(0.0, started + heard / SAMPLE_RATE - time.monotonic()))
            yield chunk


def piped(handle: int, format: str, rate: int | None) -> Sound:  # noqa: A002 - as the flag is called
    """What is written to a file descriptor: raw samples, or a WAV whose end nobody knows yet.

    Args:
        handle: the descriptor.
        format: `auto`, `s16le` or `f32le`.
        rate: of raw samples, in Hz.

    Raises:
        RequestError: if it begins with no WAV header, and no rate was given; or if it ends before anything came.
    """
    waiting: Queue[bytes] = Queue(_UNREAD)

    def read() -> None:
        content = b"-"
        while content:
            content = b""
            with suppress(OSError):  # a terminal that was closed ends it
                content = os.read(handle, _READ)
            waiting.put(content)

    threading.Thread(target=read, name="emonet stdin", daemon=True).start()
    reader = PcmReader(format, rate)
    while not reader.ready:
        content = waiting.get()
        reader.begin(content)
    return Sound(reader.rate, _piped_chunks(reader, waiting))


def _piped_chunks(reader: PcmReader, waiting: Queue[bytes]) -> Generator[np.ndarray, None, None]:
    yield reader.samples(b"")
    heard = reader.begun
    while not reader.ended:
        try:
            content = waiting.get(timeout=PATIENCE)
        except Empty:
            yield _NOTHING
            continue
        if not content:
            if not heard:
                raise nothing_came()
            return
        heard = True
        yield reader.samples(content)


class _Microphone:
    """An input of PortAudio; the default one, or one by name or number."""

    def __init__(self, wanted: str | None) -> None:
        self._library = _sounddevice()
        self._device: int | str | None = int(wanted) if wanted is not None and wanted.isdecimal() else wanted
        try:
            found = self._library.query_devices(self._device, "input")
        except (ValueError, self._library.PortAudioError) as error:
            raise self._no_input(error) from error
        self._rate = int(found["default_samplerate"])

    def start(self) -> Sound:
        waiting: Queue[np.ndarray] = Queue(_WAITING)
        lost = [0]

        def hear(samples: np.ndarray, frames: int, moment: Any, status: Any) -> None:
            del frames, moment
            lost[0] += bool(status.input_overflow)
            try:
                waiting.put_nowait(samples[:, 0].copy())
            except Full:
                lost[0] += 1

        try:
            stream = self._library.InputStream(
                samplerate=self._rate, blocksize=round(self._rate * CHUNK / 2), device=self._device, channels=1,
                dtype="float32", callback=hear,
            )  # fmt: skip
            stream.start()
        except (ValueError, self._library.PortAudioError) as error:
            raise RequestError(
                "the microphone cannot be opened",
                found=error,
                hint="see whether another program holds it, and whether this terminal may use it (system settings)",
            ) from error
        return Sound(self._rate, _captured(stream, waiting), lost)

    def _no_input(self, error: Exception) -> RequestError:
        inputs = [
            f"{number} {one['name']}"
            for number, one in enumerate(self._library.query_devices())
            if one["max_input_channels"] > 0
        ]
        return RequestError(
            "there is no microphone" if self._device is None else "there is no such microphone",
            expected=f"one of: {'; '.join(inputs)}" if inputs else "an input device of this machine",
            found=error if self._device is None else f"{self._device}: {error}",
            hint="--microphone NUMBER"
            if inputs
            else "emonet listen FILE, or: arecord -f S16_LE -r 16000 | emonet listen - --rate 16000",
        )


def _captured(stream: Any, waiting: Queue[np.ndarray]) -> Generator[np.ndarray, None, None]:
    try:
        while True:
            try:
                yield waiting.get(timeout=PATIENCE)
            except Empty:
                if not stream.active:
                    return  # it was unplugged
                yield _NOTHING
    finally:
        stream.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise RequestError(
            "the microphone needs the package sounddevice", found=error, hint="pip install 'emonet[live]'"
        ) from error
    except OSError as error:  # of sounddevice: the library that it wraps
        raise RequestError(
            "the microphone needs the library PortAudio",
            found=error,
            hint="apt install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora)",
        ) from error
    return sounddevice
