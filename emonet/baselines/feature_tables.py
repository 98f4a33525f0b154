"""Features of clips, kept in a file beside the store: what was measured once is not measured again.

A clip is known by its id, its part of the recording, and the recording's size and time of change (of audio in
memory, by its SHA-256; inside of a tar or table, by its place and that file's; in an object store, by its place alone).
So no file is read that is stale, and where one recording changed, only that one is heard again.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import final
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32

from emonet.audio import shared_decoders
from emonet.baselines.features import FeatureSet
from emonet.clips import AudioCell, AudioRange, Clip, content_key
from emonet.errors import AudioError
from emonet.objects import is_url
from emonet.runtime import Progress, durable, ignore
from emonet.schema import digest

BATCH = 32  # clips that are measured at once
PART = 256  # new clips after which the file is written: what a run that is killed loses at most of a small table
SHARE = 8  # of a large one, an eighth of it, so that writing again what is there stays cheap
FORMAT = 1

Row = Float32[np.ndarray, " features"]


@final
class FeatureTable:
    """Features of one set, clip by clip; in memory, and in `FOLDER/NAME-5s.npz` where there is a folder.

    The window is in the file's name: what hears 5 s and what hears 30 s keep their features side by side.

    Args:
        features: what is measured.
        folder: where the file is; made when there is something to write. None keeps nothing.
        say: told in a sentence where the file cannot be used or written.
    """

    def __init__(
        self, features: FeatureSet, folder: Path | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._features, self._say = features, say
        self._path = None if folder is None else folder / f"{features.name}-{features.window.seconds:g}s.npz"
        self._about = {
            "format": FORMAT,
            "features": features.name,
            "version": features.version,
            "seconds": features.window.seconds,
        }
        self._rows: dict[str, tuple[str, Row]] = self._read()

    def of(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> list[Row | AudioError]:
        """Features of each clip, or why it cannot be used; those that are not known are measured, and kept.

        The file is written on the way, too: a run that was killed goes on with what it has.

        Args:
            clips: with unique ids.
            progress: called with the number of finished clips.
        """
        keys = {clip.id: _key(clip) for clip in clips}
        unknown = [clip for clip in clips if self._known(clip.id, keys[clip.id]) is None]
        done, unwritten, refused = len(clips) - len(unknown), 0, dict[str, AudioError]()
        progress(done, len(clips))
        measured = self._measured(unknown)
        while batch := list(islice(measured, BATCH)):
            for clip, found in batch:
                if isinstance(found, AudioError):
                    refused[clip.id] = found
                else:
                    self._rows[clip.id] = (keys[clip.id] or "", found)
                    unwritten += 1
            done += len(batch)
            progress(done, len(clips))
            if unwritten >= max(PART, len(self._rows) // SHARE):
                self._write()
                unwritten = 0
        if unwritten:
            self._write()
        return [refused.get(clip.id) or self._rows[clip.id][1] for clip in clips]

    def _known(self, name: str, key: str | None) -> Row | None:
        there, row = self._rows.get(name, (None, None))
        return row if key is not None and there == key else None

    def _measured(self, clips: Sequence[Clip]) -> Iterator[tuple[Clip, Row | AudioError]]:
        heard = (
            shared_decoders().decode(clips, seconds=self._features.window.seconds, ahead=BATCH) if clips else iter(())
        )
        for first in range(0, len(clips), BATCH):
            batch = list(islice(heard, BATCH))
            waves = [one.samples for one in batch if not isinstance(one, AudioError)]
            rows = iter(self._features.measure(waves) if waves else ())
            for clip, one in zip(clips[first : first + BATCH], batch, strict=True):
                yield clip, one if isinstance(one, AudioError) else next(rows)

    def _read(self) -> dict[str, tuple[str, Row]]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            with self._path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                ids, keys, values = (file[name] for name in ("ids", "keys", "values"))
            if not len(ids) == len(keys) == len(values) or values.ndim != 2:
                raise ValueError("columns of different lengths")
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
            self._say(f"{self._path} is damaged ({error}); its features are measured anew")
            return {}
        if about != self._about:
            self._say(f"{self._path} is of another version; its features are measured anew")
            return {}
        return dict(
            zip(ids.tolist(), zip(keys.tolist(), values.astype(np.float32, copy=False), strict=True), strict=True)
        )

    def _write(self) -> None:
        kept = {name: (key, row) for name, (key, row) in self._rows.items() if key}
        if self._path is None or not kept:
            return
        content = io.BytesIO()
        keys, rows = zip(*kept.values(), strict=True)
        np.savez(content, about=json.dumps(self._about), ids=[*kept], keys=keys, values=np.stack(rows))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            durable.write(self._path, content.getvalue())
        except OSError as error:
            self._say(f"features of baselines are not kept: {self._path} cannot be written ({error.strerror or error})")
            self._path = None  # said once


def _key(clip: Clip) -> str | None:
    """What tells the sound of a clip from what else it might be; None where its file is not there."""
    if isinstance(clip.audio, bytes):
        return digest([content_key(clip.audio), clip.start, clip.end])
    file: Path | str | AudioRange | AudioCell = clip.audio
    audio = list[object]()
    if isinstance(file, AudioRange | AudioCell):
        audio = [*astuple(file)]
        file = file.location
    if not is_url(file):  # of objects nobody knows when they changed
        try:
            found = Path(file).stat()
        except OSError:
            return None
        audio += [found.st_size, found.st_mtime_ns]
    return digest([audio, clip.start, clip.end])
