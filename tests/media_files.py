"""Recordings in the containers and codecs that phones, browsers and cameras write, encoded by `av`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


class Pipe(io.RawIOBase):
    """A file that cannot go back, as a browser's recorder has."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)


def media_file(
    samples: np.ndarray,
    rate: int,
    form: str,
    *codecs: str,
    pictures: bool = False,
    live: bool = False,
    path: Path | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> bytes:
    """A file of `samples` (frames, or frames and channels), with one sound track for each codec.

    With `path` it is written there, which what rewrites its beginning needs.
    """
    samples = samples.reshape(len(samples), -1)
    file: Any = Pipe() if live else io.BytesIO()
    with av.open(file if path is None else str(path), "w", format=form, options=options or {}) as container:
        video = _video(container) if pictures else None
        tracks = []
        for codec in codecs:
            track = container.add_stream(codec, rate=rate, options=codec_options or {})
            track.layout = LAYOUTS[samples.shape[1]]
            tracks.append(track)
        if video is not None:
            for shade in range(25):
                picture = np.full((64, 64, 3), 10 * shade, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
        for track in tracks:
            for frame in _frames(samples, rate, track):
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    if path is not None:
        return path.read_bytes()
    return bytes(file.content) if live else bytes(file.getvalue())


def _video(container: Any) -> Any:
    video = container.add_stream("mpeg4", rate=25)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    return video


def _frames(samples: np.ndarray, rate: int, track: Any) -> list[Any]:
    whole = np.ascontiguousarray(samples.astype(np.float32).T)
    frame = av.AudioFrame.from_ndarray(whole, format="fltp", layout=track.layout.name)
    frame.sample_rate = rate
    frame.pts = 0
    size = track.codec_context.frame_size or 4096
    cutter = av.AudioResampler(format=track.format, layout=track.layout, rate=rate, frame_size=size)
    return [*cutter.resample(frame), *cutter.resample(None)]
